//! Probes that no program inside tries: the runner looks at a launch from
//! outside, made by an odd caller, or at what is left after a stop.
//!
//! An odd caller is this very program, started again by the attempt in the
//! role that makes it odd, with its part in an environment variable: state of
//! a process is not changed and set back while others depend on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    ExitStatus, Feature, Held, Init, Io, Kernel, Layer, LayerVerdict, Plan, Prepared, Spec,
    Streams, Waivers, Weakening,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::attempted::{Verdict, Way};
use super::error::{ProbeError, canary};
use super::outside::{self, Process};
use super::run::Runner;
use super::victims::said_by;
use super::{Attempted, Canary, PROBES, Probe, Scene};

/// The part of a process that was started to be an odd caller.
const CALLER: &str = "CLOISON_PROBE_CALLER";

/// One launch that is looked at.
struct Launch<'a> {
    kernel: &'a Kernel,
    waivers: &'a Waivers,
    spec: Spec,
    without: &'a [Layer],
    /// Whether the caller has left something open.
    leaks: bool,
}

impl Launch<'_> {
    fn sandbox_failed(&self) -> impl Fn(cloison_sandbox::Error) -> ProbeError {
        let without = self.without.to_vec();
        move |source| ProbeError::Sandbox {
            without: without.clone(),
            source: Box::new(source),
        }
    }

    fn plan(&self, io: Io) -> Result<Plan, ProbeError> {
        let mut weakenings: Vec<Weakening> = self
            .without
            .iter()
            .map(|layer| Weakening::Without(*layer))
            .collect();
        if self.leaks && self.without.contains(&Layer::Descriptors) {
            let left = File::open(format!("/proc/self/{LEFT_OPEN}"));
            let left = left.map_err(canary("opening what was left open"))?;
            weakenings.push(Weakening::Leak(left.into()));
        }
        let failed = self.sandbox_failed();
        let prepared = Prepared::new(&self.spec).map_err(&failed)?;
        let (kernel, waivers) = (self.kernel, self.waivers);
        Plan::weakened(&self.spec, kernel, waivers, prepared, io, weakenings).map_err(failed)
    }

    /// Held by this process itself, without a spawner between.
    fn hold(&self) -> Result<Held, ProbeError> {
        let failed = self.sandbox_failed();
        let io = Io::null().map_err(&failed)?;
        self.plan(io)?.hold_directly().map_err(failed)
    }
}

/// Tries `probe` once.
pub(super) fn attempt(
    runner: &Runner<'_>,
    probe: &Probe,
    scene: &Scene,
    without: &[Layer],
) -> Result<Attempted, ProbeError> {
    if probe.canary != Canary::Outlived {
        return by_an_odd_caller(runner, probe, scene, without);
    }
    let mut spec = runner.spec.clone();
    scene.describe(&mut spec);
    spec.command = vec!["/attempt".to_owned(), "daemons".to_owned()];
    let launch = Launch {
        kernel: runner.kernel,
        waivers: runner.waivers,
        spec,
        without,
        leaks: false,
    };
    outlive(&launch)
}

/// The processes that want to outlive a stop, by the names that they give
/// themselves.
const DAEMONS: [&str; 6] = [
    "cl-child",
    "cl-session",
    "cl-orphan",
    "cl-deaf",
    "cl-stopped",
    "cl-runaway",
];
const APPEAR_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Starts them, sees each of them, removes the sandbox, and looks again.
fn outlive(launch: &Launch<'_>) -> Result<Attempted, ProbeError> {
    let what = "making a pipe";
    let failed = launch.sandbox_failed();
    let (hears, stdin) = std::io::pipe().map_err(canary(what))?;
    let (says, stdout) = std::io::pipe().map_err(canary(what))?;
    let stdout = OwnedFd::from(stdout);
    let streams = Streams::Descriptors {
        stdin: hears.into(),
        stderr: stdout.try_clone().map_err(canary(what))?,
        stdout,
    };
    let sockets = Vec::new();
    let held = launch
        .plan(Io { streams, sockets })?
        .hold()
        .map_err(&failed)?;
    let sandbox = held.start().map_err(&failed)?;
    let mut line = String::new();
    BufReader::new(says)
        .read_line(&mut line)
        .map_err(canary("reading what the daemons say"))?;
    let end = Instant::now() + APPEAR_WITHIN;
    let mut seen = running()?;
    while seen.len() < DAEMONS.len() && Instant::now() < end {
        thread::sleep(PAUSE);
        seen = running()?;
    }
    sandbox.remove().map_err(failed)?;
    let left = running()?;
    drop(stdin);
    let ways = DAEMONS.iter().map(|name| {
        let (verdict, text) = match (seen.get(name), left.get(name)) {
            (None, _) => (Verdict::Untried, "it was never there"),
            (Some(_), Some(_)) => (Verdict::Through, "it lives on"),
            (Some(_), None) => (Verdict::Stopped, "it is gone"),
        };
        way(name.trim_start_matches("cl-"), verdict, text)
    });
    let attempted = Attempted {
        ways: ways.collect(),
    };
    end_all()?;
    Ok(attempted)
}

fn way(name: &str, verdict: Verdict, text: &str) -> Way {
    Way {
        name: name.to_owned(),
        verdict,
        text: text.to_owned(),
    }
}

/// Those that live now, by name. One that runs away is looked for more than
/// once: its number changes between a listing and a look.
fn running() -> Result<BTreeMap<&'static str, Process>, ProbeError> {
    let mut found = BTreeMap::new();
    for _ in 0..20 {
        for process in outside::all().map_err(canary("listing processes"))? {
            let name = process.text("comm").unwrap_or_default();
            let known = DAEMONS.iter().find(|known| **known == name.trim());
            let is_zombie = process.stat(3).is_ok_and(|state| state == "Z");
            if let (Some(known), false) = (known, is_zombie) {
                found.insert(*known, process);
            }
        }
        if found.len() == DAEMONS.len() {
            break;
        }
    }
    Ok(found)
}

/// Ends those that a control left; one that runs away needs several tries.
fn end_all() -> Result<(), ProbeError> {
    let end = Instant::now() + APPEAR_WITHIN;
    loop {
        let left = running()?;
        if left.is_empty() {
            return Ok(());
        }
        for process in left.into_values() {
            let pid = Pid::from_raw(process.0);
            // It may be gone, or another one by now of the same name.
            if kill(pid, Signal::SIGKILL).is_ok() {
                // Reaped by the stage, or a child of this very process.
                let _reaped = waitpid(pid, None);
            }
        }
        if Instant::now() > end {
            return Err(ProbeError::Role {
                role: "daemons",
                said: "they cannot be ended".to_owned(),
            });
        }
    }
}

fn by_an_odd_caller(
    runner: &Runner<'_>,
    probe: &Probe,
    scene: &Scene,
    without: &[Layer],
) -> Result<Attempted, ProbeError> {
    let listed = |layers: &mut dyn Iterator<Item = Layer>| {
        let names: Vec<&str> = layers.map(Layer::name).collect();
        names.join(",")
    };
    let is_waived = |layer: &Layer| {
        matches!(
            runner.kernel.verdict(*layer, runner.waivers),
            LayerVerdict::Waived(_)
        )
    };
    let part = format!(
        "{};{};{}",
        probe.id,
        listed(&mut without.iter().copied()),
        listed(&mut Layer::ALL.into_iter().filter(is_waived)),
    );
    let careless = (probe.canary == Canary::Careless).then_some("careless=1");
    let output = Command::new(scene.program())
        .arg("odd")
        .args(careless)
        .args(["--", &format!("/proc/{}/exe", std::process::id())])
        .env(CALLER, part)
        .output()
        .map_err(canary("starting an odd caller"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    Attempted::parse(&said, output.status.code()).map_err(|source| ProbeError::Malformed {
        without: without.to_vec(),
        source,
    })
}

/// Plays the part of an odd caller, if this process was started for that:
/// then its exit code. Call it first thing in the `main` of what runs probes.
#[must_use]
pub fn as_odd_caller() -> Option<ExitCode> {
    let part = std::env::var(CALLER).ok()?;
    let ways = match play(&part) {
        Ok(ways) => ways,
        Err(error) => {
            println!("untried all: {}", format!("{error:?}").escape_default());
            return Some(ExitCode::from(20));
        }
    };
    for way in &ways {
        let word = match way.verdict {
            Verdict::Through => "through",
            Verdict::Stopped => "stopped",
            Verdict::Absent => "absent",
            Verdict::Untried => "untried",
        };
        println!("{word} {}: {}", way.name, way.text.escape_default());
    }
    let has = |verdict| ways.iter().any(|way| way.verdict == verdict);
    Some(ExitCode::from(if has(Verdict::Through) {
        10
    } else if has(Verdict::Untried) || !has(Verdict::Stopped) {
        20
    } else {
        0
    }))
}

fn play(part: &str) -> Result<Vec<Way>, ProbeError> {
    let unknown = || ProbeError::Role {
        role: "odd caller",
        said: part.to_owned(),
    };
    let mut words = part.split(';');
    let id = words.next().ok_or_else(unknown)?;
    let probe = PROBES.into_iter().find(|probe| probe.id == id);
    let probe = probe.ok_or_else(unknown)?;
    let mut layers = || -> Option<Vec<Layer>> {
        let names = words.next()?.split(',').filter(|name| !name.is_empty());
        names
            .map(|name| Layer::ALL.into_iter().find(|layer| layer.name() == name))
            .collect()
    };
    let without = layers().ok_or_else(unknown)?;
    let waived = layers().ok_or_else(unknown)?;
    let mut waivers = Waivers::none();
    for layer in waived {
        let waived = waivers.waive(layer, "as whoever started this says");
        waived.map_err(|_| unknown())?;
    }
    let kernel = Kernel::probe().map_err(|_| unknown())?;
    let runner = Runner::new(&kernel, &waivers)?;
    // What the scene makes is for others to read.
    let odd = umask(Mode::from_bits_truncate(0o022));
    let scene = Scene::new(probe)?;
    umask(odd);
    let mut spec = runner.spec.clone();
    scene.describe(&mut spec);
    spec.init = Init::Off;
    let launch = Launch {
        kernel: &kernel,
        waivers: &waivers,
        spec,
        without: &without,
        leaks: probe.canary == Canary::Careless,
    };
    let ways = match probe.canary {
        Canary::Careless => carelessness(launch),
        _ => inheritance(&launch, &scene),
    };
    let ended = scene.end();
    let ways = ways?;
    ended?;
    Ok(ways)
}

/// What is inherited unless it is set back: its name, and how the plan sets
/// it.
const STATES: [(&str, &str); 11] = [
    ("umask", "0022"),
    ("nice", "0"),
    ("scheduler", "0"),
    ("io-priority", "0"),
    ("affinity", ""),
    ("memory-policy", "default"),
    ("personality", "00000000"),
    ("groups", ""),
    ("oom-score", "500"),
    ("signals-blocked", "0000000000000000"),
    ("signals-ignored", "0000000000000000"),
];

fn inheritance(launch: &Launch<'_>, scene: &Scene) -> Result<Vec<Way>, ProbeError> {
    let own = states(Process(Pid::this().as_raw()), scene)?;
    let held = launch.hold()?;
    let child = states(Process(held.pid().as_raw()), scene)?;
    drop(held);
    let look = |(name, planned): (&str, &str)| {
        let value = |of: &BTreeMap<&str, String>| of.get(name).cloned().unwrap_or_default();
        let (own, child) = (value(&own), value(&child));
        let is_odd = own != planned && !own.is_empty();
        let verdict = match (is_odd, own == child) {
            (false, _) => Verdict::Untried,
            (true, true) => Verdict::Through,
            (true, false) => Verdict::Stopped,
        };
        way(
            name,
            verdict,
            &format!("{child}, where the caller has {own}"),
        )
    };
    Ok(STATES.into_iter().map(look).collect())
}

/// The inherited states of a process. One that cannot be read is an error:
/// nothing would be known of it.
fn states(process: Process, scene: &Scene) -> Result<BTreeMap<&'static str, String>, ProbeError> {
    let what = "reading a state";
    let missing = || canary(what)(std::io::Error::from(std::io::ErrorKind::NotFound));
    let field = |name: &str| process.field(name).ok_or_else(missing);
    let entry = |name: &str| process.text(name).map_err(canary(what));
    let asked = said_by(
        scene.program().as_path(),
        "io-priority",
        &[format!("pid={}", process.0)],
    )?;
    let policies = entry("numa_maps")?;
    let policy = policies.split_whitespace().nth(1).ok_or_else(missing)?;
    let all = [
        ("umask", field("Umask")?),
        ("nice", process.stat(19).map_err(canary(what))?),
        ("scheduler", process.stat(41).map_err(canary(what))?),
        ("io-priority", asked.get("io").cloned().ok_or_else(missing)?),
        ("affinity", field("Cpus_allowed_list")?),
        ("memory-policy", policy.to_owned()),
        ("personality", entry("personality")?.trim().to_owned()),
        ("groups", field("Groups")?),
        ("oom-score", entry("oom_score_adj")?.trim().to_owned()),
        ("signals-blocked", field("SigBlk")?),
        ("signals-ignored", field("SigIgn")?),
    ];
    Ok(all.into_iter().collect())
}

/// The first of the descriptors that a careless caller leaves open.
const LEFT_OPEN: &str = "fd/2000";
/// The code that a command ends with.
const CODE: i32 = 20;

fn carelessness(launch: Launch<'_>) -> Result<Vec<Way>, ProbeError> {
    // Another thread waits for any child, as careless programs do.
    thread::spawn(|| {
        loop {
            if waitpid(None, None).is_err() {
                thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let held = launch.hold()?;
    let child = Process(held.pid().as_raw());
    let caller = Process(Pid::this().as_raw());
    let is_left_open = child
        .holds(caller, LEFT_OPEN)
        .map_err(canary("comparing descriptors"))?;
    let ignored = child.field("SigIgn").unwrap_or_default();
    let ignored = u64::from_str_radix(&ignored, 16).unwrap_or(u64::MAX);
    drop(held);
    let is_sigchld_ignored = ignored & 1 << (Signal::SIGCHLD as u64 - 1) != 0;
    let verdict = |is_through| match is_through {
        true => Verdict::Through,
        false => Verdict::Stopped,
    };
    let mut ways = vec![
        way(
            "descriptors",
            verdict(is_left_open),
            "one of three thousand is looked for",
        ),
        way(
            "ignored-sigchld",
            verdict(is_sigchld_ignored),
            &format!("it ignores {ignored:#x}"),
        ),
    ];
    // The program knows no such probe, and says so by its exit code.
    let launch = Launch {
        spec: Spec {
            command: vec!["/attempt".to_owned(), "none".to_owned()],
            ..launch.spec.clone()
        },
        ..launch
    };
    let failed = launch.sandbox_failed();
    let mut sandbox = launch.hold()?.start().map_err(&failed)?;
    let status = sandbox.wait().map_err(&failed)?;
    sandbox.remove().map_err(failed)?;
    let taken = match status {
        ExitStatus::Exited(CODE) => Verdict::Stopped,
        // Nobody can have it there: the launch says that it does not know.
        ExitStatus::Unknown if !launch.kernel.has(Feature::PidfdExitInfo) => Verdict::Absent,
        _ => Verdict::Through,
    };
    ways.push(way("status-taken", taken, &format!("{status:?}")));
    Ok(ways)
}
