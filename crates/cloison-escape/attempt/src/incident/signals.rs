//! Signals: every process that is seen or guessed.

use std::collections::BTreeSet;

use super::attacker::Tally;
use super::{calls, files, guard};

const GUESSES_MAX: i32 = 8192;
const SIGKILL: i32 = 9;

/// Asks of every process whether it can be signalled; kills the clerks. Any
/// other process is left alone, reachable or not.
pub(super) fn reach() -> Tally {
    let mut tally = Tally::default();
    let mut candidates: BTreeSet<i32> = (1..=GUESSES_MAX).collect();
    candidates.extend(files::visible_processes());
    for pid in candidates {
        match calls::kill(pid, 0) {
            Ok(_) if guard::is_called(pid, guard::CLERK) => {
                tally.count(&calls::kill(pid, SIGKILL));
            }
            Ok(_) => {}
            Err(errno) => tally.count::<()>(&Err(errno)),
        }
    }
    tally
}
