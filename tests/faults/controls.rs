//! The tool is alive: it sees who is who, and each kind of carelessness.

use std::collections::BTreeMap;

use std::time::Duration;

use cloison_tests::fault::{Deed, Ending, Fault, Role};
use cloison_tests::{Outcome, REPORT};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::calls::{Expected, calls_of, judge};
use crate::ground::{Subject, run, run_within};

/// How long to wait for one that is meant to hang.
const BRIEF: Duration = Duration::from_secs(5);

/// A launch without a fault: every role is seen, and nothing is left.
pub(crate) fn follows() -> Outcome {
    let whole = Subject::caller("good", |subject| run(subject, None));
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &whole.trace.calls {
        *calls.entry(call.role.name()).or_default() += 1;
    }
    println!("{REPORT}calls of one launch: {calls:?}, {:?}", whole.lasted);
    if whole.wrong.is_empty()
        && whole.ran
        && whole.said.is_some_and(|said| said.posture().is_some())
    {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{:?} {}", whole.wrong, whole.text))
    }
}

/// A failed launch after which the caller misbehaves: the comparison sees it.
pub(crate) fn careless() -> Outcome {
    let habits = [
        ("keeps-a-descriptor", ""),
        ("leaves-a-cgroup", "new cgroup"),
        ("leaves-a-process", "it hangs: other"),
        ("good", ""),
    ];
    for (habit, seen) in habits {
        let fault = Fault::at(Role::Child, 5, Deed::Fail(Errno::EIO));
        let run = Subject::caller(habit, |subject| run_within(subject, Some(fault), BRIEF));
        let kept = run.said.map(|said| said.descriptors["kept"].clone());
        let caught = match habit {
            "keeps-a-descriptor" => kept == Some(1.into()),
            "good" => run.wrong.is_empty() && kept == Some(0.into()),
            _ => run.wrong.iter().any(|wrong| wrong.contains(seen)),
        };
        if !caught {
            return Outcome::Failed(format!("{habit}: {kept:?} {:?}", run.wrong));
        }
    }
    Outcome::Passed
}

/// A failure that the caller ignores, and that no list excuses.
pub(crate) fn ignored() -> Outcome {
    Subject::caller("ignores-a-failure", |subject| {
        let whole = run(subject, None);
        let calls = calls_of(&whole, Role::Caller, &(1..=1));
        let nth = calls.iter().position(|call| call.name() == "chdir");
        let (Some(nth), Some(expected)) = (nth, Expected::of(&whole)) else {
            return Outcome::Failed(format!("no such call: {}", whole.text));
        };
        // A call that a signal came between has to be made again.
        for errno in [Errno::EIO, Errno::EINTR] {
            let fault = Fault::at(Role::Caller, nth, Deed::Fail(errno)).within(1..=1);
            let run = run(subject, Some(fault));
            let Some(call) = run.trace.hit_call() else {
                return Outcome::Failed("it was not hit".to_owned());
            };
            match judge(&run, call, errno, &expected) {
                Err(why) if why.starts_with("nobody noticed") => {}
                Err(why) => return Outcome::Failed(why),
                Ok(_) => return Outcome::Failed(format!("{errno} was excused")),
            }
        }
        Outcome::Passed
    })
}

/// A caller that never ends is named, and ended.
pub(crate) fn hanging() -> Outcome {
    let run = Subject::caller("hangs", |subject| run_within(subject, None, BRIEF));
    let is_named = run
        .wrong
        .first()
        .is_some_and(|wrong| wrong.starts_with("it hangs:") && wrong.contains("caller"));
    if is_named && run.trace.ending(Role::Caller) == Some(Ending::Signaled(Signal::SIGKILL)) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{:?}", run.wrong))
    }
}
