//! What a noisy neighbour costs: the 99th percentile of a small service's
//! requests at rest, beside each attack, and beside the attack without its limit.
//!
//! Arguments: `--seconds N` for each attack (20 by default; its control and the
//! service at rest have half of that), and parts of the names of attacks.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cloison_escape::stage::{self, Place};
use cloison_tests::noisy::{ATTACKS, Host, Requests, enclosure};

/// What a neighbour may be slowed down by.
const TARGET: f64 = 3.0;
/// What a control slows it down by at least, or fails it.
const CONTROL: f64 = 10.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let ended = match stage::enter() {
        Ok(Place::Outside) => outside(),
        Ok(Place::First(first)) => first.run().map_err(Into::into),
        Ok(Place::Inside(_)) => inside().map(|()| 0),
        Err(refusal) => Err(refusal.into()),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn outside() -> Result<u8> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let mut enclosure = enclosure();
    enclosure.limits.wall_clock_s_max = Some(30 * 60);
    Ok(enclosure.run(Path::new("/proc/self/exe"), &arguments)?)
}

fn inside() -> Result<()> {
    let mut lasting = Duration::from_secs(20);
    let mut parts = Vec::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--seconds" => {
                let seconds = arguments.next().ok_or("a number is missing")?;
                lasting = Duration::from_secs(seconds.parse()?);
            }
            _ => parts.push(argument),
        }
    }
    let host = Host::new()?;
    println!(
        "| attack | at rest, p99 ms | under attack, p99 ms | ratio | failed | without the limit | \
         failed | verdict |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for attack in ATTACKS {
        if !parts.is_empty() && !parts.iter().any(|part| attack.name.contains(part.as_str())) {
            continue;
        }
        if let Some(lacking) = (attack.lacks)() {
            println!("| {} | SKIPPED: {lacking} | | | | | | |", attack.name);
            continue;
        }
        let rest = host.at_rest(lasting / 2)?;
        let under = host.under(attack, lasting)?;
        let control = host.control(attack, lasting / 2)?;
        let ratio = ratio(&under.requests, &rest);
        let is_met = ratio <= TARGET && under.requests.failed == 0;
        let control_ratio = self::ratio(&control.requests, &rest);
        let is_alive = control_ratio >= CONTROL || control.requests.failed > 0;
        println!(
            "| {} | {:.1} | {:.1} | {ratio:.2} | {} of {} | {control_ratio:.2} | {} of {} | {}{} |",
            attack.name,
            milliseconds(&rest),
            milliseconds(&under.requests),
            under.requests.failed,
            all(&under.requests),
            control.requests.failed,
            all(&control.requests),
            if is_met { "met" } else { "MISSED" },
            if is_alive { "" } else { ", control harmless" },
        );
    }
    Ok(())
}

fn milliseconds(requests: &Requests) -> f64 {
    requests.p99().as_secs_f64() * 1000.0
}

fn all(requests: &Requests) -> usize {
    requests.failed + requests.times.len()
}

fn ratio(under: &Requests, rest: &Requests) -> f64 {
    under.p99().as_secs_f64() / rest.p99().as_secs_f64().max(1e-6)
}
