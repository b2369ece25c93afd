//! After any power cut a file of the state is the old one or the new one.
//!
//! A guest writes files of state to a disk of which QEMU logs every write and
//! every flush, in order. Then moments are drawn, and for each the disk is made
//! as a power cut would have left it: with all that had been flushed, and of the
//! rest some writes, none or all, also torn, by whole blocks. A second guest
//! mounts each and compares every file with what had been acknowledged.
//!
//! The writer is the library's own, [`cloison::StateDirectory`]. In the controls
//! too: there a filter has the kernel say that a flush was done that was not.
//!
//! No root, no stage: all is done in guests. `CLOISON_POWER_CUTS` says how many
//! cuts, `CLOISON_POWER_SEED` from which seed: it decides what is written and
//! what is lost, while how far the writer comes is a matter of time.
//!
//! ```text
//! CLOISON_GUESTS=1 CLOISON_POWER_CUTS=200 cargo test -p cloison-tests --test power
//! ```
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod checker;
mod layout;
mod load;
mod log;
mod trial;
mod writer;

use std::error::Error;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Serialize;
use serde::de::DeserializeOwned;

use writer::LeftOut;

type Failure = Box<dyn Error>;

/// A trial, by name.
type Named = (&'static str, fn() -> Result<(), Failed>);

const IN_GUESTS: [Named; 4] = [
    ("power_cut_leaves_the_old_file_or_the_new_one", trial::keeps),
    ("power_cut_without_any_flush_is_noticed", || {
        trial::loses(LeftOut::Both)
    }),
    ("power_cut_without_flushes_of_files_is_noticed", || {
        trial::loses(LeftOut::Files)
    }),
    (
        "power_cut_without_flushes_of_the_directory_is_noticed",
        || trial::loses(LeftOut::Directory),
    ),
];

/// The variable that asks for guests: they take longer than all else.
const WANTED: &str = "CLOISON_GUESTS";
/// What a guest of the house is told by.
const IN_GUEST: &str = "CLOISON_IN_GUEST";

/// The parts that this program plays in guests.
const WRITE: &str = "--write";
const CHECK: &str = "--check";

/// The disks, by their names in the guest.
const STATE_DISK: &str = "state";
const SYSTEM_DISK: &str = "system";
const LOG_DISK: &str = "log";
const SCRATCH_DISK: &str = "scratch";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [part, told] = words.as_slice()
        && std::env::var_os(IN_GUEST).is_some()
    {
        let played = match part.as_str() {
            WRITE => play(told, writer::write),
            _ => play(told, checker::check),
        };
        return played.map_or_else(
            |error| {
                println!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    try_all()
}

/// Does what it is told in JSON, and prints what came of it in the same form.
fn play<T: DeserializeOwned, R: Serialize>(
    told: &str,
    part: impl FnOnce(&T) -> Result<R, Failure>,
) -> Result<(), Failure> {
    let said = part(&serde_json::from_str(told)?)?;
    println!("{}", serde_json::to_string(&said)?);
    Ok(())
}

fn try_all() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The processors of a guest take turns on one of this machine's.
    let processors = std::thread::available_parallelism();
    arguments.test_threads = Some(processors.map_or(1, usize::from));
    let mut trials = vec![Trial::test(
        "cut_disk_has_what_was_flushed",
        trial::cuts_are_as_drawn,
    )];
    let mut left_out = 0;
    let are_wanted = std::env::var_os(WANTED).is_some();
    for (name, run) in IN_GUESTS {
        if are_wanted || arguments.list {
            trials.push(Trial::test(name, run));
        } else {
            println!("{name}: SKIPPED: guests are booted where {WANTED} is set (.ci/run)");
            left_out += 1;
        }
    }
    let list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !list {
        println!(
            "{} passed, {} failed, {left_out} skipped",
            conclusion.num_passed, conclusion.num_failed
        );
    }
    conclusion.exit_code()
}
