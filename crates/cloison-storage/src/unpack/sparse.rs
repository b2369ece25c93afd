//! Maps of the parts of a sparse file that hold data.

use super::error::Fault;
use super::header::{Block, Header, size};

/// The most parts that a sparse file may have.
const SEGMENTS_MAX: usize = 1 << 20;

/// A part that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A map while it is read.
#[derive(Debug, Default)]
pub(super) struct Map(Vec<Segment>);

impl Map {
    fn push(&mut self, offset: u64, bytes: u64) -> Result<(), Fault> {
        if self.0.len() == SEGMENTS_MAX {
            return Err(Fault::Sparse);
        }
        self.0.push(Segment { offset, bytes });
        Ok(())
    }

    /// Adds the pairs of a header of GNU tar's old form, or of a block that goes on
    /// with it; an unused pair ends them.
    fn pairs(&mut self, pairs: &[u8]) -> Result<(), Fault> {
        for pair in pairs.chunks_exact(24) {
            let (offset, bytes) = pair.split_at(12);
            if offset.first() == Some(&0) && bytes.first() == Some(&0) {
                break;
            }
            self.push(size(offset)?, size(bytes)?)?;
        }
        Ok(())
    }

    /// Reads those of the header: whether more follow, and the file's length.
    pub(super) fn header(&mut self, header: &Header<'_>) -> Result<(bool, u64), Fault> {
        self.pairs(header.bytes(386, 96))?;
        let has_more = header.bytes(482, 1) != b"\0";
        Ok((has_more, size(header.bytes(483, 12))?))
    }

    /// Reads those of a block behind the header: whether more follow.
    pub(super) fn block(&mut self, block: &Block) -> Result<bool, Fault> {
        let (pairs, rest) = block.split_at(504);
        self.pairs(pairs)?;
        Ok(rest.first() != Some(&0))
    }

    /// Adds offsets and lengths in turn.
    pub(super) fn numbers(&mut self, numbers: &[u64]) -> Result<(), Fault> {
        if !numbers.len().is_multiple_of(2) {
            return Err(Fault::Sparse);
        }
        for pair in numbers.chunks_exact(2) {
            if let [offset, bytes] = *pair {
                self.push(offset, bytes)?;
            }
        }
        Ok(())
    }

    /// The map, if it is in order and holds all of `stored` bytes within `size`.
    pub(super) fn check(self, stored: u64, size: u64) -> Result<Vec<Segment>, Fault> {
        let mut end = 0_u64;
        let mut held = 0_u64;
        for segment in &self.0 {
            let after = segment.offset.checked_add(segment.bytes);
            match after {
                Some(after) if segment.offset >= end && after <= size => end = after,
                _ => return Err(Fault::Sparse),
            }
            held += segment.bytes;
        }
        if held == stored {
            Ok(self.0)
        } else {
            Err(Fault::Sparse)
        }
    }
}

/// A map that stands before the data, in decimal lines: how many pairs, then the
/// pairs. It is fed with blocks until it is whole.
#[derive(Debug, Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    digits: String,
}

impl Lines {
    /// Takes one block: whether more follow.
    pub(super) fn block(&mut self, block: &Block) -> Result<bool, Fault> {
        /// As many digits as a length has.
        const DIGITS_MAX: usize = 19;
        for byte in block {
            if self.is_whole()? {
                break;
            }
            match byte {
                b'0'..=b'9' if self.digits.len() < DIGITS_MAX => {
                    self.digits.push(char::from(*byte));
                }
                b'\n' => {
                    let number = self.digits.parse::<i64>().map_err(|_| Fault::Sparse)?;
                    self.digits.clear();
                    self.numbers
                        .push(u64::try_from(number).map_err(|_| Fault::Sparse)?);
                }
                _ => return Err(Fault::Sparse),
            }
        }
        Ok(!self.is_whole()?)
    }

    fn is_whole(&self) -> Result<bool, Fault> {
        let Some((pairs, numbers)) = self.numbers.split_first() else {
            return Ok(false);
        };
        if *pairs > SEGMENTS_MAX as u64 {
            return Err(Fault::Sparse);
        }
        Ok(numbers.len() as u64 == pairs * 2)
    }

    /// The numbers of the pairs.
    pub(super) fn numbers(&self) -> &[u64] {
        self.numbers.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn map(numbers: &[u64], stored: u64, size: u64) -> Result<Vec<Segment>, Fault> {
        let mut map = Map::default();
        map.numbers(numbers)?;
        map.check(stored, size)
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        assert_eq!(map(&[0, 5, 10, 5, 20, 0], 10, 20).unwrap().len(), 3);
        for (numbers, stored, size) in [
            (&[0, 5, 4, 5][..], 10, 20),
            (&[10, 5, 0, 5], 10, 20),
            (&[0, 5, 16, 5], 10, 20),
            (&[0, 5, 10, 5], 9, 20),
            (&[0, 5, 10, 5], 11, 20),
            (&[0, 5, 10], 5, 20),
            (&[u64::MAX, 5], 5, 20),
            (&[5, u64::MAX], u64::MAX, 20),
        ] {
            assert!(map(numbers, stored, size).is_err(), "{numbers:?}");
        }
    }

    #[test]
    fn map_before_the_data_may_cross_blocks() {
        let pairs = 100;
        let mut text = format!("{pairs}\n");
        for pair in 0..pairs {
            text.push_str(&format!("{}\n{}\n", pair * 1_000_000, 1000));
        }
        let mut lines = Lines::default();
        let mut has_more = true;
        for part in text.as_bytes().chunks(512) {
            assert!(has_more);
            let mut block = [0; 512];
            block[..part.len()].copy_from_slice(part);
            has_more = lines.block(&block).unwrap();
        }
        assert!(!has_more);
        assert_eq!(lines.numbers().len(), 200);
        assert_eq!(lines.numbers()[198..], [99_000_000, 1000]);
    }
}
