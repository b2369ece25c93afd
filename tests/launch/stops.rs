//! A sandbox that is to end, and somebody who freezes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Cgroup, ExitStatus, Hierarchies, Hierarchy, Sandbox, SandboxName, Stopped, spawner_pid,
};
use cloison_tests::{Case, Outcome};
use nix::sys::signal::Signal;

use crate::exec::{Private, command, launch, null, sleeper};
use crate::ground::{eventually, hold, spec};

pub(crate) const CASES: &[Case] = &[
    Case::new("stop_ends_what_is_frozen_meanwhile", frozen_meanwhile),
    Case::new("stop_tells_who_stays_frozen", stays_frozen).lasting_s(120),
    Case::new("longest_limit_is_no_panic", longest_limit),
    Case::new("cgroup_taken_over_stays_when_dropped", taken_over),
];

const KILLED: ExitStatus = ExitStatus::Signaled(Signal::SIGKILL as i32);

/// Thaws when it goes, whatever happened.
struct Thawed(PathBuf);

impl Thawed {
    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Thawed {
    fn drop(&mut self) {
        // It may be gone, with its sandbox.
        let _gone = fs::write(self.0.join("freezer.state"), "THAWED");
    }
}

/// The freezer of version 1 beneath which a path is, if it is mounted.
fn freezer(path: &str) -> Option<PathBuf> {
    let mounted = Path::new("/sys/fs/cgroup/freezer");
    let path = mounted.join(path.trim_start_matches('/'));
    path.join("freezer.state").exists().then_some(path)
}

fn freezer_of(sandbox: &Sandbox) -> Option<PathBuf> {
    let places = sandbox.prepared().cgroup.membership();
    let (_, path) = places
        .iter()
        .find(|(hierarchy, _)| hierarchy.has_controller("freezer"))?;
    freezer(path)
}

/// What `stop` gives, for which nobody waits longer than this.
fn stopped(mut sandbox: Sandbox, limit: Duration) -> Option<(Sandbox, String)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let stopped = sandbox.stop(Signal::SIGTERM, Duration::from_millis(100));
        // Nobody may be listening any more.
        let _told = tell.send((sandbox, format!("{stopped:?}")));
    });
    told.recv_timeout(limit).ok()
}

fn frozen_meanwhile() -> Outcome {
    let script = "trap '' TERM; for i in 1 2 3 4 5 6; do sleep 1000 & done; \
                  while :; do sleep 0.01; done";
    let sandbox = hold(&spec("again", &["/usr/bin/sh", "-c", script]), Vec::new());
    let sandbox = sandbox.unwrap().start().unwrap();
    let Some(freezer) = freezer_of(&sandbox) else {
        sandbox.remove().unwrap();
        return Outcome::Skipped("a freezer of version 1 is not mounted".to_owned());
    };
    let thawed = Thawed(freezer.clone());
    let freezing = thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(3);
        let mut times = 0;
        while Instant::now() < end {
            times += usize::from(fs::write(freezer.join("freezer.state"), "FROZEN").is_ok());
            thread::sleep(Duration::from_millis(1));
        }
        times
    });
    let stopped = stopped(sandbox, Duration::from_secs(20));
    assert!(freezing.join().unwrap() > 0, "nothing was frozen: blind");
    drop(thawed);
    let (sandbox, stopped) = stopped.expect("stop has not come back");
    assert_eq!(stopped, format!("Ok({:?})", Stopped::Killed(KILLED)));
    sandbox.remove().unwrap();
    Outcome::Passed
}

/// Beneath a cgroup that somebody froze as a whole nothing can be thawed.
fn stays_frozen() -> Outcome {
    let Some(own) = own_freezer() else {
        return Outcome::Skipped("a freezer of version 1 is not mounted".to_owned());
    };
    let middle = own.join("middle");
    fs::create_dir(&middle).unwrap();
    let enter = |folder: &Path, pid: u32| {
        fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
    };
    enter(&middle, std::process::id());
    let sandbox = hold(&spec("under", &["/usr/bin/sleep", "1000"]), Vec::new());
    let sandbox = sandbox.unwrap().start().unwrap();
    enter(&own, std::process::id());
    enter(&own, spawner_pid().unwrap());
    let thawed = Thawed(middle.clone());
    thawed.set("FROZEN");
    let begun = Instant::now();
    let stopped = stopped(sandbox, Duration::from_secs(40));
    let lasted = begun.elapsed();
    drop(thawed);
    let (sandbox, stopped) = stopped.expect("stop has not come back");
    assert!(stopped.starts_with("Err(KeptFrozen"), "{stopped}");
    assert!(
        lasted > Duration::from_secs(1),
        "it hardly tried: {lasted:?}"
    );
    // Now it can.
    assert_eq!(sandbox.remove().unwrap(), KILLED);
    assert!(eventually(|| fs::remove_dir(&middle).is_ok()));
    Outcome::Passed
}

fn own_freezer() -> Option<PathBuf> {
    let places = Cgroup::places(
        &Hierarchies::find().unwrap(),
        &SandboxName::new("x").unwrap(),
    );
    let is_freezer = |hierarchy: &Hierarchy| hierarchy.has_controller("freezer");
    let (_, place) = places.iter().find(|(hierarchy, _)| is_freezer(hierarchy))?;
    freezer(place.rsplit_once('/')?.0)
}

fn longest_limit() -> Outcome {
    let directory = Private::new("longest");
    let mut sandbox = launch(&sleeper("longest"), &directory);
    let mut execution = sandbox.exec(&command(&["true"]), null()).unwrap();
    let status = execution.wait_for(Duration::MAX).unwrap();
    assert_eq!(status, Some(ExitStatus::Exited(0)));
    let stopped = sandbox.stop(Signal::SIGTERM, Duration::MAX).unwrap();
    let by_term = 128 + Signal::SIGTERM as i32;
    assert_eq!(stopped, Stopped::ByItself(ExitStatus::Exited(by_term)));
    sandbox.remove().unwrap();
    Outcome::Passed
}

/// Somebody who only looks, while somebody else is about to launch.
fn taken_over() -> Outcome {
    let hierarchies = Hierarchies::find().unwrap();
    let name = SandboxName::new("looked-at").unwrap();
    let mut made = Cgroup::create(&hierarchies, &name).unwrap();
    drop(Cgroup::take_over(&hierarchies, &name).unwrap());
    let again = Cgroup::take_over_noted(&name, &made.membership());
    let again = again.expect("whoever looked has removed it");
    assert_eq!(again.placements().len(), made.placements().len());
    drop(again);
    made.processes().unwrap();
    made.remove().unwrap();
    // And whoever made one gives it back.
    drop(Cgroup::create(&hierarchies, &name).unwrap());
    assert!(Cgroup::take_over(&hierarchies, &name).is_err());
    Outcome::Passed
}
