//! The soak, as a test.

use std::time::{SystemTime, UNIX_EPOCH};

use cloison_tests::soak::{Measures, Settings, soak};
use cloison_tests::{Outcome, REPORT};
use nix::mount::{MsFlags, mount, umount};

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

/// The comparison sees each thing that is measured, and memory that each mishap
/// leaks a little of.
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
    let kind = Some("tmpfs");
    mount(kind, "/mnt", kind, MsFlags::empty(), None::<&str>).unwrap();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv().is_err());
    let memory = vec![1_u8; 32 << 20];
    let all = [
        "descriptors",
        "threads",
        "mounts",
        "cgroups",
        "namespaces",
        "processes",
        "memory of the caller, KiB",
    ];
    let is_seen = crate::ground::eventually(|| names(&Measures::take()) == all);
    let seen = names(&Measures::take());
    drop(std::hint::black_box(memory));
    drop(end);
    assert!(thread.join().unwrap());
    umount("/mnt").unwrap();
    drop(file);
    std::fs::remove_dir("/sys/fs/cgroup/pids/left").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let after = names(&Measures::settled(&before));
    // As much as two KiB of each of a thousand mishaps.
    let half_time = Measures::take();
    let leaked: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 2 << 10]).collect();
    let is_leak_seen = !half_time.memory_beside(&Measures::take(), 1000).is_back();
    drop(std::hint::black_box(leaked));
    if is_seen && is_leak_seen && after.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!(
            "{seen:?}, then {after:?}; a leak is seen: {is_leak_seen}"
        ))
    }
}
