//! Which ids the user namespaces map that have a process in them.
//!
//! # Source
//! user_namespaces(7)

use std::fs;
use std::ops::RangeInclusive;

use super::{Held, Holder, meet, numbers_in, of_process};
use crate::error::Error;

/// Every map with one of `ids`. The reader's own namespace, and another that is
/// a copy of it (all ids, none shifted), hand no id to anybody.
pub(super) fn look(ids: &RangeInclusive<u32>) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for pid in numbers_in("/proc")? {
        for file in ["uid_map", "gid_map"] {
            let path = format!("/proc/{pid}/{file}");
            let Some(bytes) = of_process(&path, fs::read(&path))? else {
                continue;
            };
            let map = String::from_utf8_lossy(&bytes);
            let found = mapped(&map).filter(|mapped| meet(mapped, ids));
            held.extend(found.map(|mapped| (mapped, Holder::UserNamespace(pid))));
        }
    }
    Ok(held)
}

/// The host's ids of a map: lines of `inside outside count`.
fn mapped(map: &str) -> impl Iterator<Item = RangeInclusive<u32>> {
    map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let [inside, outside, count] = [
            fields.next()?.ok()?,
            fields.next()?.ok()?,
            fields.next()?.ok()?,
        ];
        let is_whole = (inside, outside, count) == (0, 0, u32::MAX);
        let last = outside.saturating_add(count.checked_sub(1)?);
        (!is_whole).then_some(outside..=last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_count() {
        let map = "         0     100000      65536\n     65536          5          1\n";
        let found: Vec<_> = mapped(map).collect();
        assert_eq!(found, [100_000..=165_535, 5..=5]);
        assert_eq!(mapped("0 0 4294967295\n").count(), 0);
        assert_eq!(mapped("").count(), 0);
    }
}
