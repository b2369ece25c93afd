//! Reading `/proc`: whole files into one buffer used again, and parsers of
//! their bytes.
//!
//! A tenant chooses some of these bytes (names of mounts, of programs): the
//! parsers accept any and never panic, and [`escaped`] makes them fit to show.

pub(crate) mod fields;
pub(crate) mod mountinfo;

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// What one file may hold before it is refused: a list of mounts is as long
/// as its owner wants.
const BYTES_MAX: usize = 4 << 20;

/// When a file is read to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A read gives nothing more.
    End,
    /// A read gives less than was asked.
    Short,
}

/// A buffer for whole files, used again for each.
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; 16 << 10],
        }
    }

    /// All bytes of `name` beneath `directory`.
    pub(crate) fn read(&mut self, directory: impl AsFd, name: &CStr) -> Result<&[u8], Errno> {
        self.read_until(directory, name, Until::End)
    }

    /// The same of a file that the kernel makes in one piece: one read that
    /// does not fill the buffer had all of it.
    pub(crate) fn read_single(
        &mut self,
        directory: impl AsFd,
        name: &CStr,
    ) -> Result<&[u8], Errno> {
        self.read_until(directory, name, Until::Short)
    }

    fn read_until(
        &mut self,
        directory: impl AsFd,
        name: &CStr,
        until: Until,
    ) -> Result<&[u8], Errno> {
        let file = openat(
            directory,
            name,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )?;
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                if filled >= BYTES_MAX {
                    return Err(Errno::EFBIG);
                }
                self.buffer.resize(filled * 2, 0);
            }
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            let free_bytes = free.len();
            match nix::unistd::read(&file, free) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    if until == Until::Short && count < free_bytes {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(self.buffer.get(..filled).unwrap_or_default())
    }
}

/// `bytes` as text that is safe in a terminal and still tells any two
/// different inputs apart: printable ASCII stays, the rest becomes `\xNN`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push_str("\\x");
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from_digit(u32::from(digit), 16).unwrap_or('?'));
                }
            }
        }
    }
    text
}

/// The bytes of an [`escaped`] text; `None` if it is none.
pub(crate) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(*high)? << 4 | digit(*low)?;
                (u8::try_from(byte).ok()?, after)
            }
            (b'\\', _) => return None,
            (b' '..=b'~', after) => (first, after),
            _ => return None,
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_tells_inputs_apart() {
        assert_eq!(escaped(b"/a b"), "/a b");
        assert_eq!(escaped(b"\x1b[2J\n\xff"), "\\x1b[2J\\x0a\\xff");
        assert_ne!(escaped(b"\\x0a"), escaped(b"\n"));
    }

    #[test]
    fn escaped_text_is_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescaped(&escaped(&all)), Some(all));
        for odd in ["\\", "\\x", "\\x0", "\\xg0", "\\n", "\n", "é"] {
            assert_eq!(unescaped(odd), None, "{odd}");
        }
    }

    #[test]
    fn file_larger_than_the_buffer_is_read_whole() -> Result<(), Errno> {
        let root = openat(
            nix::fcntl::AT_FDCWD,
            c"/proc/self",
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
        )?;
        let mut small = Reader {
            buffer: vec![0; 16],
        };
        let whole = small.read(&root, c"status")?.to_vec();
        assert!(whole.len() > 500 && whole.starts_with(b"Name:"));
        small.buffer.truncate(16);
        let single = small.read_single(&root, c"status")?;
        assert!(single.len() > 500 && single.starts_with(b"Name:"));
        Ok(())
    }
}
