//! The devices of a stage: its own nodes, and no others that open.
//!
//! The machine's `/dev` has its disks. A weakened sandbox that got hold of
//! them would harm more than the stage.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};

use super::first_process::renew;
use super::refusal::Refusal;
use super::{StageError, call, step};

/// Character devices, by name and number, for everybody.
const NODES: [(&str, (u64, u64)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Pseudo-terminals: the multiplexer, and the numbers of the others.
const TERMINALS: [&str; 2] = ["c 5:2 rw", "c 136:* rw"];

/// Mounts a `/dev` that holds nothing of the machine's.
pub(super) fn furnish() -> Result<(), StageError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    renew("/dev", "tmpfs", flags, Some("mode=755,size=1m"))?;
    let dev = Path::new("/dev");
    for (name, (major, minor)) in NODES {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))
            .map_err(call("making a device node"))?;
        // Whatever the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
            .map_err(step("opening a device node to all"))?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).map_err(step("making a link in /dev"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).map_err(step("making a mount point in /dev"))?;
    }
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    renew("/dev/shm", "tmpfs", harmless, Some("mode=1777"))?;
    renew(
        "/dev/pts",
        "devpts",
        flags,
        Some("newinstance,ptmxmode=666,mode=620"),
    )
}

/// What the devices controller of version 1 is told, in order: any node may
/// be made, and those of a stage opened.
pub(super) fn rules() -> Vec<(&'static str, String)> {
    let all = ("devices.deny", "a".to_owned());
    let made = ["c *:* m", "b *:* m"].map(str::to_owned);
    let opened = NODES.map(|(_, (major, minor))| format!("c {major}:{minor} rw"));
    let allowed = made.into_iter().chain(opened);
    let allowed = allowed.chain(TERMINALS.map(str::to_owned));
    [all]
        .into_iter()
        .chain(allowed.map(|rule| ("devices.allow", rule)))
        .collect()
}

/// Checks that `/dev` has no node but those that a stage makes.
pub(super) fn verify() -> Result<(), Refusal> {
    let unreadable = |source| Refusal::Unreadable {
        what: "/dev",
        source,
    };
    match foreign(Path::new("/dev")).map_err(unreadable)? {
        Some(path) => Err(Refusal::ForeignDevice { path }),
        None => Ok(()),
    }
}

fn foreign(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = match fs::symlink_metadata(&path) {
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        let kind = found.file_type();
        if kind.is_dir() {
            if let Some(path) = foreign(&path)? {
                return Ok(Some(path));
            }
        } else if kind.is_block_device()
            || kind.is_char_device() && !is_of_a_stage(major(found.rdev()), minor(found.rdev()))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_of_a_stage(major: u64, minor: u64) -> bool {
    let is_terminal = (major, minor) == (5, 2) || major == 136;
    is_terminal || NODES.iter().any(|(_, number)| *number == (major, minor))
}
