//! `KEY=VALUE` words, and what follows `--`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::str::FromStr;

use crate::report::CouldNotTry;

/// What a probe was told about its canary.
pub(crate) struct Arguments {
    values: BTreeMap<String, String>,
    /// The words after `--`: a command for the roles that run one.
    pub(crate) command: Vec<String>,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let mut values = BTreeMap::new();
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            values.insert(key.to_owned(), value.to_owned());
        }
        Self {
            values,
            command: words.collect(),
        }
    }

    /// The value of `key`; without it the probe has no canary to try.
    pub(crate) fn text(&self, key: &str) -> Result<&str, CouldNotTry> {
        match self.values.get(key).map(String::as_str) {
            Some("") | None => Err(CouldNotTry(format!("no {key}=VALUE was given"))),
            Some(value) => Ok(value),
        }
    }

    /// The value of `key` as a number, hexadecimal after `0x`.
    pub(crate) fn number<T: FromStr + TryFrom<u64>>(&self, key: &str) -> Result<T, CouldNotTry> {
        let text = self.text(key)?;
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16)
                .ok()
                .and_then(|number| T::try_from(number).ok()),
            None => text.parse().ok(),
        };
        parsed.ok_or_else(|| CouldNotTry(format!("{key}={text} is not a number that fits")))
    }

    /// As [`Self::number`], with a value for when it was not given.
    pub(crate) fn number_or<T: FromStr + TryFrom<u64>>(
        &self,
        key: &str,
        otherwise: T,
    ) -> Result<T, CouldNotTry> {
        if self.values.contains_key(key) {
            self.number(key)
        } else {
            Ok(otherwise)
        }
    }
}

/// `text` as the kernel wants it. A NUL ends it early, as in the kernel.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().take_while(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
