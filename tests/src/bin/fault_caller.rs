//! A caller of the library that launches one sandbox, for the fault tool: it
//! removes what an earlier one of the same name left, launches, and says in one
//! line what came of it.
//!
//! With a folder that has a tenant's `tree`, a `state` and a place to `exec` in,
//! the sandbox is a rich one: it has the tree as its root, a layer on disk, a
//! covered proc, a sysfs and a terminal, and is asked for every verb.
//!
//! Phases: 1 from nothing to started, 2 while it runs, 3 until it is removed,
//! 4 afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cloison_sandbox::{
    Access, Cgroup, CgroupError, Exec, ExecListener, ExitStatus, Hierarchies, IdRange, Io, Kernel,
    Layer, Mount, NetworkNamespace, OwnAccess, OwnRoot, Plan, Posture, Prepared, Proc, Root,
    Sandbox, SandboxName, Spec, Stopped, Streams, Sysfs, Waivers, spawner_pid,
};
use cloison_tests::fault::mark;
use nix::sys::signal::Signal;

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;
/// Says that it runs, then waits for a line.
const COMMAND: [&str; 3] = ["/usr/bin/sh", "-c", "echo ran; read line"];
/// The same for one that has the canary at a place inside, and is stopped.
const RICH_COMMAND: [&str; 3] = ["/usr/bin/sh", "-c", "echo ran > /srv/canary; read line"];
/// Where a second command is asked for.
const SOCKET: &str = "exec/socket";
/// What is waited for takes no time.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let [name, canary, folder, habit] = arguments.as_slice() else {
        panic!("usage: fault_caller NAME CANARY -|FOLDER HABIT");
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
    let folder = (folder != "-").then_some(Path::new(folder));
    sweep(&name, folder);
    let canary_path = Path::new(canary);
    let canary = File::create(canary_path).unwrap();
    let command = COMMAND.map(str::to_owned).to_vec();
    let mut spec = Spec::new(name.clone(), command);
    spec.ids = IdRange::new(IDS).ok();
    if let Some(folder) = folder {
        enrich(&mut spec, folder, canary_path);
    }
    let before = descriptors(std::process::id());

    let ended = launch(&spec, folder, &canary, habit);
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
    let steps = steps(&spec, folder);
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
fn sweep(name: &SandboxName, folder: Option<&Path>) {
    if let Some(folder) = folder {
        // One that nobody listens on any more.
        match std::fs::remove_file(folder.join(SOCKET)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
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

/// Gives it all that a sandbox can have.
fn enrich(spec: &mut Spec, folder: &Path, canary: &Path) {
    // The sandbox's root is nobody there.
    std::fs::set_permissions(canary, std::fs::Permissions::from_mode(0o666)).unwrap();
    spec.command = RICH_COMMAND.map(str::to_owned).to_vec();
    spec.root = Root::Own(OwnRoot {
        path: folder.join("tree"),
        disk_ids: IdRange::new(IDS).unwrap(),
        access: OwnAccess::DiskLayer {
            path: folder.join("state"),
        },
    });
    let mounts = [
        ("/usr".as_ref(), "/usr", Access::ReadOnly),
        (canary, "/srv/canary", Access::ReadWrite),
    ];
    let mounts = mounts.map(|(source, target, access)| Mount {
        source: source.to_owned(),
        target: target.into(),
        access,
    });
    spec.mounts.extend(mounts);
    spec.proc = Proc::Covered;
    spec.sysfs = Sysfs::ReadOnly;
}

fn launch(
    spec: &Spec,
    folder: Option<&Path>,
    canary: &File,
    habit: Habit,
) -> Result<Launched, Failed> {
    let (ours, theirs) = std::io::pipe().unwrap();
    let canary: OwnedFd = canary.try_clone().unwrap().into();
    let errors = canary.try_clone().unwrap();
    mark(1);
    if habit == Habit::IgnoresAFailure {
        // What a careless program does.
        let _ignored = nix::unistd::chdir("/tmp");
    }
    let streams = match folder {
        Some(_) => Streams::Terminal,
        None => Streams::Descriptors {
            stdin: ours.into(),
            stdout: canary,
            stderr: errors,
        },
    };
    let mut held = plan(spec, folder, streams)?.hold()?;
    let posture = held.posture().clone();
    let terminal = held.take_terminal();
    let sandbox = held.start()?;
    mark(2);
    if habit == Habit::Hangs {
        loop {
            std::thread::park();
        }
    }
    let running = sandbox.inspect().map_err(Failed::from);
    let looked = running.and_then(|running| {
        if folder.is_some() {
            every_verb(&sandbox)?;
        }
        Ok(running)
    });
    mark(3);
    let ended = match folder {
        Some(_) => stop(sandbox),
        None => end(sandbox, theirs),
    };
    drop(terminal);
    let ended = looked.and_then(|running| Ok((running, ended?)));
    let (running, status) = ended.map_err(|error| Failed {
        is_started: true,
        ..error
    })?;
    Ok(Launched {
        held: posture,
        running,
        status,
    })
}

/// A second command on a terminal; frozen, and thawed.
fn every_verb(sandbox: &Sandbox) -> Result<(), Failed> {
    let exec = Exec::new(vec!["true".to_owned()]);
    let mut second = sandbox.exec(&exec, Streams::Terminal)?;
    // Dropped before, it hangs up.
    let terminal = second.take_terminal();
    let ended = second.wait_for(PATIENCE)?;
    drop(terminal);
    if ended != Some(ExitStatus::Exited(0)) {
        return Err(std::io::Error::other(format!("the second command: {ended:?}")).into());
    }
    let cgroup = &sandbox.prepared().cgroup;
    cgroup.freeze()?;
    cgroup.thaw()?;
    Ok(())
}

fn plan(spec: &Spec, folder: Option<&Path>, streams: Streams) -> Result<Plan, Failed> {
    let kernel = Kernel::assume()?;
    let mut waivers = Waivers::none();
    for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
        waivers
            .waive(layer, "the tests say what this host lacks")
            .unwrap();
    }
    let mut prepared = Prepared::with_network(spec, NetworkNamespace::create()?)?;
    if let Some(folder) = folder {
        prepared.exec = Some(ExecListener::bind(&folder.join(SOCKET))?);
    }
    let io = Io {
        streams,
        sockets: Vec::new(),
    };
    Ok(Plan::new(spec, &kernel, &waivers, prepared, io)?)
}

/// The steps of such a plan, each with its layer.
fn steps(spec: &Spec, folder: Option<&Path>) -> Vec<(Option<&'static str>, &'static str)> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let [stdin, stdout, stderr] = [(); 3].map(|()| null().unwrap().into());
    let streams = match folder {
        Some(_) => Streams::Terminal,
        None => Streams::Descriptors {
            stdin,
            stdout,
            stderr,
        },
    };
    let Ok(plan) = plan(spec, folder, streams) else {
        return Vec::new();
    };
    let steps = plan.steps().into_iter();
    steps
        .map(|(layer, step)| (layer.map(Layer::name), step))
        .collect()
}

fn stop(mut sandbox: Sandbox) -> Result<ExitStatus, Failed> {
    let stopped = sandbox.stop(Signal::SIGTERM, PATIENCE);
    // Whatever happened, it is taken away.
    sandbox.remove()?;
    match stopped? {
        Stopped::ByItself(status) => Ok(status),
        Stopped::Killed(status) => {
            Err(std::io::Error::other(format!("it had to be killed: {status:?}")).into())
        }
    }
}

fn end(mut sandbox: Sandbox, mut input: impl Write) -> Result<ExitStatus, Failed> {
    // An error: it has ended already, and its status says how.
    let _told = input.write_all(b"\n");
    drop(input);
    let waited = sandbox.wait();
    // Whatever happened, it is taken away.
    sandbox.remove()?;
    Ok(waited?)
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
