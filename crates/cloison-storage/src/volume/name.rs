//! What a volume is called.

use std::fmt;
use std::str::FromStr;

use super::error::Refused;

const CHARACTERS_MAX: usize = 32;

/// The name of a volume, which is one part of a path and no more: 1 to 32 of
/// `a` to `z`, `0` to `9` and `-`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && text.len() <= CHARACTERS_MAX && text.chars().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refused::Name)
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_one_part_of_a_path() {
        let longest = "a".repeat(CHARACTERS_MAX);
        for good in ["a", "data", "pg-15", longest.as_str()] {
            assert!(good.parse::<VolumeName>().is_ok(), "{good}");
        }
        let longer = "a".repeat(CHARACTERS_MAX + 1);
        for bad in [
            "", ".", "..", "a/b", "a.b", "-a", "1a", "A", "\u{e4}", "a\n", &longer,
        ] {
            assert_eq!(bad.parse::<VolumeName>(), Err(Refused::Name), "{bad:?}");
        }
    }
}
