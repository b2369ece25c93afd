//! Blocks of ids: one a tenant, sixteen slots of 65,536 each.
//!
//! Slot 0 is what the tenant's files carry on disk; slots 1 to 15 are its
//! servers. So the tenant and the server can be read off any id, and no two
//! servers share one.

mod clash;

use std::fmt;
use std::ops::RangeInclusive;

use cloison_sandbox::IdRange;
use serde::{Deserialize, Serialize};

pub use clash::{Clash, Documented, clashes};

/// The ids that a host hands out to tenants.
///
/// Holding one tells you that it holds at least one whole [`Block`]. It does not
/// tell you that nobody else uses its ids: [`clashes`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ends", into = "Ends")]
pub struct Pool {
    first: u32,
    last: u32,
}

/// How a file writes a [`Pool`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    first: u32,
    last: u32,
}

/// Why two numbers are no [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// An end of it is not that of a slot.
    #[error("a pool of ids begins at a multiple of 65536 and ends just before one, not at {0}")]
    Unaligned(u32),
    /// It reaches into ids that the host or the kernel uses.
    #[error("a pool of ids lies between 65536 and 4294901759")]
    Reserved,
    /// There is no room for one tenant in it.
    #[error("a pool of ids has room for one tenant at least, which takes {count} of them", count = Block::COUNT)]
    TooSmall,
}

impl Pool {
    /// The ids from `first` to `last`, both among them.
    ///
    /// # Errors
    /// [`PoolError`], each variant.
    pub fn new(first: u32, last: u32) -> Result<Self, PoolError> {
        let aligned = |id: u32| id.is_multiple_of(IdRange::COUNT);
        if !aligned(first) {
            return Err(PoolError::Unaligned(first));
        }
        let last_range = match last.checked_add(1) {
            Some(end) if aligned(end) => end.checked_sub(IdRange::COUNT),
            Some(_) => return Err(PoolError::Unaligned(last)),
            None => return Err(PoolError::Reserved),
        };
        let is_usable = |first: Option<u32>| first.is_some_and(|id| IdRange::new(id).is_ok());
        if !is_usable(Some(first)) || !is_usable(last_range) {
            return Err(PoolError::Reserved);
        }
        let pool = Self { first, last };
        if pool.blocks().next().is_none() {
            return Err(PoolError::TooSmall);
        }
        Ok(pool)
    }

    /// Every block of it, in order. They begin where the pool does.
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        (self.first..=self.last)
            .step_by(Block::COUNT as usize)
            .filter(move |first| self.last - first >= Block::COUNT - 1)
            .map(|first| Block { first })
    }

    /// Every range of it, in order: also those of the last ids, which are too
    /// few for a block.
    pub fn ranges(self) -> impl Iterator<Item = IdRange> {
        self.ids()
            .step_by(IdRange::COUNT as usize)
            .filter_map(|first| IdRange::new(first).ok())
    }

    /// The ids of it.
    #[must_use]
    pub fn ids(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

impl Default for Pool {
    /// What systemd's table of ids leaves free below 2^31.
    ///
    /// # Source
    /// <https://systemd.io/UIDS-GIDS/>
    fn default() -> Self {
        Self {
            first: 1_879_048_192,
            last: 2_147_352_575,
        }
    }
}

impl TryFrom<Ends> for Pool {
    type Error = PoolError;

    fn try_from(ends: Ends) -> Result<Self, PoolError> {
        Self::new(ends.first, ends.last)
    }
}

impl From<Pool> for Ends {
    fn from(pool: Pool) -> Self {
        Self {
            first: pool.first,
            last: pool.last,
        }
    }
}

/// The ids of one tenant: 2^20 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Block {
    first: u32,
}

impl Block {
    /// How many ids a block holds.
    pub const COUNT: u32 = IdRange::COUNT * Slot::COUNT as u32;

    /// The first id.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// Every id.
    #[must_use]
    pub fn ids(self) -> RangeInclusive<u32> {
        self.first..=self.first + (Self::COUNT - 1)
    }

    /// What the tenant's files carry on disk: slot 0.
    #[must_use]
    pub fn disk(self) -> IdRange {
        self.range(0)
    }

    /// The ids of the server in `slot`.
    #[must_use]
    pub fn server(self, slot: Slot) -> IdRange {
        self.range(slot.0)
    }

    /// The slot that `id` belongs to, 0 for the disk's; `None` if it is another
    /// tenant's.
    #[must_use]
    pub fn slot_of(self, id: u32) -> Option<u8> {
        let offset = id.checked_sub(self.first)?;
        let slot = offset / IdRange::COUNT;
        u8::try_from(slot).ok().filter(|slot| *slot < Slot::COUNT)
    }

    fn range(self, slot: u8) -> IdRange {
        match IdRange::new(self.first + u32::from(slot) * IdRange::COUNT) {
            Ok(range) => range,
            Err(_) => unreachable!("a block is sixteen ranges of ids"),
        }
    }
}

impl TryFrom<u32> for Block {
    type Error = PoolError;

    fn try_from(first: u32) -> Result<Self, PoolError> {
        let last = first.checked_add(Self::COUNT - 1);
        Pool::new(first, last.ok_or(PoolError::Reserved)?)?;
        Ok(Self { first })
    }
}

impl From<Block> for u32 {
    fn from(block: Block) -> Self {
        block.first
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids();
        write!(f, "{} to {}", ids.start(), ids.end())
    }
}

/// One of the fifteen places for a server in a [`Block`]: 1 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Slot(u8);

/// Why a number is no [`Slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's slot is 1 to 15")]
pub struct SlotError;

impl Slot {
    /// The slots of a block, that of the disk among them.
    const COUNT: u8 = 16;

    /// Every slot for a server, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..Self::COUNT).map(Self)
    }
}

impl TryFrom<u8> for Slot {
    type Error = SlotError;

    fn try_from(slot: u8) -> Result<Self, SlotError> {
        if (1..Self::COUNT).contains(&slot) {
            Ok(Self(slot))
        } else {
            Err(SlotError)
        }
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn default_pool_has_room_for_255_tenants_of_15_servers() {
        let pool = Pool::default();
        assert_eq!(Pool::new(pool.first, pool.last), Ok(pool));
        let blocks: Vec<_> = pool.blocks().collect();
        assert_eq!(blocks.len(), 255);
        assert!(
            blocks
                .iter()
                .all(|block| pool.ids().contains(block.ids().end()))
        );
        assert_eq!(Slot::all().count(), 15);
        assert_eq!(pool.ranges().count(), 4094);
        let last = pool.ranges().last().unwrap();
        assert_eq!(last.host_id(u16::MAX), pool.last);
    }

    #[test]
    fn no_two_servers_share_an_id() {
        let mut end = None;
        for block in Pool::default().blocks() {
            let servers = Slot::all().map(|slot| block.server(slot));
            for range in [block.disk()].into_iter().chain(servers) {
                assert!(end.is_none_or(|end| range.first() > end));
                end = Some(range.host_id(u16::MAX));
                assert!(block.ids().contains(&range.first()));
            }
        }
    }

    #[test]
    fn slot_is_read_off_an_id() {
        let block = Pool::default().blocks().nth(3).unwrap();
        assert_eq!(block.slot_of(block.first()), Some(0));
        let last = Slot::all().last().unwrap();
        assert_eq!(block.slot_of(block.server(last).host_id(9)), Some(15));
        assert_eq!(block.slot_of(block.first() - 1), None);
        assert_eq!(block.slot_of(block.ids().end() + 1), None);
    }

    #[test]
    fn pools_that_are_none_are_refused() {
        assert_eq!(
            Pool::new(65_537, 2_097_151),
            Err(PoolError::Unaligned(65_537))
        );
        assert_eq!(
            Pool::new(65_536, 2_097_152),
            Err(PoolError::Unaligned(2_097_152))
        );
        assert_eq!(Pool::new(0, 2_097_151), Err(PoolError::Reserved));
        assert_eq!(Pool::new(65_536, u32::MAX), Err(PoolError::Reserved));
        assert_eq!(Pool::new(65_536, 131_071), Err(PoolError::TooSmall));
        assert_eq!(Pool::new(131_072, 65_535), Err(PoolError::Reserved));
        assert_eq!(
            Pool::new(65_536, 4_294_836_223).map(|pool| pool.blocks().count()),
            Ok(4095)
        );
    }
}
