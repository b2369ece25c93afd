//! The log of a disk's writes, and the disk after a power cut.
//!
//! # Source
//! The kernel's documentation: dm-log-writes.

use std::io::{self, Read};
use std::ops::Range;

use cloison_tests::chance::Chance;

use crate::layout::{BLOCK, MARKS_AT, SECTOR, SYSTEM_AT, SYSTEM_BYTES, marked};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
/// A write that is on the disk when it is done.
const FORCED: u64 = 2;
const DISCARD: u64 = 4;
const BYTES_MAX: u64 = 512 << 20;

/// Something that happened to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// So many bytes were written there.
    Write {
        at: usize,
        bytes: Vec<u8>,
        is_forced: bool,
    },
    /// Whatever had been written before is on the disk.
    Flush,
    /// So many changes had been acknowledged.
    Mark(u64),
}

/// All of it, in order.
pub(crate) struct Log(Vec<Event>);

/// A moment: after so many events. And what had been acknowledged before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cut {
    events: usize,
    pub(crate) acknowledged: u64,
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log: {what}"))
}

fn number(sector: &[u8], at: usize) -> io::Result<u64> {
    let bytes = sector.get(at..).and_then(|rest| rest.first_chunk::<8>());
    Ok(u64::from_le_bytes(*bytes.ok_or_else(|| odd("too short"))?))
}

impl Log {
    pub(crate) fn of(events: Vec<Event>) -> Self {
        Self(events)
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut sector = [0; SECTOR];
        from.read_exact(&mut sector)?;
        if number(&sector, 0)? != MAGIC || number(&sector, 8)? != VERSION {
            return Err(odd("of another form"));
        }
        let entries = number(&sector, 16)?;
        let (mut events, mut bytes_all) = (Vec::new(), 0);
        for _ in 0..entries {
            from.read_exact(&mut sector)?;
            let (at, sectors, flags) = (
                number(&sector, 0)?,
                number(&sector, 8)?,
                number(&sector, 16)?,
            );
            if flags & DISCARD != 0 {
                return Err(odd("a discard, which the disk does not offer"));
            }
            bytes_all += sectors * SECTOR as u64;
            if bytes_all > BYTES_MAX {
                return Err(odd("too long"));
            }
            let mut bytes = vec![0; usize::try_from(sectors).map_err(io::Error::other)? * SECTOR];
            from.read_exact(&mut bytes)?;
            if flags & FLUSH != 0 {
                events.push(Event::Flush);
            }
            if !bytes.is_empty() {
                events.push(event(at * SECTOR as u64, bytes, flags & FORCED != 0)?);
            }
        }
        Ok(Self(events))
    }

    /// Moments between the first mark and the last, the earliest first. Half
    /// are any, half such that a write may be lost.
    pub(crate) fn cuts(&self, count: usize, chance: &mut Chance) -> Vec<Cut> {
        let is_mark = |event: &Event| matches!(event, Event::Mark(_));
        let first = self.0.iter().position(is_mark).unwrap_or(0);
        let last = self.0.iter().rposition(is_mark).unwrap_or(0);
        let any: Vec<usize> = (first + 1..=last + 1).collect();
        let unsure: Vec<usize> = any
            .iter()
            .copied()
            .filter(|events| self.is_unsure(*events))
            .collect();
        let mut cuts: Vec<Cut> = (0..count)
            .filter_map(|number| {
                let moments = [&any, &unsure][number % 2];
                moments.get(below(chance, moments.len())).copied()
            })
            .map(|events| Cut {
                events,
                acknowledged: self.acknowledged(events),
            })
            .collect();
        cuts.sort();
        cuts
    }

    /// Whether a write has been done then that no flush has followed.
    fn is_unsure(&self, events: usize) -> bool {
        let before = self.0.iter().take(events).rev();
        before
            .take_while(|event| **event != Event::Flush)
            .any(|event| matches!(event, Event::Write { .. }))
    }

    fn acknowledged(&self, events: usize) -> u64 {
        let before = self.0.iter().take(events).rev();
        let mut marks = before.filter_map(|event| match event {
            Event::Mark(number) => Some(*number),
            _ => None,
        });
        marks.next().unwrap_or(0)
    }
}

fn event(at: u64, bytes: Vec<u8>, is_forced: bool) -> io::Result<Event> {
    if at == MARKS_AT {
        let number = marked(&bytes).ok_or_else(|| odd("a mark that says nothing"))?;
        return Ok(Event::Mark(number));
    }
    let at = at.checked_sub(SYSTEM_AT).filter(|at| {
        let end = at.checked_add(bytes.len() as u64);
        end.is_some_and(|end| end <= SYSTEM_BYTES)
    });
    let at = at.ok_or_else(|| odd("a write outside of the file system"))?;
    Ok(Event::Write {
        at: usize::try_from(at).map_err(io::Error::other)?,
        bytes,
        is_forced,
    })
}

fn below(chance: &mut Chance, end: usize) -> usize {
    usize::try_from(chance.below(end as u64)).unwrap_or(0)
}

/// What became of the writes that no flush had followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Those that a flush had followed.
    pub(crate) flushed: u64,
    pub(crate) kept: u64,
    pub(crate) torn: u64,
    pub(crate) dropped: u64,
}

/// A disk that is brought from one cut to the next.
pub(crate) struct Platter<'a> {
    log: &'a Log,
    /// What a flush has brought there.
    bytes: Vec<u8>,
    /// How many events that were.
    events: usize,
    flushed: u64,
}

impl<'a> Platter<'a> {
    /// As it was before the first event.
    pub(crate) fn new(log: &'a Log, bytes: Vec<u8>) -> Self {
        Self {
            log,
            bytes,
            events: 0,
            flushed: 0,
        }
    }

    /// The disk as it is found after a cut, not earlier than the one before: all
    /// that had been flushed, and of the rest what chance decides, by whole blocks.
    pub(crate) fn after(&mut self, cut: &Cut, chance: &mut Chance) -> (Vec<u8>, Fate) {
        let upto = self.log.0.get(..cut.events).unwrap_or_default();
        let flush = upto.iter().rposition(|event| *event == Event::Flush);
        let rest = flush.map_or(0, |flush| flush + 1).max(self.events);
        for event in upto.get(self.events..rest).unwrap_or_default() {
            if let Event::Write { at, bytes, .. } = event {
                put(&mut self.bytes, *at, bytes, 0..bytes.len());
                self.flushed += 1;
            }
        }
        self.events = rest;
        let mut fate = Fate {
            flushed: self.flushed,
            ..Fate::default()
        };
        let mut disk = self.bytes.clone();
        // Nothing, everything, and what is between them.
        let eighths = [0, 0, 1, 4, 7, 8][below(chance, 6)];
        for event in upto.get(rest..).unwrap_or_default() {
            if let Event::Write {
                at,
                bytes,
                is_forced,
            } = event
            {
                let of_eight = if *is_forced { 8 } else { eighths };
                survive(&mut disk, *at, bytes, of_eight, chance).count(&mut fate);
            }
        }
        (disk, fate)
    }
}

/// How many blocks of a write are there, of how many.
struct Survived(usize, usize);

impl Survived {
    fn count(&self, fate: &mut Fate) {
        *match self {
            Self(0, _) => &mut fate.dropped,
            Self(there, all) if there == all => &mut fate.kept,
            Self(..) => &mut fate.torn,
        } += 1;
    }
}

/// Lets a write through, or not, or some of its blocks.
fn survive(
    disk: &mut [u8],
    at: usize,
    bytes: &[u8],
    of_eight: u64,
    chance: &mut Chance,
) -> Survived {
    let is_torn = chance.below(2) == 0;
    let is_whole = chance.below(8) < of_eight;
    let mut survived = Survived(0, 0);
    for start in (0..bytes.len()).step_by(BLOCK) {
        let is_there = match is_torn {
            true => chance.below(8) < of_eight,
            false => is_whole,
        };
        if is_there {
            put(disk, at, bytes, start..bytes.len().min(start + BLOCK));
            survived.0 += 1;
        }
        survived.1 += 1;
    }
    survived
}

/// Puts a part of what is written `at` there.
fn put(disk: &mut [u8], at: usize, bytes: &[u8], part: Range<usize>) {
    let to = disk.get_mut(at + part.start..at + part.end);
    if let (Some(to), Some(from)) = (to, bytes.get(part)) {
        to.copy_from_slice(from);
    }
}
