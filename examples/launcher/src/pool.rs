//! The pool of ids, and whether the host uses some of them already.

use std::fs;
use std::io;
use std::ops::RangeInclusive;

use cloison_sandbox::IdRange;
use serde::Serialize;

use crate::error::{Error, at};
use crate::report::escaped;

/// What systemd's table of ids leaves free below 2^31.
///
/// # Source
/// <https://systemd.io/UIDS-GIDS/>
pub(crate) const POOL: RangeInclusive<u32> = 1_879_048_192..=2_147_352_575;

/// The files in which a host names its own ids.
const FILES: [(&str, Kind); 4] = [
    ("/etc/passwd", Kind::Passwd),
    ("/etc/group", Kind::Group),
    ("/etc/subuid", Kind::Subordinate),
    ("/etc/subgid", Kind::Subordinate),
];

/// A line of the host's that names ids of sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file}, line {line}, names ids from {first} to {last}: `{text}`")]
pub(crate) struct Clash {
    file: &'static str,
    line: usize,
    first: u64,
    last: u64,
    text: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Passwd,
    Group,
    Subordinate,
}

/// The ranges of the pool, in order.
pub(crate) fn ranges() -> impl Iterator<Item = IdRange> {
    POOL.step_by(IdRange::COUNT as usize)
        .filter_map(|first| IdRange::new(first).ok())
}

/// The ids of one range.
pub(crate) fn ids_of(range: IdRange) -> RangeInclusive<u32> {
    range.first()..=range.host_id(u16::MAX)
}

/// Every line of the host's that names one of `ids`.
///
/// # Errors
/// A file that is there cannot be read.
pub(crate) fn clashes(ids: &RangeInclusive<u32>) -> Result<Vec<Clash>, Error> {
    let mut found = Vec::new();
    for (file, kind) in FILES {
        match fs::read(file) {
            Ok(bytes) => found.extend(clashes_in(file, kind, &bytes, ids)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("reading", file)(error)),
        }
    }
    Ok(found)
}

fn clashes_in(
    file: &'static str,
    kind: Kind,
    bytes: &[u8],
    ids: &RangeInclusive<u32>,
) -> Vec<Clash> {
    let (low, high) = (u64::from(*ids.start()), u64::from(*ids.end()));
    let mut found = Vec::new();
    for (at, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
        let clash = named(kind, line)
            .into_iter()
            .flatten()
            .find(|(first, last)| *first <= high && *last >= low);
        found.extend(clash.map(|(first, last)| Clash {
            file,
            line: at + 1,
            first,
            last,
            text: escaped(line),
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

    #[test]
    fn pool_is_whole_ranges() {
        assert_eq!(ranges().count(), 4094);
        let all: Vec<_> = ranges().map(ids_of).collect();
        assert_eq!(all.first().map(|ids| *ids.start()), Some(*POOL.start()));
        assert_eq!(all.last().map(|ids| *ids.end()), Some(*POOL.end()));
    }

    #[test]
    fn clash_is_found_with_its_line() {
        let lines = |kind, text: &str| -> Vec<usize> {
            clashes_in("f", kind, text.as_bytes(), &POOL)
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
}
