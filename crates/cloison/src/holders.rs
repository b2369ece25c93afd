//! What still has an id of a block: a process, a key, a System V object, the
//! map of a user namespace.
//!
//! *Finding nothing tells you* that no process that lived while the walk lasted
//! has one of the ids, nor a key, nor an object of the reader's own IPC
//! namespace, nor a map of a user namespace with a process in it. It does *not*
//! tell you of a user namespace, or an IPC namespace, that only a descriptor or
//! a mount keeps: no file of the kernel lists those.
//!
//! The reader is root in the first user namespace: else ids are shown as others.

mod keys;
mod maps;
mod processes;
mod sysvipc;

use std::fmt;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::Serialize;

use crate::error::{Error, at};
use crate::ids::Block;

/// What has an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Holder {
    /// A process, or a thread of it: as a user, as a group, or among its groups.
    Process(i32),
    /// A user or a group that keys in the kernel belong to: the line of
    /// `/proc/keys` or `/proc/key-users`.
    Key(String),
    /// A System V object: `shm`, `sem` or `msg`, and its number.
    SystemV(&'static str, i64),
    /// The user namespace of this process, which maps it.
    UserNamespace(i32),
    /// A file in the tenant's storage.
    File(PathBuf),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Key(line) => write!(f, "a key: `{line}`"),
            Self::SystemV(kind, number) => write!(f, "the System V object {kind} {number}"),
            Self::UserNamespace(pid) => write!(f, "the user namespace of process {pid}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// Ids in use, and what has them.
type Held = (RangeInclusive<u32>, Holder);

/// What has ids of a pool, at one time.
#[derive(Debug)]
pub(crate) struct Holders(Vec<Held>);

impl Holders {
    /// Looks for whatever has one of `ids`.
    ///
    /// # Errors
    /// [`Error::Path`]: something of it cannot be read, so nothing is known.
    pub(crate) fn look(ids: &RangeInclusive<u32>) -> Result<Self, Error> {
        let mut held = processes::look(ids)?;
        held.extend(keys::look(ids)?);
        held.extend(sysvipc::look(ids)?);
        held.extend(maps::look(ids)?);
        Ok(Self(held))
    }

    /// What has an id of `block`.
    pub(crate) fn of(&self, block: Block) -> Option<&Holder> {
        let ids = block.ids();
        let found = self.0.iter().find(|(held, _)| meet(held, &ids));
        found.map(|(_, holder)| holder)
    }
}

fn meet(one: &RangeInclusive<u32>, other: &RangeInclusive<u32>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// The text of a file in `/proc`; empty where the kernel has none.
fn text_of(path: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(at("reading", path)(error)),
    }
}

/// What there is of one process; `None` once it has ended.
fn of_process<T>(path: &str, read: io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::ESRCH as i32) =>
        {
            Ok(None)
        }
        Err(error) => Err(at("reading", path)(error)),
    }
}

/// The numbers among the names in a directory of `/proc`.
fn numbers_in(path: &str) -> Result<Vec<i32>, Error> {
    let mut numbers = Vec::new();
    for entry in of_process(path, fs::read_dir(path))?.into_iter().flatten() {
        let Some(entry) = of_process(path, entry)? else {
            continue;
        };
        numbers.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(numbers)
}
