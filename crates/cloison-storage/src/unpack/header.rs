//! One block of 512 bytes that begins an entry.
//!
//! # Source
//! POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format"

use super::error::Fault;

/// The unit of an archive.
pub(super) const BLOCK_BYTES: usize = 512;

pub(super) type Block = [u8; BLOCK_BYTES];

/// Which of the three forms a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Before POSIX: no magic.
    Old,
    Ustar,
    Gnu,
}

/// A header whose sum is right.
pub(super) struct Header<'a> {
    block: &'a Block,
    pub(super) form: Form,
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a Block) -> Result<Self, Fault> {
        let this = Self {
            block,
            form: match block.get(257..265) {
                Some(b"ustar  \0") => Form::Gnu,
                Some([b'u', b's', b't', b'a', b'r', 0, ..]) => Form::Ustar,
                _ => Form::Old,
            },
        };
        let said = number(this.bytes(148, 8)).ok_or(Fault::Number("checksum"))?;
        // The sum's own field counts as spaces.
        let sum: i128 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| match at {
                148..156 => i128::from(b' '),
                _ => i128::from(*byte),
            })
            .sum();
        if sum == said {
            Ok(this)
        } else {
            Err(Fault::Checksum)
        }
    }

    pub(super) fn bytes(&self, at: usize, length: usize) -> &'a [u8] {
        self.block.get(at..at + length).unwrap_or_default()
    }

    fn number(&self, at: usize, length: usize, name: &'static str) -> Result<i128, Fault> {
        number(self.bytes(at, length)).ok_or(Fault::Number(name))
    }

    /// The type of entry, a letter.
    pub(super) fn kind(&self) -> u8 {
        self.bytes(156, 1).first().copied().unwrap_or(0)
    }

    /// The name, put together of its two parts.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.bytes(0, 100));
        let prefix = match self.form {
            // The older star keeps times behind a shorter prefix.
            Form::Ustar if self.bytes(508, 4) == b"tar\0" => text(self.bytes(345, 131)),
            Form::Ustar => text(self.bytes(345, 155)),
            Form::Old | Form::Gnu => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.bytes(157, 100)).to_vec()
    }

    /// The mode, without what some tools write of the type of file.
    pub(super) fn mode(&self) -> Result<u32, Fault> {
        let mode = self.number(100, 8, "mode")?;
        let mode = u32::try_from(mode).map_err(|_| Fault::Number("mode"))?;
        Ok(mode & 0o7777)
    }

    pub(super) fn user(&self) -> Result<i128, Fault> {
        self.number(108, 8, "user")
    }

    pub(super) fn group(&self) -> Result<i128, Fault> {
        self.number(116, 8, "group")
    }

    pub(super) fn size(&self) -> Result<u64, Fault> {
        size(self.bytes(124, 12))
    }

    pub(super) fn time(&self) -> Result<i128, Fault> {
        self.number(136, 12, "time")
    }
}

/// A length, of a header or of one of its parts.
pub(super) fn size(field: &[u8]) -> Result<u64, Fault> {
    let size = number(field).and_then(|size| i64::try_from(size).ok());
    let size = size.and_then(|size| u64::try_from(size).ok());
    size.ok_or(Fault::Number("size"))
}

/// Up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    field.get(..end.unwrap_or(field.len())).unwrap_or(field)
}

/// A number in octal digits, or in bytes where the first bit is set. A field of
/// NULs is 0.
fn number(field: &[u8]) -> Option<i128> {
    match field {
        [0x80, rest @ ..] => bytes(0, rest),
        [0xff, rest @ ..] => bytes(-1, rest),
        [0x81..=0xfe, ..] => None,
        _ => octal(field),
    }
}

fn bytes(start: i128, rest: &[u8]) -> Option<i128> {
    if rest.len() > 15 {
        return None;
    }
    let add = |number: i128, byte: &u8| (number << 8) | i128::from(*byte);
    Some(rest.iter().fold(start, add))
}

fn octal(field: &[u8]) -> Option<i128> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| *byte != b' ')?;
    let field = field.get(start..)?;
    let end = field.iter().position(is_blank).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if !rest.iter().all(is_blank) {
        return None;
    }
    digits.iter().try_fold(0_i128, |number, digit| match digit {
        b'0'..=b'7' => Some(number * 8 + i128::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_whole_or_not_at_all() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"  644 \0\0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x90\0\0\0\0\0\x01\0", None),
            (b"0000648\0", None),
            (b"64 4\0\0\0\0", None),
            (b"-000644\0", None),
            (b"0x644\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
        // All blank: no sum, no size was written.
        assert_eq!(number(b"        "), None);
    }
}
