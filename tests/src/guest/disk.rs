//! Disks of a guest, each a file of its host's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows its disks.
const BLOCK: &str = "/sys/block";

/// A disk, known in the guest by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// At most twenty letters.
    pub name: &'static str,
    /// What it holds.
    pub file: PathBuf,
    /// What the guest does with it.
    pub used: DiskUse,
}

/// What a guest does with a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskUse {
    /// It only reads.
    Read,
    /// It writes, and nobody waits until the host's own disk has it.
    Written,
    /// Each write and each flush goes, in the order in which they were done,
    /// into this file too, in the form of the kernel's dm-log-writes.
    Logged(PathBuf),
}

impl Disk {
    /// What QEMU is told of it.
    pub(super) fn words(&self) -> [String; 4] {
        let Self { name, file, used } = self;
        let held = |prefix: &str, path: &Path| {
            let path = path.to_string_lossy().replace(',', ",,");
            format!(
                "{prefix}driver=file,{prefix}filename={path},{prefix}cache.no-flush=on,\
                 {prefix}cache.direct=off"
            )
        };
        let node = match used {
            DiskUse::Read => format!("{},read-only=on", held("", file)),
            DiskUse::Written => held("", file),
            DiskUse::Logged(log) => format!(
                "driver=blklogwrites,log-sector-size=512,{},{}",
                held("file.", file),
                held("log.", log)
            ),
        };
        // Discarding and zeroing are writes of another kind, which the log of
        // QEMU before 9.0 may put in the wrong place.
        let device = format!(
            "virtio-blk-pci,drive={name},serial={name},physical_block_size=4096,\
             write-cache=on,discard=off,write-zeroes=off"
        );
        let node = format!("{node},node-name={name}");
        ["-blockdev".to_owned(), node, "-device".to_owned(), device]
    }
}

/// The device of the disk `name`, in a guest.
///
/// # Errors
/// There is none of that name.
pub fn find_disk(name: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(BLOCK)? {
        let entry = entry?;
        let serial = fs::read_to_string(entry.path().join("serial"));
        if serial.is_ok_and(|serial| serial.trim() == name) {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    let text = format!("there is no disk {name}");
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_disk_has_two_files() {
        let disk = Disk {
            name: "state",
            file: PathBuf::from("/a,b"),
            used: DiskUse::Logged(PathBuf::from("/log")),
        };
        let [_, node, _, device] = disk.words();
        assert!(node.contains("file.filename=/a,,b,"), "{node}");
        assert!(node.contains("log.filename=/log,"), "{node}");
        assert!(device.contains("serial=state,"), "{device}");
    }
}
