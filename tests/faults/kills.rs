//! Whoever launches is killed at each of his system calls, and started again.

use std::ffi::OsString;
use std::time::Duration;

use cloison_tests::fault::{Deed, Ending, Fault, Role};
use cloison_tests::{Outcome, REPORT, launcher};
use nix::sys::signal::Signal;

use crate::calls::{LIFE, Share, calls_of, stride};
use crate::ground::{Canary, Run, Subject, run, run_twice};

/// A caller of the library, which takes over what an earlier one left.
pub(crate) fn library() -> Outcome {
    Subject::caller("good", |subject| {
        at_each_call("library", subject, Share::Each)
    })
}

/// The same with every verb, in a root of its own.
pub(crate) fn rich() -> Outcome {
    Subject::rich(|subject| at_each_call("rich library", subject, Share::OfEight))
}

/// `cloison run`, whose registry sweeps what a dead launcher left.
pub(crate) fn launcher() -> Outcome {
    let program = launcher::path().unwrap();
    let host = OsString::from(launcher::sample("host.toml"));
    let host = host.to_string_lossy();
    at_each_call(
        "launcher",
        Subject {
            program: &program,
            arguments: &[
                "run", "--host", &host, "--name", "fault", "--", "sh", "-c", "echo ran",
            ],
            canary: Canary::Output,
        },
        Share::Each,
    )
}

/// How much of what is wrong, and of what was said then, is shown.
const SHOWN_MAX: usize = 300;

#[derive(Default)]
struct Count {
    kills: usize,
    /// Of them those after which a command had run, or went on to.
    ran: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

fn at_each_call(name: &str, subject: Subject<'_>, share: Share) -> Outcome {
    let whole = run(subject, None);
    if !whole.wrong.is_empty() || whole.trace.ending(Role::Caller) != Some(Ending::Exited(0)) {
        return Outcome::Failed(format!("without a fault: {whole:?}"));
    }
    let told = whole.bytes_told();
    let calls = calls_of(&whole, Role::Caller, &LIFE).len();
    let (every, first) = stride(calls, share);
    let mut count = Count::default();
    let mut nth = first;
    // One run may make a call less than another.
    let mut missed = 0;
    while missed < 3 {
        let fault = Fault::at(Role::Caller, nth, Deed::Kill).within(LIFE);
        let (run, second) = run_twice(subject, fault);
        missed = if run.trace.hit.is_some() {
            0
        } else {
            missed + 1
        };
        count.add(nth, &run, &second, told);
        nth += every;
    }
    println!(
        "{REPORT}{name}: killed at {} of {calls} calls (every {every}.), {} had run something; \
         slowest {:?}; wrong: {}",
        count.kills,
        count.ran,
        count.slowest,
        count.wrong.len()
    );
    // One run may make some calls less than another.
    if count.kills * every + calls / 50 + 2 * every < calls {
        count.wrong.push("too few kills".to_owned());
    }
    if count.wrong.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(count.wrong.join("\n"))
    }
}

impl Count {
    fn add(&mut self, nth: usize, run: &Run, second: &str, told: usize) {
        let Some(call) = run.trace.hit_call() else {
            return;
        };
        self.kills += 1;
        self.slowest = self.slowest.max(run.lasted);
        let has_executed = run.trace.executed_at.is_some();
        self.ran += usize::from(has_executed);
        let mut wrong = run.wrong.clone();
        if run.trace.ending(Role::Caller) != Some(Ending::Signaled(Signal::SIGKILL)) {
            wrong.push(format!("it was not killed: {}", run.ending()));
        }
        if has_executed && run.bytes_told() < told {
            wrong.push("a sandbox ran before it was told to".to_owned());
        }
        if run.lasted > Duration::from_secs(5) {
            println!("slow: {:?} {nth}: {call}", run.lasted);
        }
        let second: String = second.chars().take(SHOWN_MAX).collect();
        for wrong in wrong {
            let wrong: String = wrong.chars().take(SHOWN_MAX).collect();
            self.wrong
                .push(format!("{nth}: {call}: {wrong}; then: {second}"));
        }
    }
}
