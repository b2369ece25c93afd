//! What the processor makes needless: core scheduling without SMT,
//! speculation control where there is no flaw.

use std::fs;
use std::io::ErrorKind;

use nix::errno::Errno;

use super::probe::Found;
use super::{Absence, Feature, NotNeeded, State};

const PRCTL: i64 = 1;
const DISABLED: i64 = 1 << 2;
/// Disabled for good, as `PR_GET_SPECULATION_CTRL` shows it.
pub(super) const FORCE_DISABLED: i64 = 1 << 3;

/// What `PR_GET_SPECULATION_CTRL` says; `None` where a process can restrict
/// itself, which is then to be tried.
///
/// # Source
/// prctl(2), Documentation/userspace-api/spec_ctrl.rst
pub(super) fn speculation(answer: i64) -> Option<State> {
    match answer {
        0 => Some(State::NotNeeded(NotNeeded::NotAffected)),
        _ if answer & PRCTL != 0 => None,
        _ if answer & (DISABLED | FORCE_DISABLED) != 0 => {
            Some(State::NotNeeded(NotNeeded::RestrictedForAll))
        }
        _ => Some(State::Absent(Absence::Withheld)),
    }
}

/// Where no core runs two threads a cookie is not needed.
pub(super) fn settle(found: &mut Found) {
    if found.has(Feature::CoreScheduling) {
        return;
    }
    // The kernel's own word for "no SMT": sched_core_share_pid().
    let told = State::Absent(Absence::Refused(Errno::ENODEV));
    if found.state(Feature::CoreScheduling) == Some(told) || is_smt_off() {
        let state = State::NotNeeded(NotNeeded::SmtOff);
        found.set(Feature::CoreScheduling, state);
    }
}

/// Whether sysfs says so; what cannot be read is taken as "on".
fn is_smt_off() -> bool {
    match fs::read_to_string("/sys/devices/system/cpu/smt/active") {
        Ok(active) => active.trim_end() == "0",
        // Without CONFIG_HOTPLUG_SMT there is no such file.
        Err(_) => is_every_thread_alone().unwrap_or(false),
    }
}

fn is_every_thread_alone() -> std::io::Result<bool> {
    let mut seen = false;
    for entry in fs::read_dir("/sys/devices/system/cpu")? {
        let siblings = entry?.path().join("topology/thread_siblings_list");
        let list = match fs::read_to_string(siblings) {
            Ok(list) => list,
            // A file of another kind, or a processor that is off.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        if !is_alone(&list) {
            return Ok(false);
        }
        seen = true;
    }
    Ok(seen)
}

fn is_alone(siblings: &str) -> bool {
    siblings.trim_end().parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speculation_is_judged_as_prctl_documents_it() {
        let not_needed = |reason| Some(State::NotNeeded(reason));
        assert_eq!(speculation(0), not_needed(NotNeeded::NotAffected));
        for prctl in [0b11, 0b101, 0b1001] {
            assert_eq!(speculation(prctl), None, "{prctl}");
        }
        assert_eq!(
            speculation(0b10),
            Some(State::Absent(Absence::Withheld)),
            "enabled, and no process can change it"
        );
        assert_eq!(speculation(0b100), not_needed(NotNeeded::RestrictedForAll));
    }

    #[test]
    fn core_scheduling_is_not_needed_where_the_kernel_sees_no_smt() {
        let mut found = Found::default();
        let no_smt = State::Absent(Absence::Refused(Errno::ENODEV));
        found.set(Feature::CoreScheduling, no_smt);
        settle(&mut found);
        assert_eq!(
            found.state(Feature::CoreScheduling),
            Some(State::NotNeeded(NotNeeded::SmtOff))
        );
        found.set(Feature::CoreScheduling, State::Present);
        settle(&mut found);
        assert!(found.has(Feature::CoreScheduling));
    }

    #[test]
    fn a_thread_is_alone_when_it_is_its_only_sibling() {
        for alone in ["0\n", "17\n"] {
            assert!(is_alone(alone), "{alone}");
        }
        for together in ["0,4\n", "0-1\n", "", "\n"] {
            assert!(!is_alone(together), "{together}");
        }
    }
}
