//! A tree that its tenant has filled as he liked: counted, searched, removed.
//!
//! All is done beneath a descriptor of the tree. No link is followed, no mount
//! crossed, no FIFO, device or file opened; directories alone are opened, to be
//! listed. A tree of any depth takes a bounded number of descriptors. Whoever
//! swaps one thing for another meanwhile makes a count wrong or a removal
//! incomplete, which is said, and reaches nothing outside.
//!
//! What runs here may run as the host's root: its right to read any directory is
//! needed for a tree that a tenant has closed.
//!
//! # Kernel
//! 5.6, for `openat2(2)`.

mod foreign;
mod remove;
mod usage;
mod walk;

use nix::errno::Errno;
use thiserror::Error;

use crate::escaped::EscapedName;

pub use foreign::{Bearer, Foreign, find_foreign};
pub use remove::{Left, Removed, empty, remove};
pub use usage::{Usage, usage};

/// Why a tree could not be looked at or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a tree must be one component.
    #[error("{0} is not the name of one directory")]
    Name(EscapedName),
    /// It was changed so that the walk lost its way. Nothing outside was reached.
    #[error("the tree was changed while it was read")]
    Changed,
    /// A call failed.
    #[error("{doing} {name}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// On what.
        name: EscapedName,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
}

fn failed(doing: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Error {
    let name = EscapedName::new(name);
    move |errno| Error::Call { doing, name, errno }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests;
