//! Whose the files of a root are.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use cloison_linux::host;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use super::Value;
use crate::IdRange;
use crate::spawner::errno;

/// How many entries of a root are looked at: a tenant may have made many.
const ENTRIES_MAX: usize = 4096;

/// The ranges of ids that the root of a process and its entries carry, those
/// aside on which something is mounted.
pub(super) fn ranges(process: BorrowedFd<'_>) -> Result<Value, Errno> {
    let root = openat(
        process,
        c"root",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let ranges = tenant_ranges(root.as_fd(), &[])?;
    Ok(Value::List(ranges.iter().map(u32::to_string).collect()))
}

/// The first id of each range of ids that a directory and its entries carry,
/// but for the host's own range, in which is also nobody. Entries of these
/// names, and those of other mounts, do not count.
pub(crate) fn tenant_ranges(
    directory: BorrowedFd<'_>,
    covered: &[&str],
) -> Result<BTreeSet<u32>, Errno> {
    let own = host::entry(directory, c"").map_err(errno)?;
    let mut found = BTreeSet::new();
    let mut note = |entry: host::Entry| {
        if entry.mount == own.mount {
            found.extend([entry.user, entry.group].map(|id| id - id % IdRange::COUNT));
        }
    };
    note(own);
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mut listed = Dir::from_fd(openat2(directory, c".", how)?)?;
    let is_covered = |name: &CStr| {
        covered
            .iter()
            .any(|covered| covered.as_bytes() == name.to_bytes())
    };
    for entry in listed.iter().take(ENTRIES_MAX) {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || is_covered(name) {
            continue;
        }
        match host::entry(directory, name).map_err(errno) {
            Ok(entry) => note(entry),
            // Gone meanwhile.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.remove(&0);
    Ok(found)
}
