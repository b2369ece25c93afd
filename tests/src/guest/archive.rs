//! The archive that a kernel unpacks into its first root.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const ALIGNMENT: usize = 4;

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;

/// Writes an archive of the form `newc`, everything in it root's.
///
/// # Source
/// The kernel's documentation: initramfs buffer format.
#[derive(Debug)]
pub(crate) struct Archive<W: Write> {
    to: W,
    written: usize,
    entries: u32,
    known: BTreeSet<Vec<u8>>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            written: 0,
            entries: 0,
            known: BTreeSet::new(),
        }
    }

    /// Adds a folder, and those above it; one that is there stays.
    pub(crate) fn folder(&mut self, path: &Path) -> io::Result<()> {
        let above: Vec<&Path> = path.ancestors().collect();
        for folder in above.into_iter().rev() {
            self.once(folder, FOLDER, &[])?;
        }
        Ok(())
    }

    /// Adds a file, executable or not, and the folders above it. What is
    /// there stays.
    pub(crate) fn file(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.once(path, FILE | mode, bytes)
    }

    /// Adds a symbolic link, and the folders above it. What is there stays.
    pub(crate) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.above(path)?;
        self.once(path, LINK, target.as_os_str().as_encoded_bytes())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER.as_bytes(), 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn above(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |folder| self.folder(folder))
    }

    fn once(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let name = name.as_os_str().as_encoded_bytes();
        if name.is_empty() || !self.known.insert(name.to_vec()) {
            return Ok(());
        }
        self.entry(name, mode, bytes)
    }

    fn entry(&mut self, name: &[u8], mode: u32, bytes: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let length = u32::try_from(bytes.len()).map_err(too_large)?;
        let name_length = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.entries += 1;
        // Inode, mode, uid, gid, links, time, length, four device numbers,
        // length of the name, no sum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            0,
            0,
            name_length,
            0,
        ];
        let mut header = MAGIC.to_owned();
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.write(header.as_bytes())?;
        self.write(name)?;
        self.write(&[0])?;
        self.pad()?;
        self.write(bytes)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.to.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&[0; ALIGNMENT][..missing])
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_each_is_there_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/b"), 0o755, b"hello").unwrap();
        archive.file(Path::new("/a/b"), 0o755, b"again").unwrap();
        archive.link(Path::new("/a/c"), Path::new("b")).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let text = String::from_utf8(bytes).unwrap();
        // a, a/b, a/c and the end.
        assert_eq!(text.matches(MAGIC).count(), 4);
        assert!(text.contains("hello") && !text.contains("again"));
        assert!(text.contains(TRAILER));
    }
}
