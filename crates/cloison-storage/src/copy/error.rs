//! Why a tree was not copied.

use nix::errno::Errno;
use thiserror::Error;

use crate::escaped::EscapedName;

/// Why a tree was not copied. What was made until then is still there, for
/// [`crate::tree::empty`] to remove.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is something in the directory.
    #[error("the directory to copy into is not empty")]
    NotEmpty,
    /// The base has something that is never copied.
    #[error("{name}: {rule}")]
    Refused {
        /// Its path in the base.
        name: EscapedName,
        /// What is never done.
        rule: Rule,
    },
    /// A reflink was asked for, and the file system makes none between the two.
    #[error("{name}: no reflink can be made of it here")]
    NoReflink {
        /// The path of the first file that was tried.
        name: EscapedName,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// A call failed.
    #[error("{name}: {doing}")]
    Call {
        /// The path in the base.
        name: EscapedName,
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
}

/// What is never copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rule {
    /// An id outside of 0 to 65,535, also in an access control list.
    #[error("an id of it is not between 0 and 65535")]
    Id,
    /// A device node, where they are refused.
    #[error("it is a device node")]
    Device,
    /// Something that stands on another mount.
    #[error("it is on another mount")]
    Mount,
    /// More than 128 directories deep.
    #[error("it is more than 128 directories deep")]
    Depth,
    /// Capabilities for another root than that of the base, or of unknown form.
    #[error("its capabilities are not for this tree")]
    Capabilities,
    /// It changed while it was copied.
    #[error("it changed while it was copied")]
    Changed,
}
