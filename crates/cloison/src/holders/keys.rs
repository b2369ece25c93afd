//! Who has keys in the kernel.
//!
//! `/proc/key-users` counts the keys of every user, also those that the reader
//! may not see; `/proc/keys` adds the groups of those that he may.
//!
//! # Source
//! keyrings(7), proc(5)

use std::ops::RangeInclusive;

use super::{Held, Holder, text_of};
use crate::error::Error;

/// Every key, or owner of keys, with one of `ids`.
pub(super) fn look(ids: &RangeInclusive<u32>) -> Result<Vec<Held>, Error> {
    let mut held = users(&text_of("/proc/key-users")?, ids);
    held.extend(keys(&text_of("/proc/keys")?, ids));
    Ok(held)
}

/// `UID: usage keys/instantiated ...`
fn users(text: &str, ids: &RangeInclusive<u32>) -> Vec<Held> {
    let lines = text.lines().filter_map(|line| {
        let (user, _) = line.split_once(':')?;
        let id: u32 = user.trim().parse().ok()?;
        Some((id..=id, Holder::Key(line.trim().to_owned())))
    });
    lines.filter(|(id, _)| ids.contains(id.start())).collect()
}

/// `serial flags usage timeout permissions uid gid type description`
fn keys(text: &str, ids: &RangeInclusive<u32>) -> Vec<Held> {
    let lines = text.lines().flat_map(|line| {
        let owners = line.split_whitespace().skip(5).take(2);
        owners.filter_map(move |id| {
            let id: u32 = id.parse().ok()?;
            Some((id..=id, Holder::Key(line.trim().to_owned())))
        })
    });
    lines.filter(|(id, _)| ids.contains(id.start())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_keys_are_seen() {
        let text = "    0:    16 15/15 15/1000000 300/25000000\n1000:     2 2/2 2/200 30/20000\n";
        assert_eq!(users(text, &(1000..=1000)).len(), 1);
        assert_eq!(users(text, &(15..=300)).len(), 0);
        let text = "0a1 I--Q---  2 perm 1f3f0000  1000 65534 keyring   _uid.1000: empty\n\
                    0a2 I--Q---  1 perm 3f010000     0  1001 user      1002: 8\n";
        assert_eq!(keys(text, &(1000..=1000)).len(), 1);
        assert_eq!(keys(text, &(1001..=1001)).len(), 1);
        assert_eq!(keys(text, &(1002..=1002)).len(), 0);
    }
}
