//! Who else names the ids of a pool: the host's own files, and the ranges that
//! systemd documents.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, at};

/// The files in which a host names its own ids.
const FILES: [(&str, Kind); 4] = [
    ("etc/passwd", Kind::Passwd),
    ("etc/group", Kind::Group),
    ("etc/subuid", Kind::Subordinate),
    ("etc/subgid", Kind::Subordinate),
];

/// A line of the host's that names an id of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file}, line {line}, names ids from {first} to {last}")]
pub struct Clash {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The first id that it names.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The line itself, as it stands in the file.
    pub text: String,
}

/// A range of ids that systemd documents for another use.
///
/// # Source
/// <https://systemd.io/UIDS-GIDS/>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Documented {
    /// What uses it.
    pub name: &'static str,
    /// The first id.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Documented {
    /// Each of them above the ids of one machine's own users.
    pub const ALL: [Self; 5] = [
        Self::new("users of systemd-homed", 60_001, 60_513),
        Self::new("users of systemd-nspawn's hosts", 60_514, 60_577),
        Self::new("dynamic users of services", 61_184, 65_519),
        Self::new("containers of systemd-nspawn", 524_288, 1_879_048_191),
        Self::new("foreign images", 2_147_352_576, 2_147_418_111),
    ];

    const fn new(name: &'static str, first: u32, last: u32) -> Self {
        Self { name, first, last }
    }

    /// Those that share an id with `ids`.
    pub fn within(ids: &RangeInclusive<u32>) -> impl Iterator<Item = Self> {
        let (low, high) = (*ids.start(), *ids.end());
        let meets = move |range: &Self| range.first <= high && range.last >= low;
        Self::ALL.into_iter().filter(meets)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Passwd,
    Group,
    Subordinate,
}

/// Every line of the host's `passwd`, `group`, `subuid` and `subgid` that names
/// one of `ids`.
///
/// # Errors
/// [`Error::Path`]: a file that is there cannot be read.
pub fn clashes(ids: &RangeInclusive<u32>) -> Result<Vec<Clash>, Error> {
    clashes_below(Path::new("/"), ids)
}

fn clashes_below(root: &Path, ids: &RangeInclusive<u32>) -> Result<Vec<Clash>, Error> {
    let mut found = Vec::new();
    for (file, kind) in FILES {
        let path = root.join(file);
        match fs::read(&path) {
            Ok(bytes) => found.extend(clashes_in(&path.to_string_lossy(), kind, &bytes, ids)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("reading", path)(error)),
        }
    }
    Ok(found)
}

fn clashes_in(file: &str, kind: Kind, bytes: &[u8], ids: &RangeInclusive<u32>) -> Vec<Clash> {
    let (low, high) = (u64::from(*ids.start()), u64::from(*ids.end()));
    let mut found = Vec::new();
    for (at, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
        let clash = named(kind, line)
            .into_iter()
            .flatten()
            .find(|(first, last)| *first <= high && *last >= low);
        found.extend(clash.map(|(first, last)| Clash {
            file: file.to_owned(),
            line: at + 1,
            first,
            last,
            text: line.to_owned(),
        }));
    }
    found
}

/// The first and last id of each range that a line names. A line in another
/// form names none: the programs that own the file ignore it too.
fn named(kind: Kind, line: &str) -> [Option<(u64, u64)>; 2] {
    let fields: Vec<&str> = line.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let one = |at: usize| number(at).map(|id| (id, id));
    match kind {
        Kind::Passwd => [one(2), one(3)],
        Kind::Group => [one(2), None],
        Kind::Subordinate => {
            let range = number(1).zip(number(2)).filter(|(_, count)| *count > 0);
            [
                range.map(|(first, count)| (first, first.saturating_add(count - 1))),
                None,
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Pool;

    #[test]
    fn clash_is_found_with_its_line() {
        let pool = Pool::default().ids();
        let lines = |kind, text: &str| -> Vec<usize> {
            clashes_in("f", kind, text.as_bytes(), &pool)
                .iter()
                .map(|clash| clash.line)
                .collect()
        };
        let passwd = "root:x:0:0::/:\nold:x:1879048192:5::/:\ng:x:5:2147352575::/:\n";
        assert_eq!(lines(Kind::Passwd, passwd), [2, 3]);
        assert_eq!(
            lines(Kind::Group, "a:x:2147352576:\nb:x:1879048191:\n"),
            [0; 0]
        );
        let subordinate = "a:100000:65536\nb:1879048191:1\nc:1879048191:2\nd:1:0\n\ne:x:y\n";
        assert_eq!(lines(Kind::Subordinate, subordinate), [3]);
        assert_eq!(lines(Kind::Subordinate, "a:0:18446744073709551615\n"), [1]);
    }

    #[test]
    fn default_pool_meets_no_documented_range() {
        assert_eq!(Documented::within(&Pool::default().ids()).count(), 0);
        let large = Documented::within(&(524_288..=u32::MAX)).count();
        assert_eq!(large, 2);
    }
}
