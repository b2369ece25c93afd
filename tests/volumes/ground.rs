//! Loop devices for a case, a place on a disk, volumes, and what fills them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cloison_linux::host;
use cloison_storage::{
    Attached, Limits, Means, NewVolume, Space, VolumeError, VolumeName, Volumes,
};
use cloison_tests::Outcome;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// What the files of the tenant carry on disk.
pub(crate) const DISK: u32 = 1_879_048_192;
pub(crate) const MIB: u64 = 1 << 20;
/// A small volume.
pub(crate) const LIMITS: Limits = Limits {
    bytes_max: 64 * MIB,
    inodes_max: 1024,
};

/// More than any case has at once, with some for those of others.
const DEVICES: u64 = 64;
const LOOP_MAJOR: u64 = 7;
const CONTROL: (u64, u64) = (10, 237);
const RULES: &str = "/sys/fs/cgroup/devices";

/// The loop devices of the machine, opened to the stage for one case, and a
/// place of the case's own on the machine's disk. Devices have no namespace:
/// whoever leaves one fails.
pub(crate) struct Ground {
    pub(crate) place: PathBuf,
}

impl Ground {
    pub(crate) fn new(case: &str) -> Self {
        private_mounts();
        open_devices("allow").unwrap();
        let node = |name: &str, kind, number: (u64, u64)| {
            let path = Path::new("/dev").join(name);
            mknod(
                &path,
                kind,
                Mode::S_IRUSR | Mode::S_IWUSR,
                makedev(number.0, number.1),
            )
            .unwrap();
        };
        node("loop-control", SFlag::S_IFCHR, CONTROL);
        for at in 0..DEVICES {
            node(&format!("loop{at}"), SFlag::S_IFBLK, (LOOP_MAJOR, at));
        }
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let place = tmp.join(format!("volumes-{case}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        Self { place }
    }

    /// A directory of the host's own.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.place.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        path
    }

    /// A disk of the stage's host: a file system of that kind, mounted. `None`
    /// where this host cannot.
    pub(crate) fn disk(&self, make: &[&str], options: &str, bytes: u64) -> Option<PathBuf> {
        let image = self.place.join("disk");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let (program, arguments) = make.split_first().unwrap();
        assert!(run(program, arguments, &image), "{make:?}");
        let point = self.directory("host");
        let options = format!("loop,{options}");
        let mounted = Command::new("mount")
            .args(["-o", &options])
            .args([&image, &point])
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&mounted.stderr));
        if !mounted.status.success() {
            fs::remove_dir(&point).unwrap();
            fs::remove_file(&image).unwrap();
            return None;
        }
        fs::set_permissions(&point, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Some(point)
    }

    /// The devices that have a file of this case, by number.
    pub(crate) fn devices(&self) -> Vec<String> {
        let mut found = Vec::new();
        for at in 0..DEVICES {
            let file = format!("/sys/block/loop{at}/loop/backing_file");
            let file = fs::read_to_string(file).unwrap_or_default();
            let ours = [self.place.to_str().unwrap(), "/tmp/"];
            // Of what has no name the kernel tells the number alone.
            if ours.iter().any(|ours| file.starts_with(ours)) {
                found.push(format!("loop{at}: {}", file.trim_end()));
            }
        }
        found
    }

    /// Waits for the devices of those who ended to let go; what is left then.
    pub(crate) fn settled(&self) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(2);
        while !self.devices().is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.devices()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        while umount_last() {}
        let left = self.settled();
        for device in &left {
            let number = device.split(':').next().unwrap();
            Command::new("losetup")
                .args(["-d", &format!("/dev/{number}")])
                .status()
                .unwrap();
        }
        fs::remove_dir_all(&self.place).unwrap();
        for at in 0..DEVICES {
            fs::remove_file(format!("/dev/loop{at}")).unwrap();
        }
        fs::remove_file("/dev/loop-control").unwrap();
        open_devices("deny").unwrap();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// What the case mounted last, unmounted.
fn umount_last() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let last = mounts.lines().rfind(|line| line.starts_with("/dev/loop"));
    let Some(point) = last.and_then(|line| line.split(' ').nth(1)) else {
        return false;
    };
    umount2(point, MntFlags::MNT_DETACH).is_ok()
}

fn open_devices(how: &str) -> io::Result<()> {
    if !Path::new(RULES).join("devices.list").exists() {
        return Ok(());
    }
    let (major, minor) = CONTROL;
    for rule in [
        format!("c {major}:{minor} rw"),
        format!("b {LOOP_MAJOR}:* rw"),
    ] {
        fs::write(format!("{RULES}/devices.{how}"), rule)?;
    }
    Ok(())
}

/// Mounts of the case stay its own.
fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
}

/// Runs a program with `path` as its last argument.
pub(crate) fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

pub(crate) fn volumes(directory: &Path) -> Volumes {
    let directory = File::open(directory).unwrap();
    Volumes::open(directory.into(), NonZeroU32::new(DISK).unwrap()).unwrap()
}

pub(crate) fn name(name: &str) -> VolumeName {
    name.parse().unwrap()
}

pub(crate) const fn image(limits: Limits, space: Space) -> NewVolume {
    NewVolume {
        limits,
        space,
        means: Means::Image,
    }
}

/// Mounts what was attached at a new directory.
pub(crate) fn mounted(attached: Attached, point: &Path) -> PathBuf {
    mounted_descriptor(attached.mount, point)
}

pub(crate) fn mounted_descriptor(mount: OwnedFd, point: &Path) -> PathBuf {
    fs::create_dir(point).unwrap();
    let path = std::ffi::CString::new(point.to_str().unwrap()).unwrap();
    host::move_mount(mount.as_fd(), None, &path).unwrap();
    point.to_owned()
}

pub(crate) fn unmounted(point: &Path) {
    umount2(point, MntFlags::empty()).unwrap();
    fs::remove_dir(point).unwrap();
}

/// The error of a full file system or quota.
fn is_full(error: &io::Error) -> bool {
    [Errno::ENOSPC, Errno::EDQUOT]
        .map(|errno| Some(errno as i32))
        .contains(&error.raw_os_error())
}

/// Writes one file until nothing goes in, and flushes; how many bytes it has.
pub(crate) fn fill_bytes(directory: &Path, most: u64) -> u64 {
    let path = directory.join("bytes");
    let mut file = File::create(&path).unwrap();
    let chunk = vec![0xa5; 1 << 16];
    while fs::metadata(&path).unwrap().len() < most {
        match file.write_all(&chunk).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(error) if is_full(&error) => break,
            Err(error) => panic!("{error}"),
        }
    }
    fs::metadata(&path).unwrap().len()
}

/// Makes files until no more can be made; how many.
pub(crate) fn fill_inodes(directory: &Path, most: u64) -> u64 {
    fs::create_dir(directory.join("inodes")).unwrap();
    for at in 0..most {
        match File::create(directory.join(format!("inodes/{at}"))) {
            Ok(_) => {}
            Err(error) if is_full(&error) => return at,
            Err(error) => panic!("{error}"),
        }
    }
    most
}

/// What a file takes of the disk.
pub(crate) fn bytes_on_disk(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Fails unless it is the error that was wanted.
pub(crate) fn wants<T: std::fmt::Debug>(
    faults: &mut Vec<String>,
    what: &str,
    found: Result<T, VolumeError>,
    wanted: impl FnOnce(&VolumeError) -> bool,
) {
    match found {
        Err(error) if wanted(&error) => {
            println!("{what}: {error}; {}", error.remedy().unwrap_or("no remedy"));
        }
        other => faults.push(format!("{what}: {other:?}")),
    }
}

/// What was found, or what it should have been.
pub(crate) fn check(faults: &mut Vec<String>, holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        faults.push(what());
    }
}

/// Skips where this host has no such program.
pub(crate) fn missing(program: &str) -> Option<Outcome> {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).exists());
    (!found).then(|| Outcome::Skipped(format!("there is no {program}")))
}
