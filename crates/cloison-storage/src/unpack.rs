//! An archive becomes a tree.
//!
//! [`unpack`] runs as the ids that call it. For a tenant's archive that is a
//! sandbox of his own, in the slot that his files carry: whoever makes it do what
//! he likes is where he was before. It needs no right outside of its user
//! namespace, and `/proc` only for the mode of a FIFO on kernels before 6.6.
//!
//! Everything is opened beneath the descriptor of the tree, no link followed, no
//! mount crossed. What an archive may be:
//!
//! | entry | what is done |
//! | --- | --- |
//! | regular (`0`, NUL, `7`) | made anew, never written through what was there |
//! | directory (`5`; NUL whose name ends with a slash) | made; if there is one, it gets this mode, owner and time at the end |
//! | symbolic link (`2`) | made, whatever it leads to, and never followed |
//! | hard link (`1`) | to a regular file that this archive made, by a name as of an entry; else refused |
//! | FIFO (`6`) | made |
//! | device (`3`, `4`) | [`Devices`] |
//! | sparse (`S`; GNU.sparse 0.0, 0.1, 1.0) | made with its holes; its whole length counts |
//! | `x`, `g`, `L`, `K` | read; what is said twice is refused |
//! | any other: sockets, volume labels, parts, lists | refused |
//!
//! | about an entry | what is done |
//! | --- | --- |
//! | name | empty, absolute, with `..`, NUL or a component above 255 bytes: refused; `.` and empty components mean nothing; any other byte is kept |
//! | directories above it | made if missing, mode 0755, of the caller |
//! | beneath a link or a file | refused |
//! | a name that was there | replaced, but a directory that is not empty |
//! | mode | kept, set-user-id and sticky bits too: on the host a tree lies beneath `nosuid` |
//! | owner | 0 to 65535, else refused; names of owners mean nothing. [`Owners`] |
//! | time | of modification, 1901 to 2446, else refused |
//! | `user.*`, `security.capability` | kept on files and directories; capabilities become those of the caller's user namespace |
//! | other attributes, access control lists, flags, labels | left out, and counted |
//!
//! An archive ends with two blocks of zeros, and nothing but zeros follows.
//!
//! # Kernel
//! 5.6, for `openat2(2)`.
//!
//! # Source
//! POSIX.1-2017 pax; GNU tar's manual. Past breakouts: CVE-2018-20990 and
//! CVE-2021-32803 (through links), CVE-2025-62518 (two sizes).

mod attributes;
mod compressed;
mod entries;
mod error;
mod header;
mod make;
mod names;
mod pax;
mod sparse;

use std::io::Read;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::devices::Devices;
use crate::escaped::EscapedName;

use compressed::Stream;
use entries::Entries;
use make::Maker;

pub use compressed::Compression;
pub use error::{Error, Fault, Limit, Rule};

/// How much an archive may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The bytes of all regular files together, holes among them. 64 GiB.
    pub bytes_max: u64,
    /// The entries. 2,000,000.
    pub entries_max: u64,
    /// The bytes of one name. 4,095, which is also the most that has an effect.
    pub path_bytes_max: u64,
    /// The components of one name. 128.
    pub depth_max: u64,
    /// The bytes that come out of one byte of the archive, beyond the first 16 MiB.
    /// 250; gzip makes at most 1,032.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 30,
            entries_max: 2_000_000,
            path_bytes_max: 4095,
            depth_max: 128,
            ratio_max: 250,
        }
    }
}

/// Whose the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// The archive's ids, as they are in the caller's user namespace. It must be
    /// allowed to give files away.
    #[default]
    Archive,
    /// All are the caller's. Capabilities of files are then left out, and counted.
    Caller,
}

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How much it may be.
    pub limits: Limits,
    /// What becomes of its device nodes.
    pub devices: Devices,
    /// Whose its files become.
    pub owners: Owners,
}

/// What an archive became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// How it was compressed.
    pub compression: Compression,
    /// Its entries.
    pub entries: u64,
    /// Regular files made, those that were replaced among them.
    pub files: u64,
    /// Directories named by an entry.
    pub directories: u64,
    /// Directories that no entry had named before something was in them.
    pub directories_implied: u64,
    /// Symbolic links.
    pub symbolic_links: u64,
    /// Hard links.
    pub hard_links: u64,
    /// FIFOs.
    pub fifos: u64,
    /// Device nodes left out.
    pub devices_skipped: u64,
    /// Entries that took the place of something.
    pub replaced: u64,
    /// The length of the regular files.
    pub bytes: u64,
    /// Attributes and records left out.
    pub attributes_ignored: u64,
}

impl Unpacked {
    fn none(compression: Compression) -> Self {
        Self {
            compression,
            entries: 0,
            files: 0,
            directories: 0,
            directories_implied: 0,
            symbolic_links: 0,
            hard_links: 0,
            fifos: 0,
            devices_skipped: 0,
            replaced: 0,
            bytes: 0,
            attributes_ignored: 0,
        }
    }
}

/// Unpacks `archive` into the empty directory `tree`.
///
/// Nobody else may write into `tree` meanwhile for the result to be the archive's;
/// who does so anyhow gains nothing outside of it. What was written is not flushed.
///
/// # Errors
/// [`Error`], each with the entry's number and its name made harmless. What was
/// made until then stays.
pub fn unpack(
    archive: impl Read,
    tree: BorrowedFd<'_>,
    options: &Options,
) -> Result<Unpacked, Error> {
    let call = |errno: Errno| Error::Call {
        entry: 0,
        name: EscapedName::new(b""),
        doing: "listing the directory to unpack into",
        errno,
    };
    if !beneath::is_empty(tree).map_err(call)? {
        return Err(Error::NotEmpty);
    }
    let stream = Stream::new(archive, options.limits.ratio_max);
    let stream = stream
        .map_err(|source| Error::Read { entry: 0, source })?
        .map_err(|name| Error::Malformed {
            entry: 0,
            name: EscapedName::new(b""),
            fault: Fault::Compression(name),
        })?;
    let mut entries = Entries::new(stream, options.limits.entries_max);
    let unpacked = Unpacked::none(entries.stream().compression);
    let mut maker = Maker::new(tree, options, unpacked);
    while let Some(entry) = entries.next()? {
        maker.make(entry, &mut entries)?;
    }
    maker.finish(&entries)
}

#[cfg(test)]
#[expect(clippy::panic, clippy::unwrap_used, reason = "tests")]
mod tests;
