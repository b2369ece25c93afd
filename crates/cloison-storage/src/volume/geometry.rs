//! How many blocks and inodes an ext4 has, computed before it is made and read
//! from what was made.
//!
//! # Source
//! Documentation/filesystems/ext4: block groups, the superblock.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Limits;
use super::error::Refused;

/// The length of a block.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The blocks of a group: what one block of bits counts.
const GROUP_BLOCKS: u64 = 8 * BLOCK_BYTES;
/// The fewest blocks of the last group: room for what a group needs of its own,
/// whatever it holds.
const LAST_GROUP_BLOCKS: u64 = 4096;
/// The inodes of a block.
const BLOCK_INODES: u64 = BLOCK_BYTES / INODE_BYTES;
pub(crate) const INODE_BYTES: u64 = 256;
/// The most inodes of a group: they take at most a quarter of the last.
const GROUP_INODES_MAX: u64 = 16384;

const SUPERBLOCK_AT: u64 = 1024;
const MAGIC: u16 = 0xef53;

/// The size of an ext4 in whole groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) blocks: u64,
    groups: u64,
}

impl Geometry {
    /// The largest of at most `bytes`.
    pub(crate) fn within(bytes: u64) -> Result<Self, Refused> {
        let blocks = bytes / BLOCK_BYTES;
        let (groups, rest) = (blocks / GROUP_BLOCKS, blocks % GROUP_BLOCKS);
        if rest >= LAST_GROUP_BLOCKS {
            return Ok(Self {
                blocks,
                groups: groups + 1,
            });
        }
        if groups == 0 {
            let fewest = LAST_GROUP_BLOCKS * BLOCK_BYTES;
            return Err(Refused::TooFewBytes { fewest });
        }
        Ok(Self {
            blocks: blocks - rest,
            groups,
        })
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// The most inodes, at most `inodes_max`, that its groups can have alike.
    pub(crate) fn inodes(self, inodes_max: u64) -> Result<u64, Refused> {
        let most = GROUP_INODES_MAX * self.groups;
        if inodes_max > most {
            return Err(Refused::TooManyInodes { most });
        }
        let in_group = inodes_max / self.groups / BLOCK_INODES * BLOCK_INODES;
        if in_group == 0 {
            let fewest = BLOCK_INODES * self.groups;
            return Err(Refused::TooFewInodes { fewest });
        }
        Ok(in_group * self.groups)
    }

    /// How many inodes an image has that grows to this from `old`. They are as
    /// many in each new group as in the old ones.
    pub(crate) fn grown(self, old: &Superblock, asked: Limits) -> Result<u64, Refused> {
        let gives = old.inodes / old.geometry.groups * self.groups;
        if self.blocks < old.geometry.blocks || asked.inodes_max < old.inodes {
            return Err(Refused::Shrinks {
                bytes: old.geometry.bytes(),
                inodes: old.inodes,
            });
        }
        // As close as at its making.
        let is_met =
            gives <= asked.inodes_max && asked.inodes_max - gives < BLOCK_INODES * self.groups;
        if is_met {
            Ok(gives)
        } else {
            Err(Refused::InodesOfImage { gives })
        }
    }
}

/// What the first block of an ext4 says. A tenant never writes it: the kernel
/// and the programs of the host do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) geometry: Geometry,
    pub(crate) inodes: u64,
}

impl Superblock {
    /// Reads it; else what does not fit.
    pub(crate) fn read(image: &File) -> Result<Self, &'static str> {
        let mut bytes = [0; 1024];
        image
            .read_exact_at(&mut bytes, SUPERBLOCK_AT)
            .map_err(|_| "it is too short")?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8; 1024]) -> Result<Self, &'static str> {
        let number = |at: usize| {
            let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u64::from(u32::from_le_bytes(four.copied().unwrap_or_default()))
        };
        if u16::from_le_bytes([bytes[0x38], bytes[0x39]]) != MAGIC {
            return Err("it is no ext4");
        }
        let blocks = number(0x150) << 32 | number(0x4);
        let of_ours = (number(0x18), number(0x20)) == (2, GROUP_BLOCKS);
        let geometry = blocks
            .checked_mul(BLOCK_BYTES)
            .and_then(|bytes| Geometry::within(bytes).ok());
        let geometry = geometry.filter(|geometry| of_ours && geometry.blocks == blocks);
        let geometry = geometry.ok_or("its blocks are not as this library makes them")?;
        let inodes = number(0x0);
        if inodes != number(0x28) * geometry.groups || inodes == 0 {
            return Err("its inodes are not as this library makes them");
        }
        Ok(Self { geometry, inodes })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn superblock(blocks: u32, in_group: u32, inodes: u32) -> [u8; 1024] {
        let mut bytes = [0; 1024];
        for (at, number) in [
            (0x0, inodes),
            (0x4, blocks),
            (0x18, 2),
            (0x20, 32768),
            (0x28, in_group),
        ] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes
    }

    #[test]
    fn image_is_never_larger_than_asked() {
        for mib in [16, 17, 127, 128, 129, 143, 144, 145, 1024, 1 << 20] {
            let geometry = Geometry::within(mib * MIB + 1).unwrap();
            assert!(geometry.bytes() <= mib * MIB, "{mib}");
            assert!(geometry.bytes() > (mib - 16) * MIB, "{mib}");
            for inodes in [geometry.groups * 16, geometry.groups * 1000 + 7] {
                let given = geometry.inodes(inodes).unwrap();
                assert!(given <= inodes && inodes - given < 16 * geometry.groups);
                assert_eq!(given % geometry.groups, 0);
            }
        }
        let fewest = 16 * MIB;
        let refused = Geometry::within(fewest - 1);
        assert_eq!(refused, Err(Refused::TooFewBytes { fewest }));
        let small = Geometry::within(fewest).unwrap();
        assert_eq!(small.inodes(15), Err(Refused::TooFewInodes { fewest: 16 }));
        let most = 16384;
        let refused = small.inodes(most + 1);
        assert_eq!(refused, Err(Refused::TooManyInodes { most }));
    }

    #[test]
    fn inodes_of_an_image_grow_with_its_groups() {
        let old = Superblock::parse(&superblock(32768, 1024, 1024)).unwrap();
        let asked = |bytes_max, inodes_max| {
            let limits = Limits {
                bytes_max,
                inodes_max,
            };
            Geometry::within(bytes_max)?.grown(&old, limits)
        };
        assert_eq!(asked(256 * MIB, 2048), Ok(2048));
        assert_eq!(asked(256 * MIB, 2050), Ok(2048));
        let gives = Err(Refused::InodesOfImage { gives: 2048 });
        assert_eq!(asked(256 * MIB, 1024), gives);
        assert_eq!(asked(256 * MIB, 4096), gives);
        let shrinks = Err(Refused::Shrinks {
            bytes: 128 * MIB,
            inodes: 1024,
        });
        assert_eq!(asked(64 * MIB, 1024), shrinks);
        assert_eq!(asked(256 * MIB, 512), shrinks);
    }

    #[test]
    fn superblock_of_another_make_is_damage() {
        assert!(Superblock::parse(&superblock(16384, 64, 64)).is_ok());
        for (blocks, in_group, inodes) in [(4095, 64, 64), (32769, 64, 64), (16384, 64, 65)] {
            let bytes = superblock(blocks, in_group, inodes);
            assert!(Superblock::parse(&bytes).is_err(), "{blocks} {inodes}");
        }
        let mut blocks_of_1024 = superblock(16384, 64, 64);
        blocks_of_1024[0x18] = 0;
        assert!(Superblock::parse(&blocks_of_1024).is_err());
        let mut no_ext4 = superblock(16384, 64, 64);
        no_ext4[0x38] = 0;
        assert!(Superblock::parse(&no_ext4).is_err());
        let mut endless = superblock(16384, 64, 64);
        endless[0x150..0x154].fill(0xff);
        assert!(Superblock::parse(&endless).is_err());
        assert!(Superblock::parse(&superblock(16384, 0, 0)).is_err());
    }
}
