//! The disk: a file system, and behind it a place for marks.
//!
//! A mark is written past every cache, without a flush, when the writer has
//! been told that a change is done: so the log of the disk's writes says what
//! had been acknowledged before each of them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};

pub(crate) const SECTOR: usize = 512;
/// What the disk writes whole or not at all, as today's disks do, and a block of
/// the file system. With less ext4 itself is lost: it does not mount with half of
/// its superblock.
pub(crate) const BLOCK: usize = 4096;
const MIB: u64 = 1 << 20;
/// Where the file system starts, how long it is, and where the marks start.
pub(crate) const SYSTEM_AT: u64 = MIB;
pub(crate) const SYSTEM_BYTES: u64 = 32 * MIB;
pub(crate) const MARKS_AT: u64 = SYSTEM_AT + SYSTEM_BYTES;
const DISK_BYTES: u64 = MARKS_AT + MIB;
/// The most that the log may grow to: it is a file with holes.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Where the file system is mounted, and the state in it.
const MOUNTED_AT: &str = "/disk";
pub(crate) const STATE: &str = "/disk/state";
/// The kernel's guesses at what a careless program meant are off: they would
/// hide a flush that is missing.
const OPTIONS: &str = "noauto_da_alloc,commit=1";

const MARK: &[u8; 8] = b"cloison\x01";

/// A page, as writing past the cache wants it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Where marks are written.
pub(crate) struct Marks {
    device: File,
    page: Box<Page>,
}

impl Marks {
    pub(crate) fn open(device: &Path) -> io::Result<Self> {
        Ok(Self {
            device: OpenOptions::new()
                .write(true)
                .custom_flags(OFlag::O_DIRECT.bits())
                .open(device)?,
            page: Box::new(Page([0; 4096])),
        })
    }

    /// Says that so many changes were acknowledged.
    pub(crate) fn write(&mut self, acknowledged: u64) -> io::Result<()> {
        let bytes = MARK.iter().copied().chain(acknowledged.to_le_bytes());
        for (place, byte) in self.page.0.iter_mut().zip(bytes) {
            *place = byte;
        }
        self.device.write_all_at(&self.page.0, 0)
    }
}

/// What a mark says.
pub(crate) fn marked(bytes: &[u8]) -> Option<u64> {
    let number = bytes.strip_prefix(MARK)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*number))
}

/// The files of one trial: the file system as it is before anything is written,
/// the disk with it, the log of its writes, a disk to try on.
pub(crate) struct Files {
    pub(crate) system: PathBuf,
    pub(crate) disk: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl Files {
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let files = Self {
            system: folder.join("system"),
            disk: folder.join("disk"),
            log: folder.join("log"),
            scratch: folder.join("scratch"),
        };
        for (path, bytes) in [
            (&files.system, SYSTEM_BYTES),
            (&files.disk, DISK_BYTES),
            (&files.log, LOG_BYTES_MAX),
            (&files.scratch, SYSTEM_BYTES),
        ] {
            File::create_new(path)?.set_len(bytes)?;
        }
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", &BLOCK.to_string()])
            .args(["-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&files.system)
            .output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(io::Error::other(format!("mkfs.ext4: {said}")));
        }
        let disk = OpenOptions::new().write(true).open(&files.disk)?;
        disk.write_all_at(&table_of_partitions(), 0)?;
        disk.write_all_at(&fs::read(&files.system)?, SYSTEM_AT)?;
        Ok(files)
    }
}

/// A first sector that says where the two partitions are.
fn table_of_partitions() -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in sector.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    let partitions = [(SYSTEM_AT, SYSTEM_BYTES), (MARKS_AT, DISK_BYTES - MARKS_AT)];
    for (index, (at, bytes)) in partitions.into_iter().enumerate() {
        let in_sectors = |bytes: u64| u32::try_from(bytes / SECTOR as u64).unwrap_or(u32::MAX);
        let entry = 446 + 16 * index;
        put(entry + 4, &[0x83]);
        put(entry + 8, &in_sectors(at).to_le_bytes());
        put(entry + 12, &in_sectors(bytes).to_le_bytes());
    }
    put(510, &[0x55, 0xaa]);
    sector
}

/// A mounted file system, unmounted with it.
pub(crate) struct Mounted(());

impl Mounted {
    pub(crate) fn mount(device: &Path) -> nix::Result<Self> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(device), MOUNTED_AT, Some("ext4"), flags, Some(OPTIONS))?;
        Ok(Self(()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(errno) = nix::mount::umount(MOUNTED_AT) {
            eprintln!("{MOUNTED_AT} stays mounted: {errno}");
        }
    }
}
