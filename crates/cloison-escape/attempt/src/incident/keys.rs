//! Keys of the kernel, by serial number.

use std::fs;

use super::attacker::Tally;
use super::{calls, guard};

/// Serial numbers tried where none are shown.
const GUESSES: [i64; 8] = [
    1,
    2,
    3,
    0x1000,
    0x0100_0000,
    0x1234_5678,
    0x2000_0000,
    0x3fff_ffff,
];

/// Reads and overwrites each key that is a canary.
pub(super) fn reach() -> Tally {
    let mut tally = Tally::default();
    let listed = fs::read_to_string("/proc/keys");
    if let Err(error) = &listed {
        tally.count::<()>(&Err(error.raw_os_error().unwrap_or(0)));
    }
    let shown = listed.unwrap_or_default();
    let serials = shown.lines().filter_map(serial).chain(GUESSES);
    for serial in serials {
        match take(serial) {
            Ok(false) => {}
            outcome => tally.count(&outcome),
        }
    }
    tally
}

/// The serial number that begins a line of `/proc/keys`.
fn serial(line: &str) -> Option<i64> {
    i64::from_str_radix(line.split_whitespace().next()?, 16).ok()
}

fn take(serial: i64) -> Result<bool, i32> {
    let description = calls::describe_key(serial)?;
    let is_user_key = description.starts_with(b"user;");
    if !is_user_key || !guard::is_canary(&calls::read_key(serial)?) {
        return Ok(false);
    }
    calls::update_key(serial, guard::TAKEN)?;
    Ok(true)
}
