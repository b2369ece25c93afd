//! The entries of an archive, one after the other, each with all that its headers
//! say of it.

use std::io::Read;
use std::ops::Range;

use nix::sys::time::TimeSpec;

use super::compressed::{Failure, Stream};
use super::error::{Error, Fault, Limit, Rule};
use super::header::{BLOCK_BYTES, Block, Form, Header, text};
use super::pax::{Records, Scope, Time};
use super::sparse::{Lines, Map, Segment};
use crate::escaped::EscapedName;

/// The most bytes of one header that lengthens a name or extends an entry.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// The most zeros that may follow the end: tar fills its last record.
const TRAILING_BYTES_MAX: u64 = 1 << 20;
/// The ids that a tree has.
const IDS: Range<i128> = 0..65536;
/// The seconds that ext4, btrfs and xfs keep between them.
const SECONDS: Range<i128> = -(1 << 31)..(1 << 34) - (1 << 31);

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Symbolic,
    Hard,
    Fifo,
    Device,
}

/// An entry, before its content.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) time: TimeSpec,
    pub(super) link: Vec<u8>,
    /// The length of the file, holes and all.
    pub(super) bytes: u64,
    /// Where its content goes.
    pub(super) segments: Vec<Segment>,
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// How much is said of it that is not kept.
    pub(super) ignored: u64,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Pending {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

pub(super) struct Entries<R: Read> {
    stream: Stream<R>,
    /// The number of the last entry that began, and its name.
    pub(super) number: u64,
    pub(super) name: EscapedName,
    entries_max: u64,
    /// Headers that are for all entries.
    global: Records,
    globals: u64,
    /// Content of the last entry that was not read, and what fills its last block.
    content: u64,
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(stream: Stream<R>, entries_max: u64) -> Self {
        Self {
            stream,
            number: 0,
            name: EscapedName::new(b""),
            entries_max,
            global: Records::default(),
            globals: 0,
            content: 0,
            padding: 0,
        }
    }

    pub(super) fn malformed(&self, fault: Fault) -> Error {
        Error::Malformed {
            entry: self.number,
            name: self.name.clone(),
            fault,
        }
    }

    pub(super) fn refused(&self, rule: Rule) -> Error {
        Error::Refused {
            entry: self.number,
            name: self.name.clone(),
            rule,
        }
    }

    pub(super) fn limit(&self, limit: Limit, max: u64) -> Error {
        Error::Limit {
            entry: self.number,
            name: self.name.clone(),
            limit,
            max,
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Read(source) => Error::Read {
                entry: self.number,
                source,
            },
            Failure::Corrupt(error) => self.malformed(Fault::Compressed(error)),
            Failure::Ratio => self.limit(Limit::Ratio, self.stream.ratio_max()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = self.stream.read(buffer);
        read.map_err(|failure| self.failed(failure))
    }

    /// One block; `false` at the end of the stream.
    fn read_block(&mut self, block: &mut Block) -> Result<bool, Error> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = block.get_mut(filled..) {
            match self.read(rest)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(self.malformed(Fault::Truncated)),
                read => filled += read,
            }
        }
        Ok(true)
    }

    fn block(&mut self) -> Result<Block, Error> {
        let mut block = [0; BLOCK_BYTES];
        if self.read_block(&mut block)? {
            Ok(block)
        } else {
            Err(self.malformed(Fault::Truncated))
        }
    }

    /// Some of the entry's content; 0 at its end.
    pub(super) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.read(buffer)? {
            0 => Err(self.malformed(Fault::Truncated)),
            read => {
                self.content -= read as u64;
                Ok(read)
            }
        }
    }

    /// The next entry; `None` at the end of the archive, and nothing follows it.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.skip()?;
        let mut pending = Pending::default();
        loop {
            let block = self.block()?;
            if block == [0; BLOCK_BYTES] {
                if pending.is_any() {
                    return Err(self.malformed(Fault::Orphan));
                }
                return self.end().map(|()| None);
            }
            let header = Header::new(&block).map_err(|fault| self.malformed(fault))?;
            match header.kind() {
                b'x' | b'g' | b'L' | b'K' => self.extension(&header, &mut pending)?,
                _ => return self.entry(&header, pending).map(Some),
            }
        }
    }

    /// Passes over what was not read of the last entry.
    fn skip(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 8 * BLOCK_BYTES];
        while self.read_content(&mut buffer)? > 0 {}
        self.content = std::mem::take(&mut self.padding);
        while self.read_content(&mut buffer)? > 0 {}
        Ok(())
    }

    fn begin_content(&mut self, bytes: u64) {
        self.content = bytes;
        self.padding = bytes.wrapping_neg() % BLOCK_BYTES as u64;
    }

    /// Behind the first block of zeros: a second one, and zeros alone.
    fn end(&mut self) -> Result<(), Error> {
        if self.block()? != [0; BLOCK_BYTES] {
            return Err(self.malformed(Fault::LoneZeros));
        }
        let mut buffer = [0; 8 * BLOCK_BYTES];
        let mut trailing = 0;
        loop {
            let read = self.read(&mut buffer)?;
            trailing += read as u64;
            let is_zero = buffer.iter().take(read).all(|byte| *byte == 0);
            match read {
                0 => return Ok(()),
                _ if is_zero && trailing <= TRAILING_BYTES_MAX => {}
                _ => return Err(self.malformed(Fault::Trailing)),
            }
        }
    }

    /// A header that says something of the entries to come.
    fn extension(&mut self, header: &Header<'_>, pending: &mut Pending) -> Result<(), Error> {
        let bytes = header.size().map_err(|fault| self.malformed(fault))?;
        if bytes > EXTENSION_BYTES_MAX {
            return Err(self.limit(Limit::ExtensionBytes, EXTENSION_BYTES_MAX));
        }
        self.begin_content(bytes);
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = content.get_mut(filled..) {
            filled += self.read_content(rest)?;
        }
        self.skip()?;
        let taken = match header.kind() {
            b'g' => {
                self.globals += 1;
                if self.globals > self.entries_max {
                    return Err(self.limit(Limit::Entries, self.entries_max));
                }
                self.global.add(&content, Scope::All)
            }
            b'x' if pending.records.is_none() => {
                let mut records = Records::default();
                let added = records.add(&content, Scope::Next);
                pending.records = Some(records);
                added
            }
            b'L' if pending.name.is_none() => long(&content).map(|name| pending.name = Some(name)),
            b'K' if pending.link.is_none() => long(&content).map(|link| pending.link = Some(link)),
            _ => Err(Fault::Twice),
        };
        taken.map_err(|fault| self.malformed(fault))
    }

    fn entry(&mut self, header: &Header<'_>, pending: Pending) -> Result<Entry, Error> {
        self.number += 1;
        let Pending {
            records,
            name: long_name,
            link: long_link,
        } = pending;
        let mut records = records.unwrap_or_default().over(&self.global);
        let name = one_of(records.name.take(), long_name);
        let link = one_of(records.link.take(), long_link);
        let (Ok(name), Ok(link)) = (name, link) else {
            return Err(self.malformed(Fault::Twice));
        };
        let name = records.sparse.name.take().or(name);
        let name = name.unwrap_or_else(|| header.name());
        self.name = EscapedName::new(&name);
        if self.number > self.entries_max {
            return Err(self.limit(Limit::Entries, self.entries_max));
        }
        let kind = kind(header.kind(), &name).map_err(|rule| self.refused(rule))?;
        let stored = stored(header, &records).map_err(|fault| self.malformed(fault))?;
        if kind != Kind::Regular && stored > 0 {
            return Err(self.refused(Rule::Content));
        }
        self.begin_content(stored);
        let (segments, bytes) = self.segments(header, &records)?;
        let number = |field: Result<i128, Fault>| field.map_err(|fault| self.malformed(fault));
        let user = records.user.map_or_else(|| number(header.user()), Ok)?;
        let group = records.group.map_or_else(|| number(header.group()), Ok)?;
        let time = match records.time {
            Some(time) => time,
            None => (number(header.time())?, 0),
        };
        let mode = header.mode().map_err(|fault| self.malformed(fault))?;
        Ok(Entry {
            kind,
            mode,
            user: id(user).map_err(|rule| self.refused(rule))?,
            group: id(group).map_err(|rule| self.refused(rule))?,
            time: time_of(time).map_err(|rule| self.refused(rule))?,
            link: link.unwrap_or_else(|| header.link()),
            bytes,
            segments,
            attributes: records.attributes,
            ignored: records.ignored,
            name,
        })
    }

    /// Where the content goes, and how long the file is. A map that stands before
    /// the data is read.
    fn segments(
        &mut self,
        header: &Header<'_>,
        records: &Records,
    ) -> Result<(Vec<Segment>, u64), Error> {
        let stored = self.content;
        let sparse = &records.sparse;
        let mut map = Map::default();
        let bytes = if header.kind() == b'S' && header.form == Form::Gnu {
            let read = map.header(header);
            let (mut has_more, bytes) = read.map_err(|fault| self.malformed(fault))?;
            while has_more {
                let block = self.block()?;
                has_more = map.block(&block).map_err(|fault| self.malformed(fault))?;
            }
            bytes
        } else if sparse.is_before_data {
            let mut lines = Lines::default();
            let mut has_more = true;
            while has_more {
                let Some(rest) = self.content.checked_sub(BLOCK_BYTES as u64) else {
                    return Err(self.malformed(Fault::Sparse));
                };
                let block = self.block()?;
                self.content = rest;
                has_more = lines.block(&block).map_err(|fault| self.malformed(fault))?;
            }
            map.numbers(lines.numbers())
                .map_err(|fault| self.malformed(fault))?;
            sparse.size.ok_or_else(|| self.malformed(Fault::Sparse))?
        } else if let Some(numbers) = &sparse.map {
            map.numbers(numbers)
                .map_err(|fault| self.malformed(fault))?;
            sparse.size.ok_or_else(|| self.malformed(Fault::Sparse))?
        } else {
            let whole = Segment {
                offset: 0,
                bytes: stored,
            };
            return Ok((vec![whole], stored));
        };
        let segments = map.check(self.content, bytes);
        Ok((segments.map_err(|fault| self.malformed(fault))?, bytes))
    }

    pub(super) fn stream(&self) -> &Stream<R> {
        &self.stream
    }
}

impl Pending {
    fn is_any(&self) -> bool {
        self.records.is_some() || self.name.is_some() || self.link.is_some()
    }
}

/// The content of a header that lengthens a name: up to the NUL that ends it.
fn long(content: &[u8]) -> Result<Vec<u8>, Fault> {
    let name = text(content);
    let rest = content.get(name.len()..).unwrap_or_default();
    if name.is_empty() || rest.iter().any(|byte| *byte != 0) {
        return Err(Fault::Record);
    }
    Ok(name.to_vec())
}

/// Both: readers could differ on which counts.
fn one_of<T>(one: Option<T>, other: Option<T>) -> Result<Option<T>, Fault> {
    match (one, other) {
        (Some(_), Some(_)) => Err(Fault::Twice),
        (one, other) => Ok(one.or(other)),
    }
}

fn kind(letter: u8, name: &[u8]) -> Result<Kind, Rule> {
    match letter {
        // Before POSIX a directory was a file whose name ends so.
        0 if name.ends_with(b"/") => Ok(Kind::Directory),
        0 | b'0' | b'7' | b'S' => Ok(Kind::Regular),
        b'1' => Ok(Kind::Hard),
        b'2' => Ok(Kind::Symbolic),
        b'3' | b'4' => Ok(Kind::Device),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        letter => Err(Rule::Kind(letter)),
    }
}

/// How much content is in the archive. A record that disagrees with a header that
/// could have said the same is refused: another reader would go on elsewhere.
fn stored(header: &Header<'_>, records: &Records) -> Result<u64, Fault> {
    /// The most that eleven octal digits say.
    const OCTAL_MAX: u64 = (1 << 33) - 1;
    let said = header.size()?;
    match records.size {
        Some(size) if size != said && size <= OCTAL_MAX => Err(Fault::Twice),
        Some(size) => Ok(size),
        None => Ok(said),
    }
}

fn id(id: i128) -> Result<u32, Rule> {
    match u32::try_from(id) {
        Ok(number) if IDS.contains(&id) => Ok(number),
        _ => Err(Rule::Owner),
    }
}

fn time_of((seconds, nanoseconds): Time) -> Result<TimeSpec, Rule> {
    match i64::try_from(seconds) {
        Ok(number) if SECONDS.contains(&seconds) => {
            Ok(TimeSpec::new(number, i64::from(nanoseconds)))
        }
        _ => Err(Rule::Time),
    }
}
