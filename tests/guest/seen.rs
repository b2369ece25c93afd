//! What is seen in guests, written down as it is seen.

use std::sync::Mutex;

use cloison_tests::chain;
use cloison_tests::guest::{AllSeen, Counts, GuestKernel, Seen};

use crate::Result;

static SEEN: Mutex<AllSeen> = Mutex::new(AllSeen(std::collections::BTreeMap::new()));

/// Changes what is known of a kernel, and writes all of it down.
pub(crate) fn note(kernel: GuestKernel, change: impl FnOnce(&mut Seen)) -> Result {
    let mut all = SEEN.lock().unwrap();
    let seen = all.0.entry(kernel.name().to_owned()).or_default();
    seen.release = kernel.release().map_err(|error| chain(&error))?;
    change(seen);
    all.write().map_err(|error| chain(&error).into())
}

/// Adds what a target said of its cases.
pub(crate) fn count(kernel: GuestKernel, counts: &Counts) -> Result {
    note(kernel, |seen| {
        seen.passed += counts.passed;
        seen.failed += counts.failed;
        seen.skipped.extend(counts.skipped.iter().cloned());
    })
}

/// All cases of all kernels.
pub(crate) fn total() -> Counts {
    let mut total = Counts::default();
    for seen in SEEN.lock().unwrap().0.values() {
        total.passed += seen.passed;
        total.failed += seen.failed;
        total.skipped.extend(seen.skipped.iter().cloned());
    }
    total
}

/// The README claims what was seen, no more and no less.
pub(crate) fn is_in_the_readme() -> Result {
    let all = SEEN.lock().unwrap();
    if all.0.len() < GuestKernel::ALL.len() {
        return Err("not every kernel was seen in this run".into());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(path)?;
    match all.spliced(&readme) {
        Some(fresh) if fresh == readme => Ok(()),
        Some(_) => Err(format!("run `cargo xtask compat`; seen:\n{}", all.table()).into()),
        None => Err("the README has no place for the table".into()),
    }
}
