//! The attacker's own account of what it tried.
//!
//! Nothing that is claimed rests on it but one thing: that the attack was
//! made. An account that lacks a way makes the re-enactment fail; one that
//! lies can do no more than that.

use serde::Serialize;

/// The ways in the order of the attack; then it encrypts.
pub(crate) const WAYS: [&str; 8] = [
    "descriptor",
    "file",
    "socket",
    "keyring",
    "ipc",
    "process",
    "mount",
    "signal",
];
const LAST: &str = "encrypt";
/// More than this is not read.
pub(crate) const BYTES_MAX: u64 = 4096;

/// What the attacker says of one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// How often it was tried.
    pub(crate) tried: u32,
    /// How often the kernel let it.
    pub(crate) through: u32,
    /// The error number of the first refusal.
    pub(crate) refusal: i32,
}

/// What the attacker says of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    pub(crate) ways: Vec<Way>,
    /// Whether it says that it encrypted all it had found. One that was
    /// frozen says nothing.
    pub(crate) ended: bool,
}

impl Account {
    /// Reads what the attacker wrote: bytes of a tenant, believed in nothing
    /// but their form.
    pub(crate) fn parse(content: &[u8]) -> Self {
        let mut account = Self::default();
        for line in String::from_utf8_lossy(content).lines() {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            account.ended |= name == LAST;
            let known = WAYS.into_iter().find(|way| *way == name);
            let seen = account.ways.iter().any(|way| way.name == name);
            let numbers: Option<Vec<i64>> = words.map(|word| word.parse().ok()).collect();
            if let (Some(name), false, Some([tried, through, refusal])) =
                (known, seen, numbers.as_deref())
                && let (Ok(tried), Ok(through), Ok(refusal)) = (
                    (*tried).try_into(),
                    (*through).try_into(),
                    (*refusal).try_into(),
                )
            {
                account.ways.push(Way {
                    name,
                    tried,
                    through,
                    refusal,
                });
            }
        }
        account
    }

    /// The ways it says nothing of, or that it says it did not try.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let tried = |name: &str| self.ways.iter().any(|w| w.name == name && w.tried > 0);
        WAYS.into_iter().filter(|way| !tried(way)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, WAYS};

    #[test]
    fn way_that_was_not_tried_is_missing() {
        let text = b"file 3 1 13\nsocket ended early\nipc 0 0 0\nmount 2 0 1\n";
        let account = Account::parse(text);
        assert!(!account.ended);
        assert_eq!(
            account.missing(),
            [
                "descriptor",
                "socket",
                "keyring",
                "ipc",
                "process",
                "signal"
            ]
        );
        let all = WAYS.map(|way| format!("{way} 1 0 1\n")).concat() + "encrypt 5 5 0\n";
        let account = Account::parse(all.as_bytes());
        assert!(account.ended && account.missing().is_empty());
    }

    #[test]
    fn forged_account_is_bytes_and_no_more() {
        for forged in [
            &b"file -1 0 0"[..],
            b"file 1 2 3 4",
            b"\xff\x1b[2J 1 1 1",
            b"file",
        ] {
            assert!(Account::parse(forged).ways.is_empty());
        }
        let twice = Account::parse(b"file 1 0 1\nfile 9 9 9\n");
        assert_eq!(twice.ways.len(), 1);
    }
}
