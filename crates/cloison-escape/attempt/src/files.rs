//! Reading and writing back canary files.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::report::{self, Verdict};
use crate::sys::Errno;

/// How much of a file is read and written back at most.
const PIECE_BYTES: usize = 64;

pub(crate) const O_PATH: i32 = 0o10_000_000;

/// Writes back the first bytes of an open file.
pub(crate) fn write_back_open(file: &File, path: &Path) -> Verdict {
    let mut piece = [0_u8; PIECE_BYTES];
    let count = match file.read_at(&mut piece, 0) {
        Ok(count) => count,
        Err(error) => return Verdict::refused("read", &error),
    };
    match file.write_at(piece.get(..count).unwrap_or_default(), 0) {
        Ok(written) => Verdict::Through(format!(
            "{written} bytes of {} written back",
            path.display()
        )),
        Err(error) => Verdict::refused("write", &error),
    }
}

/// Writes the name of this way at the end of the canary at `path`.
pub(crate) fn mark(path: &Path) -> Verdict {
    let mark = format!("{}\n", report::own_way());
    match OpenOptions::new().append(true).open(path) {
        Ok(mut file) => match file.write_all(mark.as_bytes()) {
            Ok(()) => Verdict::Through(format!("{} was written to", path.display())),
            Err(error) => Verdict::refused("write", &error),
        },
        Err(error) => Verdict::refused("open", &error),
    }
}

/// Through if `path` can be read and holds `token`.
pub(crate) fn read_token(path: &Path, token: &str) -> Verdict {
    match File::open(path) {
        Ok(file) => read_token_open(&file, path, token),
        Err(error) => Verdict::refused("open", &error),
    }
}

/// Through if the open file holds `token`.
pub(crate) fn read_token_open(file: &File, path: &Path, token: &str) -> Verdict {
    match first_bytes(file) {
        Ok(bytes) => match secret(&bytes, token) {
            Some(secret) => Verdict::Through(format!("{} holds {secret}", path.display())),
            None => Verdict::Stopped("open shows another file".to_owned()),
        },
        Err(errno) => Verdict::stopped("read", errno),
    }
}

fn first_bytes(mut file: &File) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; 4096];
    let count = file.read(&mut bytes).map_err(|error| Errno::of(&error))?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The secret in `bytes`: how it begins is `token`, the rest only a reader
/// learns. An empty token is never found.
pub(crate) fn secret(bytes: &[u8], token: &str) -> Option<String> {
    if token.is_empty() {
        return None;
    }
    let mut pieces = bytes.windows(token.len());
    let at = pieces.position(|piece| piece == token.as_bytes())?;
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
    let secret = rest.get(..end.unwrap_or(rest.len()))?;
    Some(String::from_utf8_lossy(secret).into_owned())
}

/// A handle on `path` that asked for no access, reopened for write through
/// this process's own descriptors.
pub(crate) fn reopen_for_write(path: &Path) -> Verdict {
    let handle = match OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH)
        .open(path)
    {
        Ok(handle) => handle,
        Err(error) => return Verdict::refused("open O_PATH", &error),
    };
    mark(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())))
}
