//! The users and groups of every thread of every process.
//!
//! # Source
//! proc_pid_status(5)

use std::fs;
use std::ops::RangeInclusive;

use super::{Held, Holder, numbers_in, of_process};
use crate::error::Error;

/// The lines of the file that name ids: real, effective, saved and of file
/// systems; then the supplementary groups.
const LINES: [&str; 3] = ["Uid:", "Gid:", "Groups:"];

/// Every process with one of `ids`.
pub(super) fn look(ids: &RangeInclusive<u32>) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for pid in numbers_in("/proc")? {
        let threads = format!("/proc/{pid}/task");
        for thread in numbers_in(&threads)? {
            let path = format!("{threads}/{thread}/status");
            let Some(bytes) = of_process(&path, fs::read(&path))? else {
                continue;
            };
            let status = String::from_utf8_lossy(&bytes);
            let found = ids_in(&status).filter(|id| ids.contains(id));
            held.extend(found.map(|id| (id..=id, Holder::Process(pid))));
        }
    }
    Ok(held)
}

/// The ids that a status names. A name of a process cannot begin a line: the
/// kernel escapes what would.
fn ids_in(status: &str) -> impl Iterator<Item = u32> {
    let lines = status
        .lines()
        .filter_map(|line| LINES.iter().find_map(|name| line.strip_prefix(name)));
    lines
        .flat_map(str::split_whitespace)
        .filter_map(|id| id.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_a_thread_is_seen() {
        let status = "Name:\ta\\nUid: 9\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                      FDSize:\t64\nGroups:\t10 11 \nNStgid:\t12\n";
        let found: Vec<u32> = ids_in(status).collect();
        assert_eq!(found, [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]);
    }
}
