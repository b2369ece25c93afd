//! Reading and writing back canary files.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::report::Verdict;
use crate::sys::Errno;

/// How much of a file is read and written back at most.
const PIECE_BYTES: usize = 64;

pub(crate) const O_PATH: i32 = 0o10_000_000;

/// Opens `path` for write and writes back the bytes that stand there.
pub(crate) fn write_back(path: &Path) -> Verdict {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => write_back_open(&file, path),
        // A file that is only writable is written at its end, by nothing.
        Err(both) => match OpenOptions::new().write(true).open(path) {
            Ok(_) => Verdict::Through(format!("{} opened for write", path.display())),
            Err(_) => Verdict::refused("open", &both),
        },
    }
}

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
        Ok(bytes) if contains(&bytes, token.as_bytes()) => {
            Verdict::Through(format!("{} read, it holds {token}", path.display()))
        }
        Ok(_) => Verdict::Stopped("open shows another file".to_owned()),
        Err(errno) => Verdict::stopped("read", errno),
    }
}

fn first_bytes(mut file: &File) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; 4096];
    let count = file.read(&mut bytes).map_err(|error| Errno::of(&error))?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Whether `bytes` holds `token` anywhere. An empty token is never found.
pub(crate) fn contains(bytes: &[u8], token: &[u8]) -> bool {
    !token.is_empty() && bytes.windows(token.len()).any(|piece| piece == token)
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
    write_back(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())))
}
