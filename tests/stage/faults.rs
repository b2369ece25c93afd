//! The self-test of the harness: each way to misbehave is caught, with an
//! exit code that is not 0, and said; what behaves is not.

use std::process::Stdio;
use std::time::Duration;

use cloison_tests::{EXPECTED_SKIPS, Outcome};
use nix::mount::{MsFlags, mount, umount};

use crate::{code, faulty, faulty_outside, text};

pub(crate) fn passing() -> Outcome {
    let output = faulty("passes").output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    let last = text(&output).lines().last().map(str::to_owned);
    assert_eq!(last.as_deref(), Some("1 passed, 0 failed, 0 skipped"));
    Outcome::Passed
}

pub(crate) fn failing() -> Outcome {
    caught("fails", "it exited with 1\non purpose")
}

pub(crate) fn panicking() -> Outcome {
    caught("panics", "it exited with 101")
}

pub(crate) fn exiting() -> Outcome {
    caught("exits", "it exited with 3")
}

pub(crate) fn killed() -> Outcome {
    caught("is_killed", "it was ended by signal 9")
}

pub(crate) fn undeclared_skip() -> Outcome {
    caught("skips", "not declared")
}

pub(crate) fn declared_skip() -> Outcome {
    skipped("skips")
}

pub(crate) fn printed_skip() -> Outcome {
    skipped("prints_a_skip")
}

pub(crate) fn ending_early() -> Outcome {
    assert_eq!(
        caught("ends_before_it_returns", "it ended before it returned"),
        Outcome::Passed
    );
    caught("ends_as_if_skipped", "it exited with 77")
}

pub(crate) fn hidden_skip() -> Outcome {
    assert_eq!(skipped("skips_behind_half_a_line"), Outcome::Passed);
    skipped("skips_before_many_lines")
}

pub(crate) fn lost_thread() -> Outcome {
    caught("loses_a_thread", "a thread panicked")
}

/// The same where each case has a stage of its own.
pub(crate) fn side_by_side() -> Outcome {
    let told = [
        ("passes", "1 passed, 0 failed, 0 skipped"),
        ("fails", "on purpose"),
        ("is_killed", "it was ended by signal 9"),
        ("ends_before_it_returns", "it ended before it returned"),
        ("ends_as_if_skipped", "it exited with 77"),
        ("skips_behind_half_a_line", "0 passed, 0 failed, 1 skipped"),
        ("leaves_a_mount", "left behind: new mount: "),
        ("leaves_a_process", "left behind: new process: "),
    ];
    for (case, told) in told {
        let mut runner = faulty_outside(case);
        runner.env("FAULTY_SIDE_BY_SIDE", "1");
        let output = runner.env(EXPECTED_SKIPS, case).output().unwrap();
        let fine = told.contains(" passed");
        assert_eq!(code(&output) == 0, fine, "{case}: {}", text(&output));
        assert!(text(&output).contains(told), "{case}: {}", text(&output));
    }
    Outcome::Passed
}

pub(crate) fn hanging() -> Outcome {
    caught("hangs", "it lasted longer than 1 s")
}

pub(crate) fn left_mount() -> Outcome {
    caught("leaves_a_mount", "left behind: new mount: ")
}

pub(crate) fn left_cgroup() -> Outcome {
    caught(
        "leaves_a_cgroup",
        "left behind: new cgroup: /sys/fs/cgroup/",
    )
}

pub(crate) fn left_process() -> Outcome {
    caught("leaves_a_process", "left behind: new process: ")
}

pub(crate) fn ending_process() -> Outcome {
    let output = faulty("leaves_a_process_that_ends").output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    Outcome::Passed
}

pub(crate) fn left_link() -> Outcome {
    let outcome = caught("leaves_a_link", "left behind: new link: ");
    let rtnetlink = cloison_escape::stage::rtnetlink::Rtnetlink::open().unwrap();
    rtnetlink.remove_link("left0").unwrap();
    outcome
}

pub(crate) fn changed_setting() -> Outcome {
    let outcome = caught(
        "leaves_a_host_name",
        "left behind: new setting: kernel/hostname",
    );
    nix::unistd::sethostname("cloison-stage").unwrap();
    outcome
}

pub(crate) fn lifted_limit() -> Outcome {
    let file = ["/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"]
        .into_iter()
        .find(|file| std::path::Path::new(file).exists())
        .unwrap();
    let limit = std::fs::read_to_string(file).unwrap();
    let outcome = caught("lifts_a_limit", "left behind: new setting: ");
    std::fs::write(file, limit.trim()).unwrap();
    outcome
}

/// Here the stage of this case is the machine.
pub(crate) fn changed_machine() -> Outcome {
    let mut outer = faulty_outside("lasts_a_second");
    let outer = outer.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let kind = Some("tmpfs");
    mount(kind, "/mnt", kind, MsFlags::empty(), None::<&str>).unwrap();
    let output = outer.wait_with_output().unwrap();
    umount("/mnt").unwrap();
    let text = text(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(
        text.contains("the machine is not as before: new mount: "),
        "{text}"
    );
    let last = text.lines().last();
    assert_eq!(last, Some("0 passed, 1 failed, 0 skipped"));
    Outcome::Passed
}

pub(crate) fn two_in_a_row() -> Outcome {
    let mut command = faulty("leaves_a_mount");
    let output = command.args(["passes", "leaves_a_process"]).output();
    // One filter only is taken: the others are refused, not ignored.
    assert_ne!(code(&output.unwrap()), 0);
    let output = std::process::Command::new(crate::FAULTY)
        .arg("leaves_a_")
        .output()
        .unwrap();
    let text = text(&output);
    assert_eq!(
        text.matches("left behind: new mount: ").count(),
        1,
        "{text}"
    );
    assert_eq!(
        text.matches("left behind: new cgroup: ").count(),
        1,
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line == "1 passed, 5 failed, 0 skipped"),
        "{text}"
    );
    let rtnetlink = cloison_escape::stage::rtnetlink::Rtnetlink::open().unwrap();
    rtnetlink.remove_link("left0").unwrap();
    nix::unistd::sethostname("cloison-stage").unwrap();
    Outcome::Passed
}

/// Runs a case that must fail, and wants the reason to be said.
pub(crate) fn caught(case: &str, reason: &str) -> Outcome {
    let output = faulty(case).env_remove(EXPECTED_SKIPS).output().unwrap();
    let text = text(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains(reason), "{text}");
    let closing = "0 passed, 1 failed, 0 skipped";
    assert!(text.lines().any(|line| line == closing), "{text}");
    Outcome::Passed
}

fn skipped(case: &str) -> Outcome {
    let output = faulty(case).env(EXPECTED_SKIPS, case).output().unwrap();
    let text = text(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(text.contains("SKIPPED: on purpose"), "{text}");
    let closing = "0 passed, 0 failed, 1 skipped";
    assert!(text.lines().any(|line| line == closing), "{text}");
    Outcome::Passed
}
