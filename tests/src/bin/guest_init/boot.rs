//! From the kernel's first root to a host.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cloison_escape::stage::rtnetlink::Rtnetlink;
use cloison_tests::guest::{End, Order, ROOT};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{chdir, chroot, sethostname};

use crate::fail::{Failed, step};

const HOST_NAME: &str = "guest";
const DISK: &str = "/disk";
const SYSTEMD: &str = "/sbin/init";
const CGROUPS: &str = "/sys/fs/cgroup";
const TIOCSTI: &str = "/proc/sys/dev/tty/legacy_tiocsti";
/// So small that one server could take all of it, had it any.
const FILTERS: (&str, &str) = ("/proc/sys/net/core/bpf_jit_limit", "8388608");
const SWAP: &str = "/dev/zram0";
const SWAP_SIZE: (&str, &str) = ("/sys/block/zram0/disksize", "256M");
const FILES_SOFT: u64 = 1 << 10;
const FILES_HARD: u64 = 1 << 19;
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// As a service manager delegates: a group that holds no process, the command
/// in a leaf of it.
const DELEGATED: &str = "/sys/fs/cgroup/delegated";
const LEAF: &str = "/sys/fs/cgroup/delegated/leaf";

/// What both forms need: a root that can be left, and the modules.
pub(crate) fn prepare(order: &Order) -> Result<(), Failed> {
    mount_at("proc", "/proc", "proc", strict(), None)?;
    mount_at("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, None)?;
    for path in &order.modules {
        load(path)?;
    }
    Ok(())
}

/// Makes what is there a host's root: not the kernel's first one, in which
/// nobody can pivot, with all that a host has mounted.
pub(crate) fn furnish() -> Result<(), Failed> {
    let none: Option<&str> = None;
    mount(Some("/"), ROOT, none, MsFlags::MS_BIND, none).map_err(step("binding the root"))?;
    for folder in ["proc", "dev"] {
        let (from, to) = (format!("/{folder}"), format!("{ROOT}/{folder}"));
        mount(Some(&*from), &*to, none, MsFlags::MS_MOVE, none).map_err(step(&to))?;
    }
    enter(ROOT)?;
    mount_at("sysfs", "/sys", "sysfs", strict(), None)?;
    for folder in ["/dev/pts", "/dev/shm"] {
        fs::create_dir_all(folder).map_err(step(folder))?;
    }
    // As udev makes them. Without the first, TOMOYO answers an execveat(2) of a
    // descriptor with ENOENT: it looks for `/dev/fd/N`, and has another way only
    // since Linux 6.12 and the stable ones of late 2024 (Debian's bug 1082001).
    // Our 5.10 is older than that.
    for (name, target) in DEVICE_LINKS {
        symlink(target, name).map_err(step(name))?;
    }
    let terminals = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("gid=5,mode=620,ptmxmode=666");
    mount_at("devpts", "/dev/pts", "devpts", terminals, options)?;
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at("tmpfs", "/dev/shm", "tmpfs", harmless, Some("mode=1777"))?;
    mount_at("tmpfs", "/run", "tmpfs", harmless, Some("mode=755"))?;
    mount_at("tmpfs", "/tmp", "tmpfs", harmless, Some("mode=1777"))?;
    // As systemd mounts it.
    let options = Some("nsdelegate,memory_recursiveprot");
    mount_at("cgroup2", CGROUPS, "cgroup2", strict(), options)?;
    // Shared, as systemd makes it.
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    mount(none, "/", none, shared, none).map_err(step("sharing the mounts"))?;
    delegate()?;
    // As systemd sets it.
    setrlimit(Resource::RLIMIT_NOFILE, FILES_SOFT, FILES_HARD).map_err(step("RLIMIT_NOFILE"))?;
    // Where Debian has it off: a probe of it would have no control.
    if Path::new(TIOCSTI).exists() {
        fs::write(TIOCSTI, "1").map_err(step(TIOCSTI))?;
    }
    let (path, bytes) = FILTERS;
    fs::write(path, bytes).map_err(step(path))?;
    swap()?;
    sethostname(HOST_NAME).map_err(step("sethostname"))?;
    Rtnetlink::open()
        .and_then(|rtnetlink| rtnetlink.bring_up(1))
        .map_err(step("bringing lo up"))
}

/// Makes the disk the root, with what is `shown` of this one, and becomes its
/// init.
pub(crate) fn hand_over(order: &Order) -> Result<End, Failed> {
    let none: Option<&str> = None;
    let device = "/dev/vda";
    mount(Some(device), DISK, Some("ext4"), MsFlags::empty(), none).map_err(step(device))?;
    for path in &order.shown {
        let at = Path::new(DISK).join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(&at).map_err(step(&at.to_string_lossy()))?;
        mount(Some(path), &at, none, MsFlags::MS_BIND, none)
            .map_err(step(&at.to_string_lossy()))?;
    }
    for folder in ["proc", "dev"] {
        let (from, to) = (format!("/{folder}"), format!("{DISK}/{folder}"));
        mount(Some(&*from), &*to, none, MsFlags::MS_MOVE, none).map_err(step(&to))?;
    }
    enter(DISK)?;
    Err(step(SYSTEMD)(Command::new(SYSTEMD).env_clear().exec()))
}

/// Swap in compressed memory.
fn swap() -> Result<(), Failed> {
    let (path, size) = SWAP_SIZE;
    fs::write(path, size).map_err(step(path))?;
    for program in ["mkswap", "swapon"] {
        let path = format!("/usr/bin/{program}");
        let output = Command::new(&path)
            .arg(SWAP)
            .output()
            .map_err(step(&path))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failed::new(&path, io::Error::other(said)));
        }
    }
    Ok(())
}

fn strict() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Failed> {
    mount(Some(source), target, Some(kind), flags, options).map_err(step(target))
}

fn enter(root: &str) -> Result<(), Failed> {
    let none: Option<&str> = None;
    chdir(root).map_err(step(root))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(step("moving the root"))?;
    chroot(".").map_err(step("chroot"))?;
    chdir("/").map_err(step("chdir"))
}

fn load(path: &Path) -> Result<(), Failed> {
    let name = path.to_string_lossy();
    let file = File::open(path).map_err(step(&name))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Failed::new(&name, errno)),
    }
}

/// Gives all controllers to a group and puts this process in its leaf.
fn delegate() -> Result<(), Failed> {
    let available = format!("{CGROUPS}/cgroup.controllers");
    let available = fs::read_to_string(&available).map_err(step(&available))?;
    fs::create_dir_all(LEAF).map_err(step(LEAF))?;
    for group in [CGROUPS, DELEGATED] {
        let file = format!("{group}/cgroup.subtree_control");
        for controller in available.split_whitespace() {
            fs::write(&file, format!("+{controller}")).map_err(step(&file))?;
        }
    }
    fs::write(format!("{LEAF}/cgroup.procs"), "0").map_err(step(LEAF))
}
