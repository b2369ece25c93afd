//! Whose the System V objects are.
//!
//! # Source
//! sysvipc(7), proc(5)

use std::ops::RangeInclusive;

use super::{Held, Holder, text_of};
use crate::error::Error;

/// Each kind, and what its number is called.
const KINDS: [(&str, &str); 3] = [("shm", "shmid"), ("sem", "semid"), ("msg", "msqid")];
/// The columns that name ids: owner and maker.
const OWNERS: [&str; 4] = ["uid", "gid", "cuid", "cgid"];

/// Every object with one of `ids`.
pub(super) fn look(ids: &RangeInclusive<u32>) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for (kind, number) in KINDS {
        let text = text_of(&format!("/proc/sysvipc/{kind}"))?;
        held.extend(objects(&text, kind, number, ids));
    }
    Ok(held)
}

/// The first line names the columns.
fn objects(text: &str, kind: &'static str, number: &str, ids: &RangeInclusive<u32>) -> Vec<Held> {
    let mut lines = text.lines();
    let columns: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let mut held = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| {
            let at = columns.iter().position(|column| *column == name)?;
            fields.get(at)?.parse::<i64>().ok()
        };
        let owners = OWNERS.iter().filter_map(|name| field(name));
        let owners = owners.filter_map(|id| u32::try_from(id).ok());
        let holder = Holder::SystemV(kind, field(number).unwrap_or(-1));
        let found = owners.filter(|id| ids.contains(id));
        held.extend(found.map(|id| (id..=id, holder.clone())));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_maker_of_an_object_are_seen() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid  otime  ctime\n\
                    -1  7   644   70  1000  1001  1002  1003   0  1700000000\n";
        let found = |id| objects(text, "sem", "semid", &(id..=id));
        for id in 1000..=1003 {
            assert_eq!(found(id), [(id..=id, Holder::SystemV("sem", 7))]);
        }
        assert_eq!(found(70), []);
        assert_eq!(objects("", "sem", "semid", &(0..=u32::MAX)), []);
    }
}
