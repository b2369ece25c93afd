//! Every escape probe: alive in its control, stopped by the whole sandbox and
//! by one with any single layer missing.
//!
//! `CLOISON_PROBES=without-knock-outs` leaves the last out: for guests, whose
//! processors are emulated, and where only what differs with the kernel is in
//! question. `CLOISON_PROBE` names a single one to look at.

use cloison_escape::probes::{PROBES, Runner, Summary, Sweep, as_odd_caller};
use cloison_sandbox::{Kernel, Layer, LayerVerdict, WaiverError, Waivers};
use cloison_tests::{Case, Outcome, REPORT, chain};

const CASES: &[Case] = &[Case::new("no_probe_gets_through", no_probe_gets_through).lasting_s(600)];

const SWEEP: &str = "CLOISON_PROBES";
const WITHOUT_KNOCK_OUTS: &str = "without-knock-outs";

fn main() -> std::process::ExitCode {
    if let Some(code) = as_odd_caller() {
        return code;
    }
    cloison_tests::main(CASES)
}

fn no_probe_gets_through() -> Outcome {
    let kernel = match Kernel::probe() {
        Ok(kernel) => kernel,
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let waivers = match waivers(&kernel) {
        Ok(waivers) => waivers,
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let runner = match Runner::new(&kernel, &waivers) {
        Ok(runner) => runner,
        Err(error) => return Outcome::Failed(chain(&error)),
    };
    let sweep = match sweep() {
        Ok(sweep) => sweep,
        Err(error) => return Outcome::Failed(error),
    };
    let mut outcomes = Vec::new();
    for probe in PROBES {
        if let Ok(only) = std::env::var("CLOISON_PROBE")
            && only != probe.id
        {
            continue;
        }
        match runner.run(probe, sweep) {
            Ok(outcome) => {
                say(&outcome.to_string());
                outcomes.push(outcome);
            }
            Err(error) => say(&format!("{} FAILED: {}", probe.id, chain(&error))),
        }
    }
    let summary = Summary::of(PROBES.len(), &outcomes);
    say(&summary.to_string());
    if summary.is_good() {
        Outcome::Passed
    } else {
        Outcome::Failed(summary.to_string())
    }
}

/// The sweep that is asked for; it is said which one it is.
fn sweep() -> Result<Sweep, String> {
    let asked = std::env::var(SWEEP).ok();
    match asked.as_deref() {
        None => {
            say("sweep: control, whole, each layer left out and left alone");
            Ok(Sweep::Full)
        }
        Some(WITHOUT_KNOCK_OUTS) => {
            say("sweep: control and whole, NO layer left out or left alone");
            Ok(Sweep::WithoutKnockOuts)
        }
        Some(other) => Err(format!("{SWEEP} is {other:?}, not {WITHOUT_KNOCK_OUTS:?}")),
    }
}

/// What this kernel lacks of what may be lacking.
fn waivers(kernel: &Kernel) -> Result<Waivers, WaiverError> {
    let mut waivers = Waivers::none();
    for layer in Layer::ALL.into_iter().filter(|layer| layer.is_waivable()) {
        if let LayerVerdict::Unavailable(_) = kernel.verdict(layer, &waivers) {
            say(&format!(
                "waived for the probes, this kernel lacks it: {layer}"
            ));
            waivers.waive(layer, "the kernel of this test lacks it")?;
        }
    }
    Ok(waivers)
}

/// Says something that the runner shows also of a case that passed.
fn say(text: &str) {
    for line in text.lines() {
        println!("{REPORT}{line}");
    }
}
