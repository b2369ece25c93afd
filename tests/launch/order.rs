//! The order of the child: each adjacent pair of steps, swapped, against the
//! table in ARCHITECTURE.md.

use std::collections::BTreeSet;

use cloison_sandbox::{Error, Layer, Weakening};
use cloison_tests::Outcome;

use crate::ground::{hold, plan, spec};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// Pairs in which the parent races with the child when they are swapped.
const RACES: [(&str, &str); 2] = [
    ("seccomp: installing a seccomp program", "reporting"),
    ("waiting", "executing"),
];

/// One row: what comes first, what second, what comes of swapping them.
type Row = (String, String, String);

/// The rows of the table, without the reason, which a person reads.
fn documented() -> BTreeSet<Row> {
    ARCHITECTURE
        .lines()
        .skip_while(|line| !line.starts_with("| first step"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((
                cells.next()?.to_owned(),
                cells.next()?.to_owned(),
                cells.next()?.trim_matches('*').to_owned(),
            ))
        })
        .collect()
}

fn name((layer, step): &(Option<Layer>, &str)) -> String {
    match layer {
        Some(layer) => format!("{layer}: {step}"),
        None => (*step).to_owned(),
    }
}

/// Swaps each pair in turn and says what came of it.
pub(crate) fn every_adjacent_pair() -> Outcome {
    let mut spec = spec("order", &["/usr/bin/true"]);
    // An ordinary user inside: more of the order matters to it.
    spec.user = 1000;
    spec.group = 1000;
    let steps = match plan(&spec, Vec::new()) {
        Ok(plan) => plan.steps(),
        Err(error) => return Outcome::Failed(format!("{error:?}")),
    };
    let mut measured = BTreeSet::new();
    for (at, pair) in steps.windows(2).enumerate() {
        let [first, second] = pair else { continue };
        if first == second {
            continue;
        }
        let (first_name, second_name) = (name(first), name(second));
        if RACES.contains(&(first_name.as_str(), second_name.as_str())) {
            // Swapped it would at times be held: the table says what the
            // slower side would miss, and there is nothing to measure.
            measured.insert((first_name, second_name, "weakens".to_owned()));
            continue;
        }
        let verdict = match hold(&spec, vec![Weakening::Swapped(at)]) {
            Ok(_) => "indifferent",
            Err(Error::PostureDiffers(_)) => "weakens",
            Err(_) => "fails",
        };
        measured.insert((first_name, second_name, verdict.to_owned()));
    }
    let documented = documented();
    for (first, second, verdict) in measured.difference(&documented) {
        println!("measured, not documented: | {first} | {second} | *{verdict}* | |");
    }
    for (first, second, verdict) in documented.difference(&measured) {
        println!("documented, not measured: | {first} | {second} | *{verdict}* |");
    }
    if measured == documented {
        Outcome::Passed
    } else {
        Outcome::Failed("ARCHITECTURE.md and the child differ".to_owned())
    }
}
