//! Every system call of the child fails in turn.

use std::collections::{BTreeMap, BTreeSet};

use cloison_linux::steps::Report;
use cloison_tests::fault::{Deed, Fault, Role};
use cloison_tests::{Outcome, REPORT};
use serde_json::Value;

use crate::allowed;
use crate::calls::{calls_of, stride, ways};
use crate::ground::{Run, Subject, run};

#[derive(Default)]
struct Count {
    calls: usize,
    failures: usize,
    /// The steps that were made to fail, by their place in the plan.
    steps: BTreeSet<usize>,
    /// Errors that name no step.
    unnamed: BTreeMap<String, usize>,
    survived: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

/// The launch says which step of which layer failed and why, nothing is left,
/// and the command does not run.
pub(crate) fn every_step() -> Outcome {
    Subject::caller("good", |subject| of("child", subject))
}

/// The same of one with a root, a layer on disk, a covered proc, a sysfs and a
/// terminal of its own.
pub(crate) fn every_step_of_a_rich_one() -> Outcome {
    Subject::rich(|subject| of("rich child", subject))
}

fn of(name: &str, subject: Subject<'_>) -> Outcome {
    let whole = run(subject, None);
    let Some(said) = &whole.said else {
        return Outcome::Failed(format!("without a fault: {whole:?}"));
    };
    let steps = said.descriptors["steps"].as_array().cloned();
    let steps = steps.unwrap_or_default();
    let calls = calls_of(&whole, Role::Child, &(0..=4));
    let mut count = Count::default();
    let (every, first) = stride(calls.len());
    for nth in (first..).step_by(every) {
        let ways = ways(calls.get(nth));
        let mut was_hit = true;
        for way in &ways {
            let fault = Fault::at(Role::Child, nth, Deed::FailPlausibly(*way));
            was_hit &= count.add(way == &ways[0], &run(subject, Some(fault)), &steps);
        }
        if !was_hit {
            break;
        }
    }
    count.tell(name, &steps, every)
}

/// What the child reported: the step and the error number.
fn reported(run: &Run) -> Option<(usize, i32)> {
    let words = |data: [u8; 16]| {
        let mut words = data.chunks_exact(4).map(|word| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(word);
            u32::from_ne_bytes(bytes)
        });
        Some([words.next()?, words.next()?, words.next()?])
    };
    let calls = run.trace.calls.iter().rev();
    let mut said = calls.filter(|call| call.role == Role::Child && call.name() == "write");
    let [kind, step, errno] = words(said.next()?.data?)?;
    (kind == Report::FAILED).then_some((usize::try_from(step).ok()?, errno.cast_signed()))
}

impl Count {
    fn add(&mut self, is_first: bool, run: &Run, steps: &[Value]) -> bool {
        let (Some(hit), Some(call)) = (&run.trace.hit, run.trace.hit_call()) else {
            return false;
        };
        self.calls += usize::from(is_first);
        let Some(injection) = hit.injection else {
            return true;
        };
        self.failures += 1;
        let errno = injection.errno();
        let mut wrong = run.wrong.clone();
        let error = run.said.as_ref().and_then(|said| said.error());
        match (error, reported(run)) {
            (None, _) if run.said.is_none() => wrong.push(format!("it ended: {}", run.text)),
            (None, _) => match allowed::reason(call, errno, hit.is_repeated) {
                Some(reason) => *self.survived.entry(reason).or_default() += 1,
                None => wrong.push("nobody noticed, and it is not listed".to_owned()),
            },
            (Some(error), Some((step, number))) => {
                self.steps.insert(step);
                let layer = steps.get(step).and_then(|step| step[0].as_str());
                let names = layer.is_none_or(|layer| error.starts_with(layer));
                let says = error.contains(&errno.to_string()) || number != errno as i32;
                if !names || !says {
                    wrong.push(format!("step {step} of {layer:?} is told as {error}"));
                }
            }
            (Some(error), None) => {
                let error = error.split(':').next().unwrap_or_default();
                *self
                    .unnamed
                    .entry(format!("{}: {error}", call.name()))
                    .or_default() += 1;
            }
        }
        if error.is_some() && run.ran {
            wrong.push("the command ran".to_owned());
        }
        for wrong in wrong {
            let nth = self.calls - 1;
            self.wrong
                .push(format!("{nth}: {call}, told {errno:?}: {wrong}"));
        }
        true
    }

    fn tell(mut self, name: &str, steps: &[Value], every: usize) -> Outcome {
        println!(
            "{REPORT}{name}: {} of {} steps failed, by {} failures of {} calls (every {every}.); \
             errors without a step: {:?}; survived: {:?}; wrong: {}",
            self.steps.len(),
            steps.len(),
            self.failures,
            self.calls,
            self.unnamed,
            self.survived,
            self.wrong.len(),
        );
        if every == 1 {
            for (at, step) in steps.iter().enumerate() {
                let name = step[1].as_str().unwrap_or_default();
                if !self.steps.contains(&at) && allowed::step_cannot_fail(name).is_none() {
                    self.wrong
                        .push(format!("no call of step {at} failed it: {step}"));
                }
            }
        }
        if self.steps.is_empty() {
            return Outcome::Failed("no step failed: blind".to_owned());
        }
        if self.wrong.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(self.wrong.join("\n"))
        }
    }
}
