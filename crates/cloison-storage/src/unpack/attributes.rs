//! Extended attributes of an archive.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use rustix::fs::{XattrFlags, fsetxattr};

use super::Owners;
use super::error::Rule;
use crate::beneath;

const CAPABILITIES: &[u8] = b"security.capability";

/// What is set on one file or directory, and how much is left out.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) ignored: u64,
}

impl Attributes {
    /// Chooses among those that an archive has.
    pub(super) fn new(all: Vec<(Vec<u8>, Vec<u8>)>, owners: Owners) -> Result<Self, Rule> {
        let mut this = Self::default();
        for (name, value) in all {
            if name == CAPABILITIES && owners == Owners::Archive {
                this.kept.push((name, capabilities(&value)?));
            } else if name.starts_with(b"user.") && !name.contains(&0) {
                this.kept.push((name, value));
            } else {
                this.ignored += 1;
            }
        }
        Ok(this)
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len();
        self.kept.iter().map(bytes).sum::<usize>() as u64
    }

    /// Sets them, after the owner: to give a file away takes its capabilities.
    pub(super) fn set(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        for (name, value) in &self.kept {
            fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).map_err(beneath::errno)?;
        }
        Ok(())
    }
}

/// Capabilities without the root that they are good for: the kernel adds the
/// caller's when they are set.
///
/// # Source
/// capabilities(7), "File capability extended attribute versioning"
fn capabilities(value: &[u8]) -> Result<Vec<u8>, Rule> {
    match value {
        // Version 2, with or without the flag that says they are effective.
        [0 | 1, 0, 0, 2, ..] if value.len() == 20 => Ok(value.to_vec()),
        [effective @ (0 | 1), 0, 0, 3, sets @ .., 0, 0, 0, 0] if value.len() == 24 => {
            Ok([&[*effective, 0, 0, 2], sets].concat())
        }
        _ => Err(Rule::Capabilities),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_their_root_or_are_refused() {
        let sets = [7_u8; 16];
        let two = [&[1, 0, 0, 2], &sets[..]].concat();
        let three = |root: u8| [&[1, 0, 0, 3], &sets[..], &[root, 0, 0, 0]].concat();
        assert_eq!(capabilities(&two), Ok(two.clone()));
        assert_eq!(capabilities(&three(0)), Ok(two.clone()));
        for wrong in [
            &three(1)[..],
            &three(0)[..23],
            &two[..19],
            &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[],
        ] {
            assert_eq!(capabilities(wrong), Err(Rule::Capabilities));
        }
    }
}
