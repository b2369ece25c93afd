//! A caller of the library that launches one sandbox, for the fault tool: it
//! removes what an earlier one of the same name left, launches, and says in one
//! line what came of it.
//!
//! Phases: 1 from nothing to started, 2 while it runs, 3 until it is removed,
//! 4 afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use cloison_sandbox::{
    Cgroup, CgroupError, Error, ExitStatus, Hierarchies, IdRange, Init, Io, Kernel, Layer,
    NetworkNamespace, Plan, Posture, Prepared, Sandbox, SandboxName, Spec, Streams, Waivers,
    spawner_pid,
};
use cloison_tests::fault::mark;

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;
/// Says that it runs, then waits for a line.
const COMMAND: [&str; 3] = ["/usr/bin/sh", "-c", "echo ran; read line"];

/// What it does beside: all but the first are faults for the tests to catch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    Good,
    KeepsADescriptor,
    LeavesACgroup,
    LeavesAProcess,
    IgnoresAFailure,
    Hangs,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, canary, init, habit] = arguments.as_slice() else {
        panic!("usage: fault_caller NAME CANARY on|off HABIT");
    };
    let name = SandboxName::new(name).unwrap();
    let habit = match habit.as_str() {
        "good" => Habit::Good,
        "keeps-a-descriptor" => Habit::KeepsADescriptor,
        "leaves-a-cgroup" => Habit::LeavesACgroup,
        "leaves-a-process" => Habit::LeavesAProcess,
        "ignores-a-failure" => Habit::IgnoresAFailure,
        "hangs" => Habit::Hangs,
        other => panic!("no such habit: {other}"),
    };
    sweep(&name);
    let canary = File::create(canary).unwrap();
    let command = COMMAND.map(str::to_owned).to_vec();
    let mut spec = Spec::new(name.clone(), command);
    spec.ids = IdRange::new(IDS).ok();
    spec.init = if init == "on" { Init::On } else { Init::Off };
    let before = descriptors(std::process::id());

    let ended = launch(&spec, &canary, habit);
    mark(4);
    if ended.is_err() {
        misbehave(habit, &name);
    }
    drop(canary);
    // The spawner's socket is the process's own, and stays.
    let spawner = spawner_pid().filter(|pid| alive(*pid));
    let after = descriptors(std::process::id()) + 1 - usize::from(spawner.is_some());
    let told = match &ended {
        Ok(launched) => serde_json::json!({
            "posture": launched.held,
            "running": launched.running,
            "status": format!("{:?}", launched.status),
        }),
        Err(failed) => serde_json::json!({
            "error": failed.text,
            "shape": failed.shape,
            "started": failed.is_started,
        }),
    };
    println!("{told}");
    let kept = after.cast_signed() - before.cast_signed();
    let spawners = spawner.map(settled_descriptors);
    let steps = steps(&spec);
    println!(
        "{}",
        serde_json::json!({ "kept": kept, "spawners": spawners, "steps": steps })
    );
}

/// A launch that did all it should.
struct Launched {
    held: Posture,
    running: Posture,
    status: ExitStatus,
}

/// Why a launch failed.
struct Failed {
    text: String,
    shape: String,
    /// Whether the command was running by then.
    is_started: bool,
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self {
            text,
            shape: format!("{error:?}"),
            is_started: false,
        }
    }
}

/// What an earlier caller of this name left, it had no time to remove.
fn sweep(name: &SandboxName) {
    let hierarchies = Hierarchies::find().unwrap();
    match Cgroup::take_over(&hierarchies, name) {
        Ok(mut left) => {
            left.kill().unwrap();
            left.remove().unwrap();
        }
        Err(CgroupError::Absent { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}

fn launch(spec: &Spec, canary: &File, habit: Habit) -> Result<Launched, Failed> {
    let (ours, theirs) = std::io::pipe().unwrap();
    let canary: OwnedFd = canary.try_clone().unwrap().into();
    let errors = canary.try_clone().unwrap();
    mark(1);
    if habit == Habit::IgnoresAFailure {
        // What a careless program does.
        let _ignored = nix::unistd::chdir("/tmp");
    }
    let held = plan(spec, [ours.into(), canary, errors])?.hold()?;
    let posture = held.posture().clone();
    let sandbox = held.start()?;
    mark(2);
    if habit == Habit::Hangs {
        loop {
            std::thread::park();
        }
    }
    let running = sandbox.inspect();
    mark(3);
    let ended = end(sandbox, theirs);
    let ended = ended.and_then(|status| Ok((running?, status)));
    let (running, status) = ended.map_err(|error| Failed {
        is_started: true,
        ..error.into()
    })?;
    Ok(Launched {
        held: posture,
        running,
        status,
    })
}

fn plan(spec: &Spec, [stdin, stdout, stderr]: [OwnedFd; 3]) -> Result<Plan, Failed> {
    let kernel = Kernel::assume()?;
    let mut waivers = Waivers::none();
    for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
        waivers
            .waive(layer, "the tests say what this host lacks")
            .unwrap();
    }
    let prepared = Prepared::with_network(spec, NetworkNamespace::create()?)?;
    let io = Io {
        streams: Streams::Descriptors {
            stdin,
            stdout,
            stderr,
        },
        sockets: Vec::new(),
    };
    Ok(Plan::new(spec, &kernel, &waivers, prepared, io)?)
}

/// The steps of such a plan, each with its layer.
fn steps(spec: &Spec) -> Vec<(Option<&'static str>, &'static str)> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let streams = [(); 3].map(|()| null().unwrap().into());
    let Ok(plan) = plan(spec, streams) else {
        return Vec::new();
    };
    let steps = plan.steps().into_iter();
    steps
        .map(|(layer, step)| (layer.map(Layer::name), step))
        .collect()
}

fn end(mut sandbox: Sandbox, mut input: impl Write) -> Result<ExitStatus, Error> {
    // An error: it has ended already, and its status says how.
    let _told = input.write_all(b"\n");
    drop(input);
    let waited = sandbox.wait();
    // Whatever happened, it is taken away.
    sandbox.remove()?;
    waited
}

fn misbehave(habit: Habit, name: &SandboxName) {
    match habit {
        Habit::Good | Habit::IgnoresAFailure | Habit::Hangs => {}
        Habit::KeepsADescriptor => std::mem::forget(File::open("/dev/null").unwrap()),
        Habit::LeavesACgroup => {
            let hierarchies = Hierarchies::find().unwrap();
            std::mem::forget(Cgroup::create(&hierarchies, name).unwrap());
        }
        Habit::LeavesAProcess => {
            let sleep = std::process::Command::new("sleep").arg("600").spawn();
            drop(sleep.unwrap());
        }
    }
}

fn descriptors(pid: u32) -> usize {
    // One that has ended has none.
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// The descriptors of the spawner once it has let go of what has ended.
fn settled_descriptors(pid: u32) -> usize {
    let mut found = descriptors(pid);
    for _ in 0..500 {
        // Its socket, two times nothing, what it watches.
        if found <= 4 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        found = descriptors(pid);
    }
    found
}
