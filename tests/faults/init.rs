//! The init's own calls: one that fails must not leave a sandbox that nobody
//! hears of any more.

use std::time::Duration;

use cloison_tests::fault::{Deed, Fault, Role};
use cloison_tests::{Outcome, REPORT};
use nix::errno::Errno;

use crate::calls::{LIFE, calls_of};
use crate::ground::{Run, Subject, run, run_within};

/// Nothing here waits for a deadline of the library.
const LIMIT: Duration = Duration::from_secs(20);

/// A status that could not be had is asked for again.
pub(crate) fn reaps() -> Outcome {
    each("wait4", |run| {
        run.ran
            && run
                .said
                .as_ref()
                .is_some_and(|said| said.launch["status"] == "Exited(0)")
    })
}

/// An init that keeps the command's pipes open would keep whoever reads them.
pub(crate) fn closes() -> Outcome {
    each("close_range", |run| {
        // Whether it is looked at before or after it has ended.
        run.said.as_ref().is_some_and(|said| {
            said.launch["status"] == "Exited(125)"
                || said.launch["started"] == true && said.launch["shape"] == "Died"
        })
    })
}

/// Lets each call of this name fail once, and wants that to come of it.
fn each(name: &str, is_right: impl Fn(&Run) -> bool) -> Outcome {
    Subject::caller("good", |subject| {
        let calls = calls_of(&run(subject, None), Role::Init, &LIFE);
        let mut wrong = Vec::new();
        let mut hits = 0;
        for (nth, call) in calls.iter().enumerate() {
            if call.name() != name {
                continue;
            }
            for errno in [Errno::EINTR, Errno::ENOMEM] {
                let fault = Fault::at(Role::Init, nth, Deed::Fail(errno)).within(LIFE);
                let run = run_within(subject, Some(fault), LIMIT);
                // One more or less than without a fault.
                if run.trace.hit_call().is_none_or(|call| call.name() != name) {
                    continue;
                }
                hits += 1;
                if !run.wrong.is_empty() || !is_right(&run) {
                    wrong.push(format!("{call} {errno:?}: {:?} {}", run.wrong, run.text));
                }
            }
        }
        println!("{REPORT}{hits} failures of {name}");
        if hits == 0 {
            return Outcome::Failed(format!("no {name} failed: blind"));
        }
        if wrong.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(wrong.join("\n"))
        }
    })
}
