//! The harness of the privileged tests.
//!
//! A test target is a table of cases and a `main` of one line. The program
//! puts itself on a stage (see [`cloison_escape::stage`]), runs each case in a
//! process of its own, and compares the stage before and after each, and the
//! machine before and after all.
//!
//! To add a target `probes`: in `tests/Cargo.toml`
//!
//! ```toml
//! [[test]]
//! name = "probes"
//! path = "probes.rs"
//! harness = false
//! ```
//!
//! and in `tests/probes.rs`
//!
//! ```no_run
//! use cloison_tests::{Case, Outcome};
//!
//! const CASES: &[Case] = &[
//!     Case::new("tenant_cannot_signal_neighbour", tenant_cannot_signal_neighbour),
//!     Case::new("many_launches_leave_nothing", many_launches_leave_nothing).lasting_s(300),
//! ];
//!
//! fn main() -> std::process::ExitCode {
//!     cloison_tests::main(CASES)
//! }
//!
//! fn tenant_cannot_signal_neighbour() -> Outcome {
//!     Outcome::Passed
//! }
//!
//! fn many_launches_leave_nothing() -> Outcome {
//!     Outcome::Skipped("no second processor".to_owned())
//! }
//! ```
//!
//! A case fails by a panic, by [`Outcome::Failed`], by ending otherwise than
//! by returning, by taking too long, or by leaving something behind: a mount,
//! a cgroup, a link, a process, a System V object, a key, a changed sysctl.
//! It runs as root on the stage, alone, on the main thread of its process, so
//! it may unshare and fork as it likes. The machine's `/tmp` and `/run` are not
//! there.
//!
//! A case that returns [`Outcome::Skipped`] or prints a line that starts with
//! `SKIPPED: ` is skipped, and that fails too unless it was declared: the
//! variable [`EXPECTED_SKIPS`] lists the names of such cases, separated by
//! spaces, commas or lines.
//!
//! With [`quick`], a case that repeats a thing may do so less often.
//!
//! With `--list` the cases are named and nothing else is done: no stage, no
//! root.
//!
//! The last line printed is `N passed, N failed, N skipped`.

mod case;
pub mod chance;
pub mod docker;
pub mod fault;
pub mod guest;
pub mod launcher;
pub mod noisy;
pub mod object_code;
mod runner;
mod snapshot;
pub mod soak;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use cloison_escape::stage::{self, Enclosure, Place};
use libtest_mimic::Arguments;

use runner::Stages;

pub use case::{Case, Outcome, REPORT};
pub use runner::EXPECTED_SKIPS;
pub use snapshot::{Difference, Snapshot};

/// Plays whatever part this process has: outside, process 1 of the stage, the
/// runner on the stage, one case. Call it first thing in `main`.
pub fn main(cases: &'static [Case]) -> ExitCode {
    main_within(&Enclosure::default(), cases)
}

/// Like [`main`], with a stage of one's own measures.
pub fn main_within(enclosure: &Enclosure, cases: &'static [Case]) -> ExitCode {
    play(enclosure, cases, Stages::This)
}

/// Like [`main`] for cases of which none measures time: each has a stage of its
/// own, and as many run at once as there are processors.
pub fn main_side_by_side(cases: &'static [Case]) -> ExitCode {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let stages = match processors {
        // Nothing is gained.
        1 => Stages::This,
        more => Stages::Own(more),
    };
    play(&Enclosure::default(), cases, stages)
}

/// Like [`main_side_by_side`], with the launcher built first.
pub fn main_with_launcher(cases: &'static [Case]) -> ExitCode {
    match launcher::build() {
        Ok(()) => main_side_by_side(cases),
        Err(error) => {
            eprintln!("{error}");
            println!("0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

fn play(enclosure: &Enclosure, cases: &'static [Case], stages: Stages) -> ExitCode {
    let named = case::named_in_arguments();
    match stage::enter() {
        Ok(Place::Outside) if is_listing() => runner::run(cases, stages),
        Ok(Place::Outside) => match (named, stages) {
            (None, Stages::Own(_)) => runner::run(cases, stages),
            _ => outside(&slowed(enclosure)),
        },
        Ok(Place::First(first)) => match first.run() {
            Ok(code) => ExitCode::from(code),
            Err(error) => give_up(&error, error.exit_code()),
        },
        Ok(Place::Inside(_)) => match named {
            Some((case::OWN_STAGE, name)) => runner::run_one(cases, &name),
            Some((_, name)) => case::play(cases, &name),
            None => runner::run(cases, Stages::This),
        },
        Err(refusal) => give_up(&refusal, refusal.exit_code()),
    }
}

/// An error with what caused it, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether the daily form of the tests runs: the variable `CLOISON_QUICK` is
/// set. Fewer repetitions, never fewer promises.
#[must_use]
pub fn quick() -> bool {
    env::var_os("CLOISON_QUICK").is_some()
}

/// Whether this is the first process of a run, which may build what the cases
/// need: it is on no stage, and asked for more than the names of the cases.
fn is_first() -> bool {
    let is_on_stage = env::var_os(stage::ROLE).is_some();
    !is_on_stage && case::named_in_arguments().is_none() && !is_listing()
}

/// Whether the program was asked only to name its cases.
fn is_listing() -> bool {
    // Those of a single case are no arguments of the library's.
    case::named_in_arguments().is_none() && Arguments::from_args().list
}

/// `enclosure`, whose stage may last as many times as long as its cases.
fn slowed(enclosure: &Enclosure) -> Enclosure {
    let mut enclosure = enclosure.clone();
    let seconds = &mut enclosure.limits.wall_clock_s_max;
    *seconds = seconds.map(case::slowed);
    enclosure
}

fn outside(enclosure: &Enclosure) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let before = Snapshot::of_machine();
    let code = match enclosure.run(Path::new("/proc/self/exe"), &arguments) {
        Ok(code) => code,
        Err(error) => {
            println!("0 passed, 1 failed, 0 skipped");
            return give_up(&error, error.exit_code());
        }
    };
    let differences = Snapshot::settled(Snapshot::of_machine, &before);
    if differences.is_empty() {
        return ExitCode::from(code);
    }
    for difference in differences {
        println!("the machine is not as before: {difference}");
    }
    println!("0 passed, 1 failed, 0 skipped");
    ExitCode::FAILURE
}

fn give_up(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("{}", chain(error));
    ExitCode::from(code)
}
