//! Why an archive was not unpacked.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

use crate::escaped::EscapedName;

/// Why an archive was not unpacked. What was made until then is still there, for
/// [`crate::tree::empty`] to remove.
///
/// `entry` is the number of the entry, from 1, headers that only lengthen a name
/// not counted; `name` is as the archive has it, made harmless.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is something in the directory.
    #[error("the directory to unpack into is not empty")]
    NotEmpty,
    /// The archive asks for something that is never done.
    #[error("entry {entry}, {name}: {rule}")]
    Refused {
        /// Its number.
        entry: u64,
        /// Its name.
        name: EscapedName,
        /// What is never done.
        rule: Rule,
    },
    /// The archive is larger than may be.
    #[error("entry {entry}, {name}: more than {max} {limit}")]
    Limit {
        /// The number of the entry that is too much.
        entry: u64,
        /// Its name.
        name: EscapedName,
        /// Of what.
        limit: Limit,
        /// How much may be.
        max: u64,
    },
    /// It is no archive, or a broken one.
    #[error("after entry {entry}, {name}: {fault}")]
    Malformed {
        /// The number of the last entry that began.
        entry: u64,
        /// Its name.
        name: EscapedName,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
    /// The archive could not be read.
    #[error("reading the archive after entry {entry}")]
    Read {
        /// The number of the last entry that began.
        entry: u64,
        /// What its reader said.
        #[source]
        source: io::Error,
    },
    /// A call failed.
    #[error("entry {entry}, {name}: {doing}")]
    Call {
        /// Its number.
        entry: u64,
        /// Its name.
        name: EscapedName,
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
}

/// What is never done, whatever an archive says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum Rule {
    /// An entry without a name.
    #[error("it has no name")]
    NoName,
    /// A name that begins with a slash.
    #[error("its name is absolute")]
    Absolute,
    /// `..` among the components of a name.
    #[error("its name has a component ..")]
    DotDot,
    /// A NUL in a name.
    #[error("its name has a NUL")]
    Nul,
    /// A component that no file system takes.
    #[error("its name has a component of more than 255 bytes")]
    LongComponent,
    /// The name of a directory on what is none.
    #[error("its name ends with a slash and it is no directory")]
    TrailingSlash,
    /// The name of the tree itself on what is no directory.
    #[error("it would stand for the whole tree")]
    Top,
    /// A name beneath a symbolic link, whether the archive's or not.
    #[error("it lies beneath a symbolic link")]
    BeneathLink,
    /// A name beneath what is no directory.
    #[error("it lies beneath what is no directory")]
    BeneathFile,
    /// Something else in place of a directory that holds something.
    #[error("it would replace a directory that is not empty")]
    FullDirectory,
    /// A symbolic link to nothing, or with a NUL, or of more than 4,095 bytes.
    #[error("it is a symbolic link whose target is none")]
    LinkTarget,
    /// A hard link whose target's name breaks a rule for names.
    #[error("it is a hard link to a name that no entry may have")]
    HardLinkName,
    /// A hard link to what this archive did not make, or made no regular file.
    #[error("it is a hard link to no regular file of this archive")]
    HardLinkTarget,
    /// A hard link to itself.
    #[error("it is a hard link to itself")]
    HardLinkToItself,
    /// A device node, where they are refused.
    #[error("it is a device node")]
    Device,
    /// A type that is none of POSIX's, or one of GNU tar's that is no file: a
    /// volume's label, a part of a file, a list of names. Sockets have none.
    #[error("it is of type {0:#04x}, which is not unpacked")]
    Kind(u8),
    /// Content where there can be none.
    #[error("it has content and is no regular file")]
    Content,
    /// An owner or group outside of 0 to 65,535.
    #[error("its owner or group is not between 0 and 65535")]
    Owner,
    /// A time before 1901 or after 2446, which file systems do not keep.
    #[error("its time is out of range")]
    Time,
    /// Capabilities for another user namespace than that of the tree, or of an
    /// unknown form.
    #[error("its capabilities are not for this tree")]
    Capabilities,
}

/// Of what there may be only so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum Limit {
    /// [`super::Limits::bytes_max`].
    #[error("bytes")]
    Bytes,
    /// [`super::Limits::entries_max`].
    #[error("entries")]
    Entries,
    /// [`super::Limits::path_bytes_max`].
    #[error("bytes of a name")]
    PathBytes,
    /// [`super::Limits::depth_max`].
    #[error("components of a name")]
    Depth,
    /// [`super::Limits::ratio_max`].
    #[error("bytes out of each byte of the archive")]
    Ratio,
    /// What an entry says of itself besides its content: 1 MiB.
    #[error("bytes of attributes and names")]
    ExtensionBytes,
    /// The names of all directories and what is set on them at the end: 256 MiB.
    #[error("bytes to remember of directories")]
    Remembered,
}

/// How an archive is broken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// A header's sum is wrong: no archive, or a damaged one.
    #[error("the checksum of a header is wrong")]
    Checksum,
    /// A field of a header is no number, or one that cannot be.
    #[error("the {0} of a header is no such number")]
    Number(&'static str),
    /// The end came before the end.
    #[error("the archive is cut off")]
    Truncated,
    /// One block of zeros, and then no second one.
    #[error("there is one block of zeros where two end an archive")]
    LoneZeros,
    /// Something follows its end; of zeros, more than 1 MiB.
    #[error("something follows the end of the archive")]
    Trailing,
    /// An extended header's record is not of its form.
    #[error("a record of an extended header is malformed")]
    Record,
    /// An extended header for all entries says what only one can have.
    #[error("a global extended header has a name, a size or attributes")]
    Global,
    /// Two headers say the same of one entry: readers could differ on which counts.
    #[error("an entry has two names or two sizes")]
    Twice,
    /// An extended header, and no entry.
    #[error("an extended header belongs to no entry")]
    Orphan,
    /// A map of holes that is out of order, overlaps, or does not fit its data.
    #[error("the map of a sparse file is wrong")]
    Sparse,
    /// What cannot be decompressed.
    #[error("the compressed stream is damaged")]
    Compressed(#[source] io::Error),
    /// A compression that is not supported: gzip, xz and Zstandard are.
    #[error("{0} is no compression that is unpacked")]
    Compression(&'static str),
}
