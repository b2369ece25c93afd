//! A folder on a real disk, for the attack on its rate.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use cloison_sandbox::{Access, IdRange, IoLimit, Mount, Spec};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use nix::unistd::mkdtemp;

use super::IDS;

/// What the attacker may write in a second.
pub(super) const RATE: u64 = 512 << 10;
/// Where a disk is looked for. A stage has a `/tmp` of its own, in memory.
const PLACE: &str = "/var/tmp";
const PREFIX: &str = "cloison-noisy-";
/// From when on a folder is one that a killed run left.
const STALE: Duration = Duration::from_secs(3600);
/// The disk's node: a stage has none.
const NODE: &str = "/tmp/disk";

/// The folder of this process.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Why there is no disk here whose rate can be limited.
pub(super) fn lacks() -> Option<String> {
    whole_disk()
        .is_none()
        .then(|| format!("{PLACE} is on no disk of this machine whose rate the kernel could limit"))
}

/// Gives a server a folder of the disk, and so much of the disk's time.
pub(super) fn give(spec: &mut Spec, bytes_per_s: Option<u64>) {
    if let Err(error) = try_to_give(spec, bytes_per_s) {
        // The server is then started without: the attack gets nowhere, which
        // neither it nor its control may.
        println!("no folder on the disk: {error}");
    }
}

/// Removes the folder.
pub(super) fn take_back() {
    if let Some(folder) = FOLDER.get()
        && let Err(error) = fs::remove_dir_all(folder)
    {
        println!("{} is left: {error}", folder.display());
    }
}

fn try_to_give(spec: &mut Spec, bytes_per_s: Option<u64>) -> io::Result<()> {
    let folder = match FOLDER.get() {
        Some(folder) => folder,
        None => {
            let made = make()?;
            FOLDER.get_or_init(|| made)
        }
    };
    spec.mounts.push(Mount {
        source: folder.clone(),
        target: "/srv".into(),
        access: Access::ReadWrite,
    });
    if let (Some(rate), Some(device)) = (bytes_per_s, whole_disk()) {
        match mknod(NODE, SFlag::S_IFBLK, Mode::S_IRUSR, device) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        spec.cgroup.io.push(IoLimit {
            device: NODE.into(),
            read_bytes_per_s_max: None,
            write_bytes_per_s_max: Some(rate),
            reads_per_s_max: None,
            writes_per_s_max: None,
        });
    }
    Ok(())
}

/// A folder that is the attacker's.
fn make() -> io::Result<PathBuf> {
    for entry in fs::read_dir(PLACE)?.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if is_ours && age > STALE {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let template = format!("{PREFIX}{}", "X".repeat(6));
    let folder = mkdtemp(&Path::new(PLACE).join(template))?;
    let owner = IDS + IdRange::COUNT;
    chown(&folder, Some(owner), Some(owner))?;
    Ok(folder)
}

/// The disk of [`PLACE`], as the kernel limits it: not a part of it.
fn whole_disk() -> Option<u64> {
    let device = fs::metadata(PLACE).ok()?.dev();
    let known = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let part = Path::new(&known);
    let of_whole = match part.join("partition").exists() {
        true => part.join("../dev"),
        false => part.join("dev"),
    };
    let text = fs::read_to_string(of_whole).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}
