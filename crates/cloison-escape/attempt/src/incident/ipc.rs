//! System V objects, by their place in the kernel's tables, and POSIX
//! message queues.

use std::ffi::CString;
use std::fs;

use super::attacker::Tally;
use super::{calls, guard};

const PLACES_MAX: i64 = 1024;

/// Tries segments, semaphores, message queues of both kinds.
pub(super) fn reach() -> Tally {
    let mut tally = Tally::default();
    for place in 0..PLACES_MAX {
        tally_unless_other(&mut tally, take_segment(place));
        tally_unless_other(&mut tally, take_semaphore(place));
        tally_unless_other(&mut tally, take_messages(place));
    }
    match fs::read_dir("/dev/mqueue") {
        Err(error) => tally.count_io::<()>(&Err(error)),
        Ok(entries) => {
            for entry in entries.flatten() {
                let name = entry.file_name().into_encoded_bytes();
                if let Ok(name) = CString::new(name) {
                    tally_unless_other(&mut tally, take_queue(&name));
                }
            }
        }
    }
    tally
}

/// Objects that are no canaries are left alone and not counted.
fn tally_unless_other(tally: &mut Tally, outcome: Result<bool, i32>) {
    if outcome != Ok(false) {
        tally.count(&outcome);
    }
}

fn take_segment(place: i64) -> Result<bool, i32> {
    let (id, bytes) = calls::segment_at(place)?;
    let mut segment = calls::Segment::attach(id, bytes.min(4096))?;
    let canary = guard::is_canary(&segment.read());
    if canary {
        segment.write(guard::TAKEN);
    }
    Ok(canary)
}

fn take_semaphore(place: i64) -> Result<bool, i32> {
    let id = calls::semaphore_at(place)?;
    let canary = calls::semaphore(id)? == guard::SEMAPHORE;
    if canary {
        calls::set_semaphore(id, 0)?;
    }
    Ok(canary)
}

fn take_messages(place: i64) -> Result<bool, i32> {
    let id = calls::messages_at(place)?;
    let canary = guard::is_canary(&calls::peek_message(id)?);
    if canary {
        calls::take_message(id)?;
    }
    Ok(canary)
}

fn take_queue(name: &std::ffi::CStr) -> Result<bool, i32> {
    // Its name says so, since a message cannot be looked at without taking it.
    if !name.to_bytes().starts_with(b"cloison-canary-") {
        return Ok(false);
    }
    let queue = calls::open_queue(name)?;
    calls::receive_from_queue(queue)?;
    calls::send_to_queue(queue, guard::TAKEN)?;
    Ok(true)
}
