//! Every system call of the caller and of the spawner fails in turn.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use cloison_tests::fault::{Call, Deed, Ending, Fault, Role, plausible};
use cloison_tests::{Outcome, REPORT};
use serde_json::Value;

use crate::allowed;
use crate::ground::{Run, Subject, run};

/// From nothing until it is removed, without what an earlier one left.
const OWN: RangeInclusive<u8> = 1..=3;
/// Until the sandbox is removed.
pub(crate) const LIFE: RangeInclusive<u8> = 0..=3;
/// Calls whose failure ends a program of this language: it has no memory left.
const MEMORY: &[&str] = &["mmap", "mremap", "munmap", "mprotect", "madvise"];

pub(crate) fn of_the_caller() -> Outcome {
    sweep(Role::Caller, OWN)
}

/// With every verb, in a root of its own.
pub(crate) fn of_a_rich_ones_caller() -> Outcome {
    Subject::rich(|subject| of("rich caller", subject, Role::Caller, OWN))
}

/// The caller's copy, until it is the spawner.
pub(crate) fn of_the_starter() -> Outcome {
    sweep(Role::Starter, LIFE)
}

pub(crate) fn of_the_spawner() -> Outcome {
    sweep(Role::Spawner, LIFE)
}

/// Process 1, which also makes what `exec` asks for.
pub(crate) fn of_the_init() -> Outcome {
    Subject::rich(|subject| of("init", subject, Role::Init, LIFE))
}

/// The init's copies, until they execute the command and what `exec` asks for.
pub(crate) fn of_the_starting() -> Outcome {
    Subject::rich(|subject| of("starting", subject, Role::Starting, LIFE))
}

/// How much of what is wrong is shown of each.
const SHOWN_BYTES: usize = 1200;

pub(crate) fn of_the_makers() -> Outcome {
    sweep(Role::Maker, LIFE)
}

/// What is known of a launch without a fault.
pub(crate) struct Expected {
    posture: [Value; 2],
    status: Value,
    bytes_told: usize,
}

impl Expected {
    pub(crate) fn of(whole: &Run) -> Option<Self> {
        let said = whole.said.as_ref()?;
        Some(Self {
            posture: said.posture()?,
            status: said.launch["status"].clone(),
            bytes_told: whole.bytes_told(),
        })
    }
}

/// What came of the failures of one role.
#[derive(Default)]
struct Count {
    calls: usize,
    failures: usize,
    cannot_fail: usize,
    errors: usize,
    /// Sandboxes whose status says that their init or command failed.
    told_by_status: usize,
    /// What the steps of `exec` told.
    exec_steps: BTreeMap<String, usize>,
    /// Launches that went on, by the reason.
    survived: BTreeMap<&'static str, usize>,
    without_memory: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

fn sweep(role: Role, phases: RangeInclusive<u8>) -> Outcome {
    Subject::caller("good", |subject| of(role.name(), subject, role, phases))
}

fn of(name: &str, subject: Subject<'_>, role: Role, phases: RangeInclusive<u8>) -> Outcome {
    let whole = run(subject, None);
    let Some(expected) = Expected::of(&whole) else {
        return Outcome::Failed(format!("without a fault: {}", whole.text));
    };
    let calls = calls_of(&whole, role, &phases);
    let mut count = Count::default();
    let (every, first) = stride(calls.len());
    for nth in (first..).step_by(every) {
        let ways = ways(calls.get(nth));
        if ways.is_empty() {
            count.calls += 1;
            count.cannot_fail += 1;
        }
        let mut was_hit = true;
        for way in &ways {
            let fault = Fault::at(role, nth, Deed::FailPlausibly(*way));
            let run = run(subject, Some(fault.within(phases.clone())));
            was_hit &= count.add(way == &ways[0], &run, &expected);
        }
        if !was_hit {
            break;
        }
    }
    count.tell(name, every)
}

/// Which plausible ways of failing are new: not how it ends anyway. A call
/// that was not seen without a fault has one.
pub(crate) fn ways(call: Option<&Call>) -> Vec<usize> {
    let Some(call) = call else { return vec![0] };
    let ways = plausible(call).into_iter().enumerate();
    ways.filter(|(_, way)| call.error() != Some(way.errno()))
        .map(|(at, _)| at)
        .collect()
}

/// In the daily form every so many calls, beginning with another each day.
pub(crate) fn stride(calls: usize) -> (usize, usize) {
    if !cloison_tests::quick() {
        return (1, 0);
    }
    let every = (calls / 10).max(1);
    let day = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 86_400);
    (every, usize::try_from(day).unwrap_or(0) % every)
}

pub(crate) fn calls_of(whole: &Run, role: Role, phases: &RangeInclusive<u8>) -> Vec<Call> {
    let calls = whole.trace.calls.iter();
    calls
        .filter(|call| call.role == role && phases.contains(&call.phase))
        .cloned()
        .collect()
}

impl Count {
    /// Judges one run; whether it was hit at all.
    fn add(&mut self, is_first: bool, run: &Run, expected: &Expected) -> bool {
        let (Some(hit), Some(call)) = (&run.trace.hit, run.trace.hit_call()) else {
            return false;
        };
        self.calls += usize::from(is_first);
        let Some(injection) = hit.injection else {
            return true;
        };
        self.failures += 1;
        self.slowest = self.slowest.max(run.lasted);
        let mut wrong = run.wrong.clone();
        match judge(run, call, injection.errno(), expected) {
            Ok(Verdict::Error) => {
                self.errors += 1;
                self.note_step(run, call);
            }
            Ok(Verdict::Status) => self.told_by_status += 1,
            Ok(Verdict::Survived(reason)) => *self.survived.entry(reason).or_default() += 1,
            Ok(Verdict::NoMemory) => self.without_memory += 1,
            Err(why) => wrong.push(why),
        }
        if run.lasted > Duration::from_secs(5) {
            println!("slow: {:?} {call} {:?}", run.lasted, injection.errno());
        }
        for mut wrong in wrong {
            wrong.truncate(wrong.floor_char_boundary(SHOWN_BYTES));
            self.wrong.push(format!("{call}: {wrong}"));
        }
        true
    }

    /// Which step of a second command failed.
    fn note_step(&mut self, run: &Run, call: &Call) {
        let error = run.said.as_ref().and_then(|said| said.error());
        if call.role == Role::Starting
            && let Some(error) = error
        {
            let step = error.split(':').next().unwrap_or_default().to_owned();
            *self.exec_steps.entry(step).or_default() += 1;
        }
    }

    fn tell(self, name: &str, every: usize) -> Outcome {
        println!(
            "{REPORT}{}: {} calls (every {every}.), {} failures: {} errors{}, {} told by the \
             status, {} without memory, survived {:?}; {} cannot fail; slowest {:?}; wrong: {}",
            name,
            self.calls,
            self.failures,
            self.errors,
            if self.exec_steps.is_empty() {
                String::new()
            } else {
                format!(" {:?}", self.exec_steps)
            },
            self.told_by_status,
            self.without_memory,
            self.survived,
            self.cannot_fail,
            self.slowest,
            self.wrong.len(),
        );
        if self.failures == 0 {
            return Outcome::Failed("nothing failed: blind".to_owned());
        }
        if self.wrong.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(self.wrong.join("\n"))
        }
    }
}

pub(crate) enum Verdict {
    Error,
    /// The launch went well, and the sandbox's status says that it failed.
    Status,
    Survived(&'static str),
    NoMemory,
}

/// Whether the run ended as it may: in an error and with nothing run, or
/// whole.
pub(crate) fn judge(
    run: &Run,
    call: &Call,
    errno: nix::errno::Errno,
    expected: &Expected,
) -> Result<Verdict, String> {
    let Some(said) = &run.said else {
        let is_killed = matches!(run.trace.ending(Role::Caller), Some(Ending::Signaled(_)));
        if is_killed && call.role == Role::Caller && MEMORY.contains(&call.name()) {
            return Ok(Verdict::NoMemory);
        }
        return Err(format!(
            "the caller ended by {}: {}",
            run.ending(),
            run.text
        ));
    };
    if said.descriptors["kept"] != 0 && allowed::keeps(call).is_none() {
        return Err(format!("descriptors are left: {}", said.descriptors));
    }
    if said.descriptors["spawners"]
        .as_u64()
        .is_some_and(|open| open > 4)
    {
        return Err(format!(
            "the spawner keeps descriptors: {}",
            said.descriptors
        ));
    }
    if call.role == Role::Init
        && errno == nix::errno::Errno::EINTR
        && !run.trace.hit.as_ref().is_some_and(|hit| hit.is_repeated)
    {
        return Err("a signal came between, and the init does not make it again".to_owned());
    }
    if said.error().is_some() {
        let may_run = said.launch["started"] == true
            || call.role == Role::Caller && run.bytes_told() >= expected.bytes_told;
        if run.ran && !may_run {
            return Err(format!("the command ran, and then: {}", said.launch));
        }
        return Ok(Verdict::Error);
    }
    let is_repeated = run.trace.hit.as_ref().is_some_and(|hit| hit.is_repeated);
    let posture = said.posture();
    let is_inside = matches!(call.role, Role::Init | Role::Starting);
    if is_inside && said.launch["status"] != expected.status {
        return Ok(Verdict::Status);
    }
    if posture.as_ref() != Some(&expected.posture) && !allowed::changes_posture(call) {
        if call.role == Role::Caller
            && call.phase > 1
            && posture
                .as_ref()
                .is_some_and(|posture| differs_by_unreadable(posture, &expected.posture))
        {
            return Ok(Verdict::Survived("inspect says that it could not read it"));
        }
        let differences = posture.map(|posture| differences(&posture, &expected.posture));
        let differences = Value::from(differences.unwrap_or_default());
        return Err(format!("another posture: {differences}"));
    }
    if said.launch["status"] != expected.status {
        return Err(format!("another status: {}", said.launch["status"]));
    }
    if !run.ran {
        return Err("it is said to have run and has not".to_owned());
    }
    match allowed::reason(call, errno, is_repeated) {
        Some(reason) => Ok(Verdict::Survived(reason)),
        None => Err("nobody noticed, and it is not listed".to_owned()),
    }
}

/// The facts that are not as expected, then what was expected of them.
fn differences(found: &[Value; 2], expected: &[Value; 2]) -> Vec<Value> {
    let facts = |posture: &[Value; 2]| -> Vec<Value> {
        let facts = posture.iter().filter_map(Value::as_array).flatten();
        facts.cloned().collect()
    };
    let expected = facts(expected);
    let mut found = facts(found);
    found.retain(|fact| !expected.contains(fact));
    let was = expected
        .into_iter()
        .filter(|fact| found.iter().any(|f| f["field"] == fact["field"]));
    let was: Vec<Value> = was.collect();
    found.extend(was);
    found
}

/// Whether all that a running sandbox's posture says otherwise than expected is
/// that it could not be read, and the held one's is the same.
fn differs_by_unreadable([held, running]: &[Value; 2], expected: &[Value; 2]) -> bool {
    let [expected_held, expected_running] = expected;
    let (Some(facts), Some(expected)) = (running.as_array(), expected_running.as_array()) else {
        return false;
    };
    held == expected_held
        && facts.len() == expected.len()
        && facts.iter().zip(expected).all(|(fact, expected)| {
            fact == expected
                || fact["field"] == expected["field"] && fact["known"].get("unreadable").is_some()
        })
}
