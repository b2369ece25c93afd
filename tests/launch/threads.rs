//! A caller with 64 threads that allocate, open descriptors and launch.

use std::fs::{File, read_dir};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cloison_sandbox::{
    Error, ExitStatus, IdRange, Io, Kernel, NetworkNamespace, Plan, Prepared, SandboxName, Spec,
    spawner_pid,
};
use cloison_tests::{Outcome, REPORT};

use crate::ground::{IDS, spec_without_init, waivers};

const THREADS: u32 = 64;
/// Every so many launches one is prepared for itself alone: its user and its
/// network namespace and its cgroup are made, used once and removed.
const OWN_EVERY: u32 = 4;

fn launches() -> u32 {
    if cloison_tests::quick() {
        1_000
    } else {
        10_000
    }
}

fn descriptors(pid: u32) -> usize {
    read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Allocates and opens without end, as a busy program does.
fn busy(stop: &AtomicBool) {
    let mut kept = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        kept.push(vec![1_u8; 4096 + kept.len() * 17]);
        if kept.len() > 64 {
            kept.clear();
        }
        drop(File::open("/dev/null").unwrap());
        thread::yield_now();
    }
}

/// What a thread got done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Done {
    launches: u32,
    /// Of them those that were prepared for themselves alone.
    own: u32,
}

fn launch(number: u32, left: &AtomicU32) -> Result<Done, Error> {
    let mut spec = spec_without_init(&format!("thread-{number}"), &["/usr/bin/true"]);
    spec.name = SandboxName::new(format!("thread-{number}")).unwrap();
    spec.ids = Some(IdRange::new(IDS + number * IdRange::COUNT).unwrap());
    // Each thread asks the kernel itself: probes take turns.
    let (kernel, waivers) = (Kernel::probe().unwrap(), waivers());
    let own = Spec {
        name: SandboxName::new(format!("own-{number}")).unwrap(),
        ..spec.clone()
    };
    let run = |spec: &Spec, prepared| {
        let plan = Plan::new(spec, &kernel, &waivers, prepared, Io::null()?)?;
        let mut sandbox = plan.hold()?.start()?;
        let status = sandbox.wait()?;
        assert_eq!(status, ExitStatus::Exited(0));
        sandbox.into_prepared()
    };
    let mut prepared = Prepared::new(&spec)?;
    let mut done = Done::default();
    while let Ok(before) =
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
    {
        if before % OWN_EVERY == 0 {
            let network = NetworkNamespace::create()?;
            let made = Prepared::with_network(&own, network)?;
            run(&own, made)?.cgroup.remove()?;
            done.own += 1;
        } else {
            prepared = run(&spec, prepared)?;
        }
        done.launches += 1;
    }
    prepared.cgroup.remove()?;
    Ok(done)
}

/// The control: the same caller without a spawner, by a raw clone3. Its child
/// allocates, as most code does, and hangs sooner or later.
pub(crate) fn control() -> Outcome {
    let path = "/tmp/attempt";
    std::fs::write(path, cloison_escape::ATTEMPT).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
    let output = Command::new(path)
        .args(["forked", "count=10000"])
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    match output.status.code() {
        Some(10) => Outcome::Passed,
        code => Outcome::Failed(format!("the control is silent: {code:?}")),
    }
}

/// The descriptors of the spawner once it has let go of what ended: whoever
/// waits for a sandbox hears of its end before that.
fn settled(spawner: u32) -> usize {
    let mut seen = descriptors(spawner);
    let mut times = 0;
    while times < 10 {
        thread::sleep(Duration::from_millis(10));
        let now = descriptors(spawner);
        times = if now == seen { times + 1 } else { 0 };
        seen = now;
    }
    seen
}

/// No hang (the case has a deadline), no leak, nothing left.
pub(crate) fn many() -> Outcome {
    // The spawner starts, and a launch of each kind warms everything up.
    launch(THREADS, &AtomicU32::new(OWN_EVERY)).unwrap();
    let spawner = spawner_pid().unwrap();
    let before = (descriptors(std::process::id()), settled(spawner));
    let left = AtomicU32::new(launches());
    let stop = AtomicBool::new(false);
    let done: Vec<Done> = thread::scope(|scope| {
        scope.spawn(|| busy(&stop));
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let left = &left;
                scope.spawn(move || launch(number, left))
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        // Also after a failure: else the case would wait for its deadline.
        stop.store(true, Ordering::Relaxed);
        ended
            .into_iter()
            .map(|done| done.unwrap().unwrap())
            .collect()
    });
    let after = (descriptors(std::process::id()), settled(spawner));
    let same_spawner = spawner_pid() == Some(spawner);
    let own: u32 = done.iter().map(|thread| thread.own).sum();
    let done: u32 = done.iter().map(|thread| thread.launches).sum();
    println!("{REPORT}{done} launches, {own} with namespaces and a cgroup of their own");
    println!("descriptors of caller and spawner: {before:?}, {after:?}");
    if done == launches() && own == launches() / OWN_EVERY && before == after && same_spawner {
        Outcome::Passed
    } else {
        Outcome::Failed("a launch too few, a leak, or another spawner".to_owned())
    }
}
