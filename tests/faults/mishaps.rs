//! The soak, as a test.

use std::time::{SystemTime, UNIX_EPOCH};

use cloison_tests::soak::{Measures, Settings, soak};
use cloison_tests::{Outcome, REPORT};

/// A minute of mishaps, ten seconds in the daily form.
pub(crate) fn week() -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = if cloison_tests::quick() { 10 } else { 60 };
    let soaked = soak(Settings {
        seconds,
        ..Settings::with_seed(now.map_or(0, |now| now.as_secs()))
    });
    for line in soaked.to_string().lines() {
        println!("{REPORT}{line}");
    }
    if soaked.is_clean() && soaked.mishaps.len() == cloison_tests::soak::Mishap::ALL.len() {
        Outcome::Passed
    } else {
        Outcome::Failed(soaked.wrong.join("\n"))
    }
}

/// The comparison sees a descriptor, a process and a cgroup.
pub(crate) fn control() -> Outcome {
    let before = Measures::take();
    let names = |after: &Measures| -> Vec<&str> {
        let measures = before.beside(after);
        let kept = measures.iter().filter(|measure| !measure.is_back());
        kept.map(|measure| measure.name).collect()
    };
    let file = std::fs::File::open("/dev/null").unwrap();
    let namespace = std::process::Command::new("unshare")
        .args(["--uts", "sleep", "600"])
        .spawn();
    let mut child = namespace.unwrap();
    std::fs::create_dir("/sys/fs/cgroup/pids/left").unwrap();
    let is_seen = crate::ground::eventually(|| {
        names(&Measures::take()) == ["descriptors", "cgroups", "namespaces", "processes"]
    });
    let seen = names(&Measures::take());
    drop(file);
    std::fs::remove_dir("/sys/fs/cgroup/pids/left").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let after = names(&Measures::settled(&before));
    if is_seen && after.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{seen:?}, then {after:?}"))
    }
}
