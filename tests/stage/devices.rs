//! What of the machine's devices a stage can reach: none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cloison_tests::Outcome;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};

use crate::faults::caught;
use crate::faulty;
use crate::refusals::wants;

const NODES: [(&str, (u64, u64)); 6] = [
    ("/dev/full", (1, 7)),
    ("/dev/null", (1, 3)),
    ("/dev/random", (1, 8)),
    ("/dev/tty", (5, 0)),
    ("/dev/urandom", (1, 9)),
    ("/dev/zero", (1, 5)),
];
const RULES: &str = "/sys/fs/cgroup/devices/devices.list";
/// For local use: no driver of Linux has it, so that nothing can be reached.
const LOCAL_MAJOR: u64 = 60;

/// `/dev` is a memory file system that holds what a host cannot do without.
pub(crate) fn own() -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(mounts.contains(" /dev tmpfs "), "{mounts}");
    let found = nodes(Path::new("/dev"));
    // The multiplexer is the devpts' own.
    let wanted = NODES.into_iter().chain([("/dev/pts/ptmx", (5, 2))]);
    let wanted: BTreeMap<PathBuf, (u64, u64)> =
        wanted.map(|(path, number)| (path.into(), number)).collect();
    assert_eq!(found, wanted);
    assert!(File::open("/dev/ptmx").is_ok() && File::open("/dev/fd/0").is_ok());
    assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
    // The machine's is gone, not covered: no mount shows it.
    assert!(!mounts.contains("devtmpfs"), "{mounts}");
    Outcome::Passed
}

/// Each device beneath `folder`; a block device has no place there.
fn nodes(folder: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let status = fs::symlink_metadata(&path).unwrap();
        let kind = status.file_type();
        assert!(!kind.is_block_device(), "{}", path.display());
        if kind.is_dir() {
            found.append(&mut nodes(&path));
        } else if kind.is_char_device() {
            found.insert(path, (major(status.rdev()), minor(status.rdev())));
        }
    }
    found
}

/// A node made by number does not open: not a disk, nothing but the stage's.
pub(crate) fn no_other() -> Outcome {
    let Ok(rules) = fs::read_to_string(RULES) else {
        return Outcome::Skipped("no devices controller of version 1".to_owned());
    };
    // No rule of a block device but that it may be made, and none for all.
    for rule in rules.lines() {
        let is_bounded = matches!(rule, "b *:* m" | "c *:* m")
            || (rule.starts_with("c ") && !rule.starts_with("c *") && rule.ends_with(" rw"));
        assert!(is_bounded, "{rule:?} in {rules}");
    }
    assert!(rules.contains("c 1:3 rw"), "{rules}");
    for kind in [SFlag::S_IFBLK, SFlag::S_IFCHR] {
        // In /tmp no node opens.
        let path = Path::new("/dev/node");
        mknod(path, kind, Mode::S_IRUSR, makedev(LOCAL_MAJOR, 0)).unwrap();
        let opened = File::open(path).map_err(|error| error.raw_os_error());
        fs::remove_file(path).unwrap();
        // Without the rules: ENXIO, there is no such device.
        assert_eq!(opened.err(), Some(Some(Errno::EPERM as i32)), "{kind:?}");
    }
    Outcome::Passed
}

/// A program on a stage whose `/dev` has one more node, of either kind and at
/// any depth, refuses to run.
pub(crate) fn of_the_machine() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    fs::create_dir("/dev/deep").unwrap();
    for (kind, major) in [(SFlag::S_IFBLK, 1), (SFlag::S_IFCHR, LOCAL_MAJOR)] {
        let node = "/dev/deep/node";
        mknod(node, kind, Mode::S_IRUSR, makedev(major, 3)).unwrap();
        wants(&mut faulty("passes"), 114);
        fs::remove_file(node).unwrap();
    }
    fs::remove_dir("/dev/deep").unwrap();
    wants(&mut faulty("passes"), 0);
    Outcome::Passed
}

/// Where a case opens one more device to the stage, the runner tells.
pub(crate) fn opened() -> Outcome {
    if !Path::new(RULES).exists() {
        return Outcome::Skipped("no devices controller of version 1".to_owned());
    }
    let outcome = caught("opens_a_device", "left behind: new setting: ");
    let undone: io::Result<()> = fs::write(
        Path::new(RULES).with_file_name("devices.deny"),
        format!("b {LOCAL_MAJOR}:0 r"),
    );
    undone.unwrap();
    outcome
}
