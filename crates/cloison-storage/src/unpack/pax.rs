//! The records of an extended header.
//!
//! # Source
//! POSIX.1-2017 pax, "pax Extended Header"; GNU tar's manual, "Storing Sparse Files"

use super::error::Fault;

/// Which entries an extended header is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The next one.
    Next,
    /// All that follow.
    All,
}

/// A time: seconds, and nanoseconds that are never negative.
pub(super) type Time = (i128, u32);

/// What an extended header says.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) user: Option<i128>,
    pub(super) group: Option<i128>,
    pub(super) time: Option<Time>,
    /// Extended attributes.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
    /// How many say something that is not kept.
    pub(super) ignored: u64,
}

/// What GNU tar says of a sparse file.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    /// The map stands before the data (format 1.0).
    pub(super) is_before_data: bool,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Offsets and lengths in turn (formats 0.0 and 0.1).
    pub(super) map: Option<Vec<u64>>,
}

/// The prefix of an extended attribute's name, as star and GNU tar write it.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What says nothing that is lost: names of ids, other times, where it was.
const HARMLESS: [&[u8]; 12] = [
    b"comment",
    b"charset",
    b"hdrcharset",
    b"uname",
    b"gname",
    b"atime",
    b"ctime",
    b"SCHILY.dev",
    b"SCHILY.ino",
    b"SCHILY.nlink",
    b"LIBARCHIVE.creationtime",
    b"GNU.sparse.numblocks",
];

impl Records {
    /// Adds the records of one header.
    pub(super) fn add(&mut self, mut bytes: &[u8], scope: Scope) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(Fault::Record)?;
            self.one(key, value, scope)?;
            bytes = rest;
        }
        Ok(())
    }

    fn one(&mut self, key: &[u8], value: &[u8], scope: Scope) -> Result<(), Fault> {
        let is_of_one = matches!(key, b"path" | b"linkpath" | b"size")
            || key.starts_with(b"GNU.sparse.")
            || key.starts_with(ATTRIBUTE);
        if is_of_one && scope == Scope::All {
            return Err(Fault::Global);
        }
        match key {
            b"path" => self.name = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.user = id(value)?,
            b"gid" => self.group = id(value)?,
            b"mtime" => self.time = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse(key, value)?,
            _ if key.starts_with(ATTRIBUTE) => {
                let name = key.get(ATTRIBUTE.len()..).unwrap_or_default();
                if name.is_empty() {
                    return Err(Fault::Record);
                }
                self.attributes.retain(|(other, _)| other != name);
                self.attributes.push((name.to_vec(), value.to_vec()));
            }
            _ if HARMLESS.contains(&key) => {}
            _ => self.ignored += 1,
        }
        Ok(())
    }

    fn sparse(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let sparse = &mut self.sparse;
        let map = sparse.map.as_mut();
        match key {
            b"GNU.sparse.major" if value == b"1" => sparse.is_before_data = true,
            b"GNU.sparse.major" | b"GNU.sparse.minor" if value == b"0" => {}
            b"GNU.sparse.name" => sparse.name = Some(name(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = Some(decimal(value)?),
            b"GNU.sparse.numblocks" => {}
            b"GNU.sparse.map" if map.is_none() => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                sparse.map = Some(numbers.collect::<Result<_, _>>()?);
            }
            b"GNU.sparse.offset" if map.as_ref().is_none_or(|map| map.len() % 2 == 0) => {
                sparse.map.get_or_insert_default().push(decimal(value)?);
            }
            b"GNU.sparse.numbytes" if map.as_ref().is_some_and(|map| map.len() % 2 == 1) => {
                sparse.map.get_or_insert_default().push(decimal(value)?);
            }
            _ => return Err(Fault::Sparse),
        }
        Ok(())
    }

    /// These, for one entry, over those for all.
    pub(super) fn over(self, all: &Self) -> Self {
        Self {
            user: self.user.or(all.user),
            group: self.group.or(all.group),
            time: self.time.or(all.time),
            ..self
        }
    }
}

/// The first record, `LENGTH KEY=VALUE\n`, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..space)?).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let (end, record) = record.get(space + 1..)?.split_last()?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    let is_right = *end == b'\n' && !key.is_empty() && !key.contains(&0);
    is_right.then_some((key, value, rest))
}

/// A name that is there: POSIX lets an empty one take back what was said for all.
fn name(value: &[u8]) -> Result<Vec<u8>, Fault> {
    if value.is_empty() {
        return Err(Fault::Record);
    }
    Ok(value.to_vec())
}

fn decimal(digits: &[u8]) -> Result<u64, Fault> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Record);
    }
    let digits = str::from_utf8(digits).map_err(|_| Fault::Record)?;
    let number = digits.parse::<i64>().map_err(|_| Fault::Record)?;
    u64::try_from(number).map_err(|_| Fault::Record)
}

/// `None` where it takes back what was said for all.
fn id(value: &[u8]) -> Result<Option<i128>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    let (sign, digits) = signed(value);
    Ok(Some(sign * i128::from(decimal(digits)?)))
}

fn signed(value: &[u8]) -> (i128, &[u8]) {
    match value {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    }
}

/// Seconds with a fraction.
fn time(value: &[u8]) -> Result<Option<Time>, Fault> {
    const NANOSECONDS: u32 = 1_000_000_000;
    if value.is_empty() {
        return Ok(None);
    }
    let (sign, value) = signed(value);
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = sign * i128::from(decimal(parts.next().unwrap_or_default())?);
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Record);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Ok(Some(match (sign, nanoseconds) {
        (-1, 1..) => (seconds - 1, NANOSECONDS - nanoseconds),
        _ => (seconds, nanoseconds),
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(bytes: &[u8], scope: Scope) -> Result<Records, Fault> {
        let mut records = Records::default();
        records.add(bytes, scope).map(|()| records)
    }

    #[test]
    fn records_are_read_as_their_lengths_say() {
        let bytes =
            b"14 path=a\nb=c\n18 uid=1234567890\n27 SCHILY.xattr.user.a=b\x00c\n11 what=ev\n";
        let records = read(bytes, Scope::Next).unwrap();
        assert_eq!(records.name.unwrap(), b"a\nb=c");
        assert_eq!(records.user, Some(1_234_567_890));
        assert_eq!(
            records.attributes,
            [(b"user.a".to_vec(), b"b\x00c".to_vec())]
        );
        assert_eq!(records.ignored, 1);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"11 path=a\n"[..],
            b"9 path=ab",
            b"9 path=a",
            b"99999999999999999999 path=a\n",
            b"-9 path=a\n",
            b" path=a\n",
            b"8 =value\n",
            b"8 path=\n",
            b"5 \n",
            b"0 \n",
            b"9 size=-\n",
            b"10 size=-1\n",
            b"26 size=9223372036854775808\n",
            b"11 mtime=x\n",
            b"13 mtime=1.x\n",
        ] {
            let refused = read(bytes, Scope::Next);
            assert!(refused.is_err(), "{}", bytes.escape_ascii());
        }
        assert!(matches!(
            read(b"10 path=a\n", Scope::All),
            Err(Fault::Global)
        ));
    }

    #[test]
    fn times_before_1970_are_floored() {
        for (value, expected) in [
            (&b"1.5"[..], (1, 500_000_000)),
            (b"-1.5", (-2, 500_000_000)),
            (b"-1", (-1, 0)),
            (b"0.0000000019", (0, 1)),
        ] {
            assert_eq!(time(value).unwrap(), Some(expected));
        }
    }
}
