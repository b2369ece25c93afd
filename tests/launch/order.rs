//! The order of the child: each adjacent pair of steps, swapped, against the
//! table in ARCHITECTURE.md.

use std::collections::BTreeSet;

use cloison_sandbox::seccomp::{Filters, Instruction};
use cloison_sandbox::{Error, Layer, LayerVerdict, Spec, Weakening};
use cloison_tests::Outcome;

use crate::ground::{hold, kernel, plan, spec, waivers};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// The pair in which the parent races with the child when they are swapped: at
/// times it looks before the child has done what it should find.
const RACE: (&str, &str) = ("waiting", "executing");

/// The pair that the parent would find only where it looks soon enough: with a
/// program that takes the kernel long it does, on a busy host not at once.
const SLOW: (&str, &str) = ("seccomp: installing a seccomp program", "reporting");

/// What not every host offers. The table is of a plan without them; where a host
/// has them, swapping one with a neighbour must make no difference.
const OF_SOME_HOSTS: [Layer; 2] = [Layer::CoreScheduling, Layer::SpeculationControl];

/// A program that allows everything after four thousand comparisons.
fn slow_filters() -> Filters {
    let instruction = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = vec![instruction(0x20, 0)];
    program.extend((0..4000).map(|at| instruction(0x15, 1 << 20 | at)));
    program.push(instruction(0x06, 0x7fff_0000));
    Filters {
        programs: vec![program],
    }
}

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

/// What comes of launching with a swapped pair; of a race, at its worst.
fn swapped(
    spec: &Spec,
    at: usize,
    names: (&str, &str),
    without: fn() -> Vec<Weakening>,
) -> &'static str {
    let tries = match names {
        RACE => 100,
        SLOW => 20,
        _ => 1,
    };
    let mut verdict = "indifferent";
    for _ in 0..tries {
        let mut weakenings = without();
        weakenings.push(Weakening::Swapped(at));
        if names == SLOW {
            weakenings.push(Weakening::Seccomp(slow_filters()));
        }
        match hold(spec, weakenings) {
            Ok(_) => {}
            Err(Error::PostureDiffers(_)) => return "weakens",
            // The command may also have ended before it was looked at.
            Err(_) if names == RACE => verdict = "fails",
            Err(_) => return "fails",
        }
    }
    verdict
}

fn on_any_host() -> Vec<Weakening> {
    OF_SOME_HOSTS.map(Weakening::Without).into()
}

fn is_of_some_hosts(pair: &[Step]) -> bool {
    let is_its = |layer: Layer| OF_SOME_HOSTS.contains(&layer);
    pair.iter().any(|(layer, _)| layer.is_some_and(is_its))
}

type Step = (Option<Layer>, &'static str);

/// What comes of swapping each pair of neighbours that `counts`.
fn measured(
    spec: &Spec,
    without: fn() -> Vec<Weakening>,
    counts: impl Fn(&[Step]) -> bool,
) -> Result<BTreeSet<Row>, Error> {
    let steps = plan(spec, without())?.steps();
    let mut measured = BTreeSet::new();
    for (at, pair) in steps.windows(2).enumerate() {
        let [first, second] = pair else { continue };
        if first == second || !counts(pair) {
            continue;
        }
        let names = (name(first), name(second));
        let verdict = swapped(spec, at, (&names.0, &names.1), without);
        measured.insert((names.0, names.1, verdict.to_owned()));
    }
    Ok(measured)
}

/// Swaps each pair in turn and says what came of it.
pub(crate) fn every_adjacent_pair() -> Outcome {
    for layer in [Layer::LandlockNetwork, Layer::LandlockScope] {
        if !matches!(kernel().verdict(layer, &waivers()), LayerVerdict::Applied) {
            return Outcome::Skipped(format!("the order is documented with {layer}"));
        }
    }
    let mut spec = spec("order", &["/usr/bin/true"]);
    // An ordinary user inside: more of the order matters to it.
    spec.user = 1000;
    spec.group = 1000;
    let of_any_host = measured(&spec, on_any_host, |_| true);
    let of_this_host = measured(&spec, Vec::new, is_of_some_hosts);
    let (measured, of_this_host) = match (of_any_host, of_this_host) {
        (Ok(measured), Ok(of_this_host)) => (measured, of_this_host),
        (Err(error), _) | (_, Err(error)) => return Outcome::Failed(format!("{error:?}")),
    };
    if let Some(row) = of_this_host.iter().find(|row| row.2 != "indifferent") {
        return Outcome::Failed(format!("{row:?}"));
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
