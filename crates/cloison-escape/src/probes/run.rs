//! Probes in real sandboxes.

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Held, IdRange, Io, Kernel, Layer, LayerVerdict, Plan, Prepared, Proc, SandboxName, Spec,
    Streams, Sysfs, Waivers, Weakening, spawner_pid,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::around;
use super::error::{ProbeError, canary, canary_errno};
use super::victims::Executed;
use super::watch::Watch;
use super::{Attempted, Liveness, Outcome, Probe, Reach, Scene, Verdict, Way};

/// How long one attempt may take in one sandbox.
const LIMIT: Duration = Duration::from_secs(60);
/// The first id of the sandboxes: the start of what systemd's table of ids
/// leaves free.
const FIRST_ID: u32 = 1_879_048_192;

/// In how many sandboxes a probe is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sweep {
    /// Control, whole, whole with more to see, each layer left out, each left
    /// alone.
    #[default]
    Full,
    /// Control, whole, whole with more to see: what one kernel does otherwise
    /// than another shows there, and the layers' second lines are proved
    /// elsewhere.
    WithoutKnockOuts,
}

/// Runs probes. On a stage only: a control lets its attacker out.
#[derive(Debug)]
pub struct Runner<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) waivers: &'a Waivers,
    /// What all have in common.
    pub(super) spec: Spec,
}

impl<'a> Runner<'a> {
    /// A runner for this kernel. Layers that the kernel lacks must be waived.
    ///
    /// # Errors
    /// [`ProbeError::Ids`], [`ProbeError::Name`].
    pub fn new(kernel: &'a Kernel, waivers: &'a Waivers) -> Result<Self, ProbeError> {
        Ok(Self {
            kernel,
            waivers,
            spec: base(SandboxName::new("probe")?, IdRange::new(FIRST_ID)?),
        })
    }

    /// Runs one probe in all sandboxes of `sweep`.
    ///
    /// # Errors
    /// [`ProbeError`]: then it is not known whether it gets through.
    pub fn run(&self, probe: &'static Probe, sweep: Sweep) -> Result<Outcome, ProbeError> {
        let scene = Scene::new(probe)?;
        let outcome = self.run_on(probe, &scene, sweep);
        let ended = scene.end();
        let outcome = outcome?;
        ended?;
        Ok(outcome)
    }

    /// The same, whose sandboxes show as much of the kernel as a spec may ask.
    fn showing_more(&self) -> Self {
        let mut spec = self.spec.clone();
        spec.proc = Proc::Covered;
        spec.sysfs = Sysfs::ReadOnly;
        Self { spec, ..*self }
    }

    fn run_on(
        &self,
        probe: &'static Probe,
        scene: &Scene,
        sweep: Sweep,
    ) -> Result<Outcome, ProbeError> {
        let control = self.attempt(probe, scene, probe.control.without)?;
        let whole = self.attempt(probe, scene, &[])?;
        let open = self.showing_more().attempt(probe, scene, &[])?;
        let mut left_out = Vec::new();
        let mut left_alone = Vec::new();
        let (had, lacking): (Vec<Layer>, Vec<Layer>) =
            probe.layers.iter().copied().partition(|layer| {
                self.kernel.verdict(*layer, self.waivers) == LayerVerdict::Applied
            });
        let knocked_out = match sweep {
            Sweep::Full => had.as_slice(),
            Sweep::WithoutKnockOuts => &[],
        };
        for layer in knocked_out.iter().copied() {
            // Where this host lacks all others, none is there to stop it.
            if had.len() > 1 || lacking.is_empty() {
                let attempted = self.attempt(probe, scene, &[layer])?;
                let unexcused = attempted
                    .with(Verdict::Through)
                    .filter(|way| !probe.is_excepted(layer, &way.name));
                left_out.push((layer, Reach::of(unexcused)));
            }
            let others: Vec<Layer> = probe
                .control
                .without
                .iter()
                .copied()
                .filter(|other| *other != layer)
                .collect();
            let attempted = self.attempt(probe, scene, &others)?;
            left_alone.push((layer, stopped_of(&control, &attempted)));
        }
        Ok(Outcome {
            probe,
            control: Liveness::of(&control),
            whole: Reach::of(whole.with(Verdict::Through)),
            open: Reach::of(open.with(Verdict::Through)),
            ways: control.ways.len(),
            silent: silent(&control),
            left_out,
            left_alone,
            lacking,
        })
    }

    /// Tries `probe` once, in a sandbox without some layers.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn attempt(
        &self,
        probe: &Probe,
        scene: &Scene,
        without: &[Layer],
    ) -> Result<Attempted, ProbeError> {
        if probe.canary.is_around() {
            return around::attempt(self, probe, scene, without);
        }
        let sandbox = |source| ProbeError::Sandbox {
            without: without.to_vec(),
            source: Box::new(source),
        };
        let mut spec = self.spec.clone();
        scene.describe(&mut spec);
        let mut weakenings = Vec::new();
        for layer in without {
            weakenings.extend(scene.weaken(*layer)?);
        }
        scene.set_back()?;
        let child = if scene.has_child() {
            Some(self.child(scene, without)?)
        } else {
            None
        };
        spec.command.extend(child.iter().flat_map(words_of));
        let (conversation, io) = streams(scene)?;
        let mut prepared = Prepared::new(&spec).map_err(sandbox)?;
        prepared.exec = scene.listener()?;
        let (kernel, waivers) = (self.kernel, self.waivers);
        let plan =
            Plan::weakened(&spec, kernel, waivers, prepared, io, weakenings).map_err(sandbox)?;
        let held = if probe.canary.is_inherited() {
            plan.hold_directly()
        } else {
            plan.hold()
        }
        .map_err(sandbox)?;
        let mut watch = Watch::begin(scene, held.pid(), child.as_ref().map(Held::pid));
        let mut started = held.start().map_err(sandbox)?;
        let executed = scene.execute(&started)?;
        if let Some(pid) = executed.as_ref().and_then(Executed::pid) {
            watch.aim_inside("exec-", pid)?;
        }
        let said = conversation.follow(&mut watch, LIMIT)?;
        let Some(said) = said else {
            started.remove().map_err(sandbox)?;
            return Err(ProbeError::Deadline {
                without: without.to_vec(),
                limit_s: LIMIT.as_secs(),
            });
        };
        let status = started.wait().map_err(sandbox)?;
        started.remove().map_err(sandbox)?;
        let attempted =
            Attempted::parse(&said, status.code()).map_err(|source| ProbeError::Malformed {
                without: without.to_vec(),
                source,
            })?;
        confirm(&watch, attempted, without)
    }

    /// Another launch, held before it executes: by the caller itself, whose
    /// memory the child has a copy of.
    fn child(&self, scene: &Scene, without: &[Layer]) -> Result<Held, ProbeError> {
        let sandbox = |source| ProbeError::Sandbox {
            without: without.to_vec(),
            source: Box::new(source),
        };
        let mut spec = self.spec.clone();
        scene.describe(&mut spec);
        spec.name = SandboxName::new("probe-child")?;
        let weakenings = without.iter().map(|layer| Weakening::Without(*layer));
        let prepared = Prepared::new(&spec).map_err(sandbox)?;
        let io = Io::null().map_err(sandbox)?;
        let (kernel, waivers) = (self.kernel, self.waivers);
        Plan::weakened(&spec, kernel, waivers, prepared, io, weakenings.collect())
            .and_then(Plan::hold_directly)
            .map_err(sandbox)
    }
}

/// What the program is told of the launcher and of a child of its.
fn words_of(child: &Held) -> [String; 3] {
    [
        format!("child={}", child.pid()),
        format!("spawner={}", spawner_pid().unwrap_or(0)),
        format!("caller={}", std::process::id()),
    ]
}

/// The parts of the spec that all probes share.
fn base(name: SandboxName, ids: IdRange) -> Spec {
    Spec {
        name,
        ids: Some(ids),
        profile: Default::default(),
        root: Default::default(),
        command: Vec::new(),
        environment: Default::default(),
        working_directory: "/".into(),
        user: 0,
        group: 0,
        init: Default::default(),
        proc: Default::default(),
        sysfs: Default::default(),
        tcp: Default::default(),
        capabilities: Default::default(),
        mounts: Vec::new(),
        tmpfs: Default::default(),
        limits: Default::default(),
        cgroup: Default::default(),
    }
}

/// What the program says, and the way to let it go on.
struct Conversation {
    output: File,
    answers: Option<PipeWriter>,
}

/// Pipes to talk with the program.
fn streams(scene: &Scene) -> Result<(Conversation, Io), ProbeError> {
    let what = "making a pipe";
    let (output, input) = std::io::pipe().map_err(canary(what))?;
    let stdout = OwnedFd::from(input);
    let stderr = stdout.try_clone().map_err(canary(what))?;
    let (stdin, answers) = match scene.input() {
        Some(input) => (input?, None),
        None => {
            let (hears, answers) = std::io::pipe().map_err(canary(what))?;
            (hears.into(), Some(answers))
        }
    };
    let streams = Streams::Descriptors {
        stdin,
        stdout,
        stderr,
    };
    let sockets = Vec::new();
    let output = File::from(OwnedFd::from(output));
    Ok((Conversation { output, answers }, Io { streams, sockets }))
}

impl Conversation {
    /// All that is written until the last writer is gone; `None` if one stays.
    /// Who holds still is looked at and let go.
    fn follow(
        mut self,
        watch: &mut Watch<'_>,
        limit: Duration,
    ) -> Result<Option<String>, ProbeError> {
        let end = Instant::now() + limit;
        let mut bytes = Vec::new();
        let mut looked = 0;
        let mut piece = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut readable = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            if poll(&mut readable, timeout).map_err(canary_errno("waiting for output"))? == 0 {
                return Ok(None);
            }
            match self
                .output
                .read(&mut piece)
                .map_err(canary("reading output"))?
            {
                0 => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
                count => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            }
            while let Some(line) = next_line(&bytes, &mut looked) {
                let Some((pid, way)) = holding(&line) else {
                    continue;
                };
                let answer = if watch.look(way, pid)? { b"!" } else { b"." };
                if let Some(answers) = &mut self.answers {
                    // A program that is gone says so by its exit.
                    match answers.write_all(answer) {
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
    }
}

/// The next whole line from `looked` on.
fn next_line(bytes: &[u8], looked: &mut usize) -> Option<String> {
    let rest = bytes.get(*looked..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    *looked += end + 1;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// A line of a process that holds still: `holding PID WAY`.
fn holding(line: &str) -> Option<(i32, &str)> {
    let (pid, way) = line.strip_prefix("holding ")?.split_once(' ')?;
    Some((pid.parse().ok()?, way))
}

fn silent(control: &Attempted) -> Vec<Way> {
    let is_shut = |way: &&Way| way.verdict != Verdict::Through;
    control.ways.iter().filter(is_shut).cloned().collect()
}

/// How many of the ways that `control` found open are stopped here.
fn stopped_of(control: &Attempted, here: &Attempted) -> usize {
    control
        .with(Verdict::Through)
        .filter_map(|way| here.way(&way.name))
        .filter(|way| way.verdict == Verdict::Stopped)
        .count()
}

/// Compares what the program says with what was seen, and refuses an answer in
/// which nothing got through but not everything was tried.
fn confirm(
    watch: &Watch<'_>,
    attempted: Attempted,
    without: &[Layer],
) -> Result<Attempted, ProbeError> {
    let ways = watch.contradictions(&attempted)?;
    if !ways.is_empty() {
        return Err(ProbeError::Contradicted {
            without: without.to_vec(),
            ways,
        });
    }
    let says_through = attempted.with(Verdict::Through).next().is_some();
    let untried: Vec<String> = attempted
        .with(Verdict::Untried)
        .map(|way| format!("{}: {}", way.name, way.text))
        .collect();
    if !says_through && !untried.is_empty() {
        return Err(ProbeError::Untried {
            without: without.to_vec(),
            ways: untried,
        });
    }
    Ok(attempted)
}
