//! How much a tree takes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use nix::sys::stat::SFlag;
use serde::Serialize;

use super::Error;
use super::walk::walk;
use crate::beneath;

/// How much a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The bytes that its files and directories occupy: blocks, not lengths, so
    /// that a hole counts for nothing. Of a reflink each copy counts.
    pub bytes: u64,
    /// Its inodes, the directory itself among them. A file of several names is one.
    pub inodes: u64,
    /// What was passed over because it stands on another mount.
    pub mounts: u64,
}

/// How much the tree beneath `directory` takes, with the directory itself. Of a
/// tree that is changed meanwhile, about as much as that.
///
/// # Errors
/// [`Error::Changed`], [`Error::Call`].
pub fn usage(directory: BorrowedFd<'_>) -> Result<Usage, Error> {
    /// The unit of `st_blocks`, whatever the file system's is.
    const BLOCK_BYTES: u64 = 512;
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let ControlFlow::Continue(mounts) = walk(directory, |seen| {
        let is_directory = beneath::kind(&seen.status) == SFlag::S_IFDIR;
        let is_linked = !is_directory && seen.status.st_nlink > 1;
        if !is_linked || linked.insert(beneath::identity(&seen.status)) {
            let blocks = u64::try_from(seen.status.st_blocks).unwrap_or(0);
            usage.bytes = usage
                .bytes
                .saturating_add(blocks.saturating_mul(BLOCK_BYTES));
            usage.inodes += 1;
        }
        ControlFlow::<Infallible>::Continue(())
    })?;
    usage.mounts = mounts;
    Ok(usage)
}
