//! What an attempt made of itself, as `/proc` shows it.

use std::io;

use super::outside::Process;

/// An id that no sandbox has, as the program names it.
const OUTSIDE: &str = "70000";
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Whether `attempt`, a process of `sandbox`, is changed as `way` says.
pub(super) fn shows(way: &str, attempt: Process, sandbox: Process) -> io::Result<bool> {
    Ok(match way {
        "own-uid_map" | "own-gid_map" => has_wide_map(attempt, way.trim_start_matches("own-")),
        "nested-uid_map" | "nested-gid_map" => attempt
            .children()?
            .into_iter()
            .any(|child| has_wide_map(child, way.trim_start_matches("nested-"))),
        "setuid" | "setreuid" | "setresuid" | "setfsuid" => has_word(attempt, "Uid"),
        "setgid" | "setregid" | "setresgid" | "setfsgid" => has_word(attempt, "Gid"),
        "setgroups" => has_word(attempt, "Groups"),
        "chown" => attempt.owners("root/tmp/chown")?.0.to_string() == OUTSIDE,
        "chgrp" => attempt.owners("root/tmp/chgrp")?.1.to_string() == OUTSIDE,
        "effective" | "user-back-to-root" => has_capability(attempt, "CapEff"),
        "inheritable" => has_capability(attempt, "CapInh"),
        "ambient" => has_capability(attempt, "CapAmb"),
        "exec-as-root" => attempt
            .children()?
            .into_iter()
            .any(|child| has_capability(child, "CapEff")),
        "listener" => attempt.holds_one_of("anon_inode:seccomp notify")?,
        "fifo" => attempt.stat(41)? == "1",
        "round-robin" => attempt.stat(41)? == "2",
        "deadline" => attempt.stat(41)? == "6",
        "nice" => attempt.stat(19)? == "-5",
        "oom-score" => attempt.text("oom_score_adj")?.trim() == "-1",
        "mlock" | "mlock2" | "mlockall" | "map-locked" => locked_kib(attempt) >= 16 << 10,
        "wake-alarm" => attempt.holds_one_of("anon_inode:[timerfd]")?,
        _ if way.starts_with("personality-") => {
            u32::from_str_radix(attempt.text("personality")?.trim(), 16).is_ok_and(|now| now != 0)
        }
        _ if way.starts_with("filter") => {
            number(attempt, "Seccomp_filters") > number(sandbox, "Seccomp_filters")
        }
        _ => false,
    })
}

fn has_wide_map(process: Process, file: &str) -> bool {
    let map = process.text(file).unwrap_or_default();
    map.split_whitespace().last() == Some("65537")
}

fn has_word(process: Process, field: &str) -> bool {
    let value = process.field(field).unwrap_or_default();
    value.split_whitespace().any(|word| word == OUTSIDE)
}

fn has_capability(process: Process, set: &str) -> bool {
    let digits = process.field(set).unwrap_or_default();
    u64::from_str_radix(&digits, 16).is_ok_and(|set| set & CAP_SYS_ADMIN != 0)
}

fn number(process: Process, field: &str) -> u64 {
    let value = process.field(field).unwrap_or_default();
    value.parse().unwrap_or(0)
}

fn locked_kib(process: Process) -> u64 {
    let value = process.field("VmLck").unwrap_or_default();
    let number = value.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or(0)
}
