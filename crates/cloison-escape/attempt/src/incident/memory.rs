//! Processes: traced, read, written into, robbed of descriptors.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::attacker::Tally;
use super::{calls, files, guard};

const REGION_BYTES_MAX: u64 = 4 << 20;
const PTRACE_ATTACH: i64 = 16;
const PTRACE_DETACH: i64 = 17;
/// A server's listening socket, by the protocol of `LISTEN_FDS`.
const SOCKET: i64 = 3;
/// How the canary that a server keeps in memory begins. Not a constant
/// string of its own in this program: it would be found here first.
const KIND: &[u8] = b" memory ";

/// Tries each victim that is to be seen.
pub(super) fn reach() -> Tally {
    let mut tally = Tally::default();
    for pid in files::visible_processes() {
        if guard::is_called(pid, guard::SERVER) {
            trace(pid, &mut tally);
            rob(pid, &mut tally);
            mark(pid, &mut tally);
        }
    }
    // What is not seen is only asked for, which does nothing to it.
    for pid in 1..512 {
        if !fs::exists(format!("/proc/{pid}")).is_ok_and(|seen| seen) {
            tally.count(&calls::pidfd_open(pid));
        }
    }
    tally
}

fn trace(pid: i32, tally: &mut Tally) {
    let attached = calls::ptrace(PTRACE_ATTACH, pid);
    tally.count(&attached);
    if attached.is_ok() && calls::wait(pid).is_ok() {
        // One that stays attached is let go when this process ends.
        let _detached = calls::ptrace(PTRACE_DETACH, pid);
    }
}

fn rob(pid: i32, tally: &mut Tally) {
    match calls::pidfd_open(pid) {
        Ok(pidfd) => tally.count(&calls::pidfd_getfd(pidfd, SOCKET)),
        refused => tally.count(&refused),
    }
}

/// Looks for the canary in the writable memory of `pid` and writes over it.
fn mark(pid: i32, tally: &mut Tally) {
    let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps,
        Err(error) => return tally.count_io::<()>(&Err(error)),
    };
    let path = format!("/proc/{pid}/mem");
    let mem = OpenOptions::new().read(true).write(true).open(path);
    tally.count_io(&mem);
    let needle = [guard::CANARY, KIND].concat();
    for (start, end) in maps.lines().filter_map(writable_region) {
        let mut content = vec![0; usize::try_from(end - start).unwrap_or(0)];
        if read_region(pid, mem.as_ref().ok(), start, &mut content).is_err() {
            continue;
        }
        let places = content.windows(needle.len()).enumerate();
        for (offset, _) in places.filter(|(_, window)| *window == needle) {
            let address = start + offset as u64;
            tally.count(&write_there(pid, mem.as_ref().ok(), address));
        }
    }
}

fn read_region(pid: i32, mem: Option<&File>, start: u64, into: &mut [u8]) -> Result<(), i32> {
    let read = calls::read_memory(pid, start, into);
    match (read, mem) {
        (Ok(_), _) => Ok(()),
        (Err(errno), None) => Err(errno),
        (Err(errno), Some(mem)) => mem.read_exact_at(into, start).map_err(|_| errno),
    }
}

fn write_there(pid: i32, mem: Option<&File>, address: u64) -> Result<(), i32> {
    let written = calls::write_memory(pid, address, guard::TAKEN);
    match (written, mem) {
        (Ok(_), _) => Ok(()),
        (Err(errno), None) => Err(errno),
        (Err(errno), Some(mem)) => mem.write_all_at(guard::TAKEN, address).map_err(|_| errno),
    }
}

/// The bounds of a line of `/proc/PID/maps` that is private, writable and
/// not too large.
fn writable_region(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let fits = end > start && end - start <= REGION_BYTES_MAX;
    (fields.next()? == "rw-p" && fits).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::writable_region;

    #[test]
    fn only_private_writable_regions_are_searched() {
        let heap = "2000-3000 rw-p 00000000 00:00 0      [heap]";
        assert_eq!(writable_region(heap), Some((0x2000, 0x3000)));
        for other in ["2000-3000 r--p 0 00:00 0", "2000-3000 rw-s 0 00:00 0", ""] {
            assert_eq!(writable_region(other), None, "{other:?}");
        }
    }
}
