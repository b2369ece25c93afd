//! `docs/seccomp-compared.md`: what was reached under each profile.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cloison_sandbox::seccomp::{self, Profile};
use cloison_tests::{Outcome, docker};

use crate::UNFILTERED;
use crate::trial::{Call, NUMBERS_END};

/// Where the page is.
pub(crate) const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/seccomp-compared.md");

const KERNEL: &str = "Tried on Linux ";

/// Whose the values are that Docker's profile compares with.
pub(crate) const DOCKERS: &str = "Docker's";

/// Arguments that were tried, and what is shown of them.
pub(crate) struct Sample {
    /// A rule of `app`, or that Docker has rules for this call.
    pub(crate) whose: String,
    pub(crate) call: Call,
}

/// The arguments that each rule of `app` denies, and those that Docker's
/// profile compares with.
pub(crate) fn samples(dockers: &[docker::Rule]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for rule in Profile::app().rules() {
        for number in rule.calls {
            samples.extend(rule.denied.iter().map(|arguments| Sample {
                whose: rule.name.to_owned(),
                call: Call {
                    number: *number,
                    arguments: Some(*arguments),
                },
            }));
        }
    }
    for rule in dockers {
        // A mask tells of no single value: its calls are among those above.
        let values = rule
            .args
            .iter()
            .flatten()
            .filter(|one| one.op == "SCMP_CMP_EQ");
        let (values, names) = (values.collect::<Vec<_>>(), rule.names.iter());
        for number in names.filter_map(|name| seccomp::call_number(name)) {
            let mut arguments = [0; 6];
            for value in &values {
                if let Some(place) = arguments.get_mut(value.index as usize) {
                    *place = u32::try_from(value.value).unwrap_or(u32::MAX);
                }
            }
            samples.extend((!values.is_empty()).then(|| Sample {
                whose: DOCKERS.to_owned(),
                call: Call {
                    number,
                    arguments: Some(arguments),
                },
            }));
        }
    }
    samples
}

/// What came of the trials under one profile.
pub(crate) struct Reached {
    pub(crate) numbers: BTreeSet<u32>,
    /// For each sample.
    pub(crate) samples: Vec<bool>,
}

/// The whole page.
pub(crate) fn page(samples: &[Sample], ours: &Reached, dockers: &Reached) -> String {
    let kernel = docker::running_kernel()
        .map_or_else(String::new, |(major, minor)| format!("{major}.{minor}"));
    let count = |numbers: BTreeSet<u32>| numbers.len();
    let mut text = format!(
        "# `app` beside Docker's default profile

Made by `cargo xtask compared`; a test tries all of it again and compares.
{KERNEL}{kernel}, x86-64. Docker's is `default.json` of Docker Engine 20.10, for
a container with no capability added or dropped.

Each number from 0 to {} was issued below each profile, in a process of its own,
with arguments that mean nothing. *Reached* is what the kernel itself answered.
In the first table a number counts as reached if any arguments pass.

| | calls |
| --- | --- |
| reached under `app` | {} |
| reached under Docker's default | {} |
| under both | {} |
| under `app` only | {} |
| under Docker's default only | {} |

## Calls

A number without a name is listed only where it is reached. {} pass by every
filter since Linux 6.14.

| call | number | `app` | Docker's default |
| --- | --- | --- | --- |
",
        NUMBERS_END - 1,
        ours.numbers.len(),
        dockers.numbers.len(),
        count(&ours.numbers & &dockers.numbers),
        count(&ours.numbers - &dockers.numbers),
        count(&dockers.numbers - &ours.numbers),
        UNFILTERED.map(|name| format!("`{name}`")).join(" and "),
    );
    let word = |reached: bool| if reached { "reached" } else { "-" };
    for number in 0..NUMBERS_END {
        let both = [ours, dockers].map(|side| side.numbers.contains(&number));
        let name = match seccomp::call_name(number) {
            Some(name) => name.to_owned(),
            None if both == [false; 2] => continue,
            None => "no name".to_owned(),
        };
        let [ours, dockers] = both.map(word);
        row(&mut text, &[&name, &number.to_string(), ours, dockers]);
    }
    text.push_str(
        "
## Arguments

Below the whole profiles: what each rule of `app` denies, and the values that
Docker's profile compares with. The other arguments are 0.

| rule | call | arguments | `app` | Docker's default |
| --- | --- | --- | --- | --- |
",
    );
    let reached = ours.samples.iter().zip(&dockers.samples);
    for (sample, (ours, dockers)) in samples.iter().zip(reached) {
        let name = seccomp::call_name(sample.call.number).unwrap_or("no name");
        let arguments = shown(sample.call);
        let cells = [&sample.whose, name, &arguments, word(*ours), word(*dockers)];
        row(&mut text, &cells);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    // Writing to a string does not fail.
    writeln!(text, "| {} |", cells.join(" | ")).unwrap_or_default();
}

fn shown(call: Call) -> String {
    let arguments = call.arguments.unwrap_or_default();
    let used = arguments
        .iter()
        .rposition(|one| *one != 0)
        .map_or(1, |last| last + 1);
    let words: Vec<String> = arguments
        .iter()
        .take(used)
        .map(|one| format!("{one:#x}"))
        .collect();
    format!("`{}`", words.join(", "))
}

/// The first line of `written` that is not as tried, beside the kernel's.
pub(crate) fn stale(written: &str, tried: &str) -> Option<String> {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with(KERNEL));
        lines.map(str::to_owned).collect()
    };
    let (written, tried) = (lines(written), lines(tried));
    if written.len() != tried.len() {
        return Some(format!("{} lines, tried {}", written.len(), tried.len()));
    }
    let mut pairs = written.iter().zip(&tried);
    let (written, tried) = pairs.find(|(written, tried)| written != tried)?;
    Some(format!("written `{written}`, tried `{tried}`"))
}

/// A case: a changed line is found, another kernel is not a change.
pub(crate) fn staleness() -> Outcome {
    let page = |kernel: &str, cell: &str| format!("# A\n{KERNEL}{kernel}, b\n| read | {cell} |\n");
    let written = page("6.1", "reached");
    assert_eq!(stale(&written, &page("7.3", "reached")), None);
    assert!(stale(&written, &page("6.1", "-")).is_some());
    assert!(stale(&written, &format!("{written}more\n")).is_some());
    Outcome::Passed
}
