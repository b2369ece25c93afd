//! Other kernels than this machine's keep the same promises, or are refused.
//!
//! Each trial boots guests (`tests/src/guest.rs`); no root, no stage: what
//! needs both is done inside. What a trial saw, it writes down for the closing
//! table and for the README (`target/guests/seen.json`).
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod expected;
mod old;
mod seen;
mod supported;

use std::process::ExitCode;
use std::sync::OnceLock;

use cloison_tests::chain;
use cloison_tests::guest::{End, Guest, GuestKernel, Programs};
use libtest_mimic::{Arguments, Failed, Trial};

/// How a trial of guests ended, when it did not fail at once.
type Result<T = ()> = std::result::Result<T, Failed>;

/// A trial, by name.
type Named = (&'static str, fn() -> Result);

/// The variable that asks for guests: they take longer than all else.
const WANTED: &str = "CLOISON_GUESTS";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The processors of a guest take turns on one of this machine's.
    let processors = std::thread::available_parallelism();
    arguments.test_threads = Some(processors.map_or(1, usize::from));
    let mut trials = Vec::new();
    let mut left_out = 0;
    let all: [Named; 6] = [
        ("guest_says_how_its_command_ended", says_its_end),
        ("kernel_5_10_is_refused_layer_by_layer", old::refused),
        ("kernel_6_1_keeps_the_promises", || {
            supported::keeps(GuestKernel::V6_1)
        }),
        ("kernel_6_12_keeps_the_promises", || {
            supported::keeps(GuestKernel::V6_12)
        }),
        ("kernel_7_3_keeps_the_promises", || {
            supported::keeps(GuestKernel::V7_3)
        }),
        ("systemd_delegates_to_a_sandbox", supported::with_systemd),
    ];
    // It is about what the others saw.
    let last: Named = ("readme_claims_what_was_seen", seen::is_in_the_readme);
    let are_wanted = std::env::var_os(WANTED).is_some();
    for (name, run) in all.into_iter().chain([last]) {
        if are_wanted || arguments.list {
            trials.push(Trial::test(name, run));
        } else {
            println!("{name}: SKIPPED: guests are booted where {WANTED} is set (.ci/run)");
            left_out += 1;
        }
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let last = if are_wanted { trials.pop() } else { None };
    let mut conclusion = libtest_mimic::run(&arguments, trials);
    let after = libtest_mimic::run(&arguments, last.into_iter().collect());
    conclusion.num_passed += after.num_passed;
    conclusion.num_failed += after.num_failed;
    let inside = seen::total();
    println!(
        "{} passed, {} failed, {} skipped",
        conclusion.num_passed as usize + inside.passed,
        conclusion.num_failed as usize + inside.failed,
        left_out + inside.skipped.len(),
    );
    if conclusion.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The programs, found and packed once.
fn programs() -> Result<&'static Programs> {
    static PROGRAMS: OnceLock<std::result::Result<Programs, String>> = OnceLock::new();
    let built = PROGRAMS.get_or_init(|| Programs::build().map_err(|error| chain(&error)));
    built.as_ref().map_err(|error| error.clone().into())
}

/// The output of a guest and how its command ended.
fn run(guest: &Guest) -> Result<(End, String)> {
    let ended = guest.run(programs()?, &mut std::io::sink());
    let ended = ended.map_err(|error| chain(&error))?;
    println!(
        "{} {:?}: {:.0} s",
        guest.kernel,
        guest.command,
        ended.lasted.as_secs_f64()
    );
    Ok((ended.end, ended.output))
}

fn says_its_end() -> Result {
    let says = ["sh", "-c", "echo said; uname -r; exit 3"];
    let guest = Guest::new(GuestKernel::V6_12, &says);
    let (end, output) = run(&guest)?;
    let wanted = format!("said\n{}\n", guest.kernel.release()?);
    if (&end, &output) != (&End::Exited(3), &wanted) {
        return Err(format!("{end:?}, {output:?}").into());
    }
    let killed = Guest::new(GuestKernel::V6_12, &["sh", "-c", "kill -9 $$"]);
    let (end, output) = run(&killed)?;
    if end != End::Signalled(9) {
        return Err(format!("{end:?}, {output:?}").into());
    }
    Ok(())
}
