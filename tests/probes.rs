//! Every escape probe: alive in its control, stopped by the whole sandbox and
//! by one with any single layer missing.

use std::error::Error;

use cloison_escape::probes::{PROBES, Runner, Summary, as_odd_caller};
use cloison_sandbox::{Kernel, Layer, LayerVerdict, WaiverError, Waivers};
use cloison_tests::{Case, Outcome, REPORT};

const CASES: &[Case] = &[Case::new("no_probe_gets_through", no_probe_gets_through).lasting_s(600)];

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
    let mut outcomes = Vec::new();
    for probe in PROBES {
        if let Ok(only) = std::env::var("CLOISON_PROBE")
            && only != probe.id
        {
            continue;
        }
        match runner.run(probe) {
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

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
