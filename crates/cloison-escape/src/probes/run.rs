//! Probes in real sandboxes.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_sandbox::{
    IdRange, Io, Kernel, Layer, Plan, Prepared, SandboxName, Spec, Streams, Waivers,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{ProbeError, canary, canary_errno};
use super::{Attempted, Liveness, Outcome, Probe, Reach, Scene, Verdict, Way};

/// How long one attempt may take in one sandbox.
const LIMIT: Duration = Duration::from_secs(60);
/// The first id of the sandboxes: the start of what systemd's table of ids
/// leaves free.
const FIRST_ID: u32 = 1_879_048_192;

/// Runs probes. On a stage only: a control lets its attacker out.
#[derive(Debug)]
pub struct Runner<'a> {
    kernel: &'a Kernel,
    waivers: &'a Waivers,
    spec: Spec,
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

    /// Runs one probe: control, whole, each layer left out, each left alone.
    ///
    /// # Errors
    /// [`ProbeError`]: then it is not known whether it gets through.
    pub fn run(&self, probe: &'static Probe) -> Result<Outcome, ProbeError> {
        let scene = Scene::new(probe)?;
        let outcome = self.run_on(probe, &scene);
        let ended = scene.end();
        let outcome = outcome?;
        ended?;
        Ok(outcome)
    }

    fn run_on(&self, probe: &'static Probe, scene: &Scene) -> Result<Outcome, ProbeError> {
        let control = self.attempt(probe, scene, probe.control.without)?;
        let whole = self.attempt(probe, scene, &[])?;
        let mut left_out = Vec::new();
        let mut left_alone = Vec::new();
        for layer in probe.layers.iter().copied() {
            let attempted = self.attempt(probe, scene, &[layer])?;
            let unexcused = attempted
                .with(Verdict::Through)
                .filter(|way| !probe.is_excepted(layer, &way.name));
            left_out.push((layer, Reach::of(unexcused)));
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
            ways: control.ways.len(),
            silent: silent(&control),
            left_out,
            left_alone,
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
        let (output, io) = streams(scene)?;
        let prepared = Prepared::new(&spec).map_err(sandbox)?;
        let (kernel, waivers) = (self.kernel, self.waivers);
        let plan =
            Plan::weakened(&spec, kernel, waivers, prepared, io, weakenings).map_err(sandbox)?;
        let held = if probe.canary.is_inherited() {
            plan.hold_directly()
        } else {
            plan.hold()
        }
        .map_err(sandbox)?;
        let mut started = held.start().map_err(sandbox)?;
        let said = read_within(output, LIMIT)?;
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
        confirm(scene, attempted, without)
    }
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
    }
}

/// A pipe for what the program says.
fn streams(scene: &Scene) -> Result<(PipeReader, Io), ProbeError> {
    let what = "making a pipe";
    let (output, input) = std::io::pipe().map_err(canary(what))?;
    let stdout = OwnedFd::from(input);
    let stderr = stdout.try_clone().map_err(canary(what))?;
    let streams = Streams::Descriptors {
        stdin: scene.input()?,
        stdout,
        stderr,
    };
    let sockets = Vec::new();
    Ok((output, Io { streams, sockets }))
}

/// All that is written until the last writer is gone; `None` if one stays.
fn read_within(output: PipeReader, limit: Duration) -> Result<Option<String>, ProbeError> {
    let mut output = File::from(OwnedFd::from(output));
    let end = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut readable = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut readable, timeout).map_err(canary_errno("waiting for output"))? == 0 {
            return Ok(None);
        }
        match output.read(&mut piece).map_err(canary("reading output"))? {
            0 => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            count => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
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

/// Compares what the program says with what its canary saw, and refuses an
/// answer in which nothing got through but not everything was tried.
fn confirm(
    scene: &Scene,
    mut attempted: Attempted,
    without: &[Layer],
) -> Result<Attempted, ProbeError> {
    let says_through = attempted.with(Verdict::Through).next().is_some();
    match scene.was_reached()? {
        Some(true) if !says_through => attempted.ways.push(Way {
            name: "canary".to_owned(),
            verdict: Verdict::Through,
            text: "the canary was reached, which the program did not notice".to_owned(),
        }),
        Some(false) if attempted.with(Verdict::Through).any(leaves_a_trace) => {
            return Err(ProbeError::Contradicted {
                without: without.to_vec(),
            });
        }
        _ => {}
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

/// Whether a victim notes this way: a signal, bytes in its terminal.
fn leaves_a_trace(way: &Way) -> bool {
    ["kill", "tgkill", "pidfd_send_signal"].contains(&way.name.as_str())
        || ["push-", "acquire-"]
            .iter()
            .any(|start| way.name.starts_with(start))
}
