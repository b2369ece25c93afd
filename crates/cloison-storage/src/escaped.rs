//! Names that others chose, as they may be shown.

use std::fmt;

use serde::Serialize;

/// The most bytes of a name that are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// A name of a tenant's or of an archive's choosing, made harmless: printable
/// ASCII, all else as `\xNN`, and `...` where it is longer than 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EscapedName(String);

impl EscapedName {
    pub(crate) fn new(name: &[u8]) -> Self {
        let shown = name.get(..SHOWN_BYTES_MAX).unwrap_or(name);
        let mut text = shown.escape_ascii().to_string();
        if shown.len() < name.len() {
            text.push_str("...");
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EscapedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::EscapedName;

    #[test]
    fn shown_name_moves_no_terminal() {
        let name = EscapedName::new("a\x1b[2J\n\u{202e}b\"".as_bytes());
        assert_eq!(
            name.to_string(),
            r#""a\x1b[2J\n\xe2\x80\xaeb\"""#,
            "all is printable ASCII"
        );
    }

    #[test]
    fn shown_name_has_an_end() {
        let name = EscapedName::new(&[b'a'; 5000]);
        assert_eq!(name.as_str().len(), 256 + 3);
    }
}
