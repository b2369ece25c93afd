//! Files: found from every root that can be seen, and encrypted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::attacker::Tally;
use super::guard;

const DEPTH_MAX: usize = 16;
const ENTRIES_MAX: usize = 100_000;
const HANDLES_MAX: usize = 900;
const FILE_BYTES_MAX: u64 = 1 << 20;
const O_NOFOLLOW: i32 = 0o400_000;
const O_NONBLOCK: i32 = 0o4000;
/// How an encrypted file begins; the seed of its key stream stands behind.
const ENCRYPTED: &str = "ENCRYPTED";

/// What the search turned up.
#[derive(Default)]
pub(super) struct Found {
    /// Canary files, open for writing, by device and inode.
    writable: BTreeMap<(u64, u64), File>,
    /// Sockets that have a path.
    pub(super) sockets: Vec<PathBuf>,
    seen: BTreeSet<(u64, u64)>,
}

impl Found {
    /// Searches the tree below `root`; counts each file there.
    pub(super) fn search(&mut self, root: &Path, tally: &mut Tally) {
        let mut open = vec![(root.to_path_buf(), 0)];
        while let Some((folder, depth)) = open.pop() {
            let Ok(metadata) = fs::metadata(&folder) else {
                continue;
            };
            // Other roots show the same folders again.
            let place = (metadata.dev(), metadata.ino());
            if depth > DEPTH_MAX || self.seen.len() > ENTRIES_MAX || !self.seen.insert(place) {
                continue;
            }
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    tally.count_io::<()>(&Err(error));
                    continue;
                }
            };
            for entry in entries.flatten() {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && !is_of_the_kernel(&path) => {
                        open.push((path, depth + 1));
                    }
                    Ok(kind) if kind.is_file() => self.open(&path, tally),
                    Ok(kind) if kind.is_socket() => self.sockets.push(path),
                    _ => {}
                }
            }
        }
    }

    /// Opens a canary for writing. Any other file is closed again: it is
    /// neither counted as a try nor touched.
    fn open(&mut self, path: &Path, tally: &mut Tally) {
        let place = path.symlink_metadata().map(|m| (m.dev(), m.ino()));
        if place.is_ok_and(|place| self.writable.contains_key(&place)) {
            return;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        match options.open(path) {
            Err(error) => tally.count_io::<()>(&Err(error)),
            Ok(file) if !begins_as_canary(&file) => {}
            Ok(_) => match options.write(true).open(path) {
                Err(error) => tally.count_io::<()>(&Err(error)),
                Ok(file) => self.keep(file, tally),
            },
        }
    }

    fn keep(&mut self, file: File, tally: &mut Tally) {
        // Looked at again: the path may have come to mean something else.
        if let Ok(metadata) = file.metadata()
            && metadata.is_file()
            && metadata.len() <= FILE_BYTES_MAX
            && begins_as_canary(&file)
            && self.writable.len() < HANDLES_MAX
        {
            self.writable.insert((metadata.dev(), metadata.ino()), file);
            tally.count(&Ok(()));
        }
    }
}

/// proc, sys and device files hold no file of anybody.
fn is_of_the_kernel(path: &Path) -> bool {
    ["/proc", "/sys"].iter().any(|name| path == Path::new(name))
        || (path.ends_with("proc") && path.join("self").symlink_metadata().is_ok())
}

fn begins_as_canary(mut file: &File) -> bool {
    let mut beginning = [0; guard::CANARY.len()];
    file.seek(SeekFrom::Start(0)).is_ok()
        && file.read_exact(&mut beginning).is_ok()
        && guard::is_canary(&beginning)
}

/// Searches the own root, and the root, working folder and open folders of
/// every process that is to be seen.
pub(super) fn find(found: &mut Found) -> Tally {
    let mut tally = Tally::default();
    found.search(Path::new("/"), &mut tally);
    for pid in visible_processes() {
        for name in ["root", "cwd"] {
            search_link(found, &format!("/proc/{pid}/{name}"), &mut tally);
        }
        let descriptors = format!("/proc/{pid}/fd");
        match fs::read_dir(&descriptors) {
            Err(error) => tally.count_io::<()>(&Err(error)),
            Ok(entries) => {
                for entry in entries.flatten() {
                    search_link(found, &entry.path().to_string_lossy(), &mut tally);
                }
            }
        }
    }
    tally
}

fn search_link(found: &mut Found, path: &str, tally: &mut Tally) {
    match fs::metadata(path) {
        Err(error) => tally.count_io::<()>(&Err(error)),
        Ok(metadata) if metadata.is_dir() => found.search(&Path::new(path).join("."), tally),
        Ok(_) => {}
    }
}

/// The processes that proc shows.
pub(super) fn visible_processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Encrypts all that was found, reversibly: the key stands in the file.
pub(super) fn encrypt(found: Found) -> Tally {
    let mut tally = Tally::default();
    for ((_, inode), file) in found.writable {
        tally.count_io(&encrypt_one(file, inode | 1));
    }
    tally
}

fn encrypt_one(mut file: File, seed: u64) -> io::Result<()> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(&mut file)
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut content)?;
    transform(&mut content, seed);
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    writeln!(file, "{ENCRYPTED} {seed:016x}")?;
    file.write_all(&content)
}

/// A key stream of an xorshift generator: whoever applies it twice has what
/// was there. Not meant to withstand anybody.
fn transform(content: &mut [u8], seed: u64) {
    let mut state = seed;
    for byte in content {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte ^= state.to_le_bytes()[0];
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Found, Tally, encrypt, transform};

    #[test]
    fn file_that_is_no_canary_is_never_written() -> std::io::Result<()> {
        let name = format!("cloison-attacker-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("deep"))?;
        let (canary, other) = (folder.join("deep/canary"), folder.join("other"));
        fs::write(&canary, "CLOISON CANARY\nquotes")?;
        fs::write(&other, "quotes\nCLOISON CANARY")?;
        symlink(&canary, folder.join("link"))?;
        let (mut found, mut tally) = (Found::default(), Tally::default());
        found.search(&folder, &mut tally);
        encrypt(found);
        let (canary, other) = (fs::read(canary)?, fs::read(other)?);
        fs::remove_dir_all(folder)?;
        assert!(canary.starts_with(b"ENCRYPTED "));
        assert_eq!(other, b"quotes\nCLOISON CANARY");
        assert_eq!(tally.encode(), "1 1 0");
        Ok(())
    }

    #[test]
    fn transformed_twice_is_unchanged() {
        let mut content = b"CLOISON CANARY\npayroll".to_vec();
        transform(&mut content, 7);
        assert!(!content.starts_with(b"CLOISON"));
        transform(&mut content, 7);
        assert_eq!(content, b"CLOISON CANARY\npayroll");
    }
}
