//! A runner whose cases do all that a case must not, each in its own way: the
//! self-test of the harness runs them and wants them to be caught.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use cloison_tests::{Case, Outcome};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, raise};

const CASES: &[Case] = &[
    Case::new("passes", || Outcome::Passed),
    Case::new("fails", || Outcome::Failed("on purpose".to_owned())),
    Case::new("panics", || panic!("on purpose")),
    Case::new("exits", || std::process::exit(3)),
    Case::new("is_killed", || raise(Signal::SIGKILL).into()),
    Case::new("skips", || Outcome::Skipped("on purpose".to_owned())),
    Case::new("prints_a_skip", || {
        println!("SKIPPED: on purpose");
        Outcome::Passed
    }),
    Case::new("ends_before_it_returns", || std::process::exit(0)),
    Case::new("ends_as_if_skipped", || std::process::exit(77)),
    Case::new("skips_behind_half_a_line", || {
        eprint!("half a line");
        Outcome::Skipped("on purpose".to_owned())
    }),
    Case::new("skips_before_many_lines", || {
        println!("SKIPPED: on purpose");
        for _ in 0..20_000 {
            println!("a line of many");
        }
        Outcome::Passed
    }),
    Case::new("loses_a_thread", || {
        let lost = thread::spawn(|| panic!("on purpose"));
        while !lost.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        Outcome::Passed
    }),
    Case::new("hangs", hang).lasting_s(1),
    Case::new("waits", hang).lasting_s(600),
    Case::new("lasts_a_second", || {
        thread::sleep(Duration::from_secs(1));
        Outcome::Passed
    }),
    Case::new("leaves_a_mount", leave_a_mount),
    Case::new("leaves_a_cgroup", leave_a_cgroup),
    Case::new("leaves_a_process", || leave_a_process("600")),
    Case::new("leaves_a_process_that_ends", || leave_a_process("1")),
    Case::new("leaves_a_link", leave_a_link),
    Case::new("leaves_a_host_name", || {
        nix::unistd::sethostname("other").into()
    }),
    Case::new("lifts_a_limit", lift_a_limit),
    Case::new("opens_a_device", open_a_device),
    Case::new("fills_memory", fill_memory),
    Case::new("forks_without_end", fork_without_end),
    Case::new("freezes_a_process_and_waits", freeze_and_wait).lasting_s(600),
    Case::new("freezes_a_process_and_fails", freeze_and_fail),
];

/// Says that each case is to have a stage of its own.
const SIDE_BY_SIDE: &str = "FAULTY_SIDE_BY_SIDE";

fn main() -> ExitCode {
    if std::env::var_os(SIDE_BY_SIDE).is_some() {
        return cloison_tests::main_side_by_side(CASES);
    }
    cloison_tests::main(CASES)
}

fn hang() -> Outcome {
    println!("hanging");
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn leave_a_mount() -> Outcome {
    let kind = Some("tmpfs");
    mount(kind, "/mnt", kind, MsFlags::empty(), None::<&str>).into()
}

fn leave_a_cgroup() -> Outcome {
    fs::create_dir(root_of("pids").join("left")).into()
}

fn leave_a_process(seconds: &str) -> Outcome {
    Command::new("sleep")
        .arg(seconds)
        .spawn()
        .map(|_| ())
        .into()
}

fn leave_a_link() -> Outcome {
    cloison_escape::stage::rtnetlink::Rtnetlink::open()
        .and_then(|rtnetlink| rtnetlink.add_link("left0", "bridge"))
        .into()
}

fn lift_a_limit() -> Outcome {
    fs::write(root_of("pids").join("pids.max"), "max").into()
}

fn open_a_device() -> Outcome {
    fs::write(root_of("devices").join("devices.allow"), "b 60:0 r").into()
}

fn fill_memory() -> Outcome {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; 16 << 20]);
    }
}

fn fork_without_end() -> Outcome {
    let mut children = Vec::new();
    for _ in 0..100_000 {
        match Command::new("sleep").arg("600").spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                println!("after {} children: {error}", children.len());
                break;
            }
        }
    }
    let few = children.len() < 1000;
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    if few {
        Outcome::Passed
    } else {
        Outcome::Failed("nothing stopped it".to_owned())
    }
}

fn freeze_and_wait() -> Outcome {
    freeze().wait().map(|_| ()).into()
}

fn freeze_and_fail() -> Outcome {
    drop(freeze());
    Outcome::Failed("on purpose".to_owned())
}

fn freeze() -> std::process::Child {
    let group = root_of("freezer").join("frozen");
    fs::create_dir(&group).unwrap();
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
    let (file, value) = if group.join("freezer.state").exists() {
        ("freezer.state", "FROZEN")
    } else {
        ("cgroup.freeze", "1")
    };
    fs::write(group.join(file), value).unwrap();
    child
}

fn root_of(controller: &str) -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup").join(controller);
    if v1.is_dir() {
        v1
    } else {
        PathBuf::from("/sys/fs/cgroup")
    }
}
