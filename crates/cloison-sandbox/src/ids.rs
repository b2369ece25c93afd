//! Ranges of user and group ids on the host.

use serde::{Deserialize, Serialize};

/// A range of 65,536 host ids that one sandbox owns.
///
/// Holding one tells you that the range starts at a multiple of 65,536 and
/// that it contains neither the host's root nor an id that Linux reserves.
/// It does not tell you that nobody else uses the range.
///
/// # Source
/// user_namespaces(7)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct IdRange {
    first: u32,
}

/// Why a number is not the start of an [`IdRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdRangeError {
    /// The start is not a multiple of 65,536.
    #[error("{0} is not a multiple of 65536, where a range of ids must start")]
    Unaligned(u32),
    /// The range is one that the host itself uses, or that no file can carry.
    #[error("the range of ids at {0} belongs to the host: use one from 65536 to 4294836224")]
    Reserved(u32),
}

impl IdRange {
    /// How many ids a range holds.
    pub const COUNT: u32 = 65_536;

    /// The range that starts at `first`.
    ///
    /// # Errors
    /// [`IdRangeError::Unaligned`] and [`IdRangeError::Reserved`].
    pub fn new(first: u32) -> Result<Self, IdRangeError> {
        if !first.is_multiple_of(Self::COUNT) {
            return Err(IdRangeError::Unaligned(first));
        }
        // The last range holds (uid_t)-1, the one before it nothing special:
        // only the first (the host's own ids) and the last are refused.
        if first == 0 || first > u32::MAX - 2 * Self::COUNT + 1 {
            return Err(IdRangeError::Reserved(first));
        }
        Ok(Self { first })
    }

    /// The first host id.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// The host id of `inside`, an id as the sandbox sees it.
    #[must_use]
    pub fn host_id(self, inside: u16) -> u32 {
        self.first + u32::from(inside)
    }

    /// Whether `host_id` lies in the range.
    #[must_use]
    pub fn contains(self, host_id: u32) -> bool {
        host_id / Self::COUNT == self.first / Self::COUNT
    }
}

impl TryFrom<u32> for IdRange {
    type Error = IdRangeError;

    fn try_from(first: u32) -> Result<Self, IdRangeError> {
        Self::new(first)
    }
}

impl From<IdRange> for u32 {
    fn from(range: IdRange) -> Self {
        range.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_the_host_is_refused() {
        assert_eq!(IdRange::new(0), Err(IdRangeError::Reserved(0)));
        assert_eq!(
            IdRange::new(0xffff_0000),
            Err(IdRangeError::Reserved(0xffff_0000))
        );
        assert!(IdRange::new(0xfffe_0000).is_ok());
        assert_eq!(IdRange::new(70_000), Err(IdRangeError::Unaligned(70_000)));
    }

    #[test]
    fn range_contains_its_ends_and_no_more() -> Result<(), IdRangeError> {
        let range = IdRange::new(131_072)?;
        assert!(range.contains(131_072) && range.contains(196_607));
        assert!(!range.contains(131_071) && !range.contains(196_608));
        assert_eq!(range.host_id(1000), 132_072);
        Ok(())
    }
}
