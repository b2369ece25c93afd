//! The ground on which the incident is played: a root of its own in memory.
//!
//! The program leaves the machine's files behind before the attacker exists:
//! nothing that the attacker could find from here is a file of the machine.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use crate::error::ReenactError;
use crate::tenants;

/// What the attacker looks for before it begins.
const MARKER: &str = "cloison-stage";
const MARKER_CONTENT: &str = "CLOISON STAGE\n";
/// Where the new root is made: a folder that every machine has.
const SCAFFOLD: &str = "/tmp";
const TENANTS: &str = "/srv";
/// Only root may enter it: what lies in it can be reached by a descriptor
/// alone.
const VAULT: &str = "/vault";
const DRAWER: &str = "/vault/drawer";
/// The name under which the attacker was uploaded.
const UPLOADED: &str = "cgi/restore";

/// A folder that was left open for every process to inherit, as happened to
/// container engines more than once (CVE-2016-9962, CVE-2024-21626).
#[derive(Debug)]
pub(crate) struct LeftOpen {
    _folder: OwnedFd,
}

/// The tree of one tenant.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Its root, on the ground.
    pub(crate) root: PathBuf,
    /// What its server serves, seen from its root.
    pub(crate) served: &'static str,
    /// The same, opened before the tenant ran: afterwards the name may lead
    /// elsewhere.
    pub(crate) folder: File,
}

impl Tree {
    /// What is served, on the ground.
    pub(crate) fn served_on_ground(&self) -> PathBuf {
        self.root.join(self.served.trim_start_matches('/'))
    }
}

/// Makes a root in memory and moves this process into it.
///
/// With `kernel_files` it shows /sys, which the library asks about the
/// kernel and its cgroups.
pub(crate) fn make(kernel_files: bool) -> Result<(), ReenactError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(ReenactError::mount("own mount namespace"))?;
    mount_at("/", None, None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    let flags = MsFlags::MS_NOSUID;
    mount_at(SCAFFOLD, Some("tmpfs"), None, flags, "mode=755,size=512m")?;
    let root = Path::new(SCAFFOLD);
    for name in ["dev", "proc", "run", "srv", "sys", "tmp", "vault", "old"] {
        make_folder(&root.join(name), 0o755)?;
    }
    let proc = root.join("proc");
    mount_at(&proc, Some("proc"), None, kernel_flags(), "")?;
    furnish_dev(&root.join("dev"))?;
    if kernel_files {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount_at(root.join("sys"), None, Some("/sys"), flags, "")?;
    }
    set_mode(&root.join("tmp"), 0o1777)?;
    write_marker(root)?;
    chdir(root).map_err(ReenactError::mount("entering the ground"))?;
    pivot_root(".", "old").map_err(ReenactError::mount("changing the root"))?;
    chdir("/").map_err(ReenactError::mount("entering the new root"))?;
    umount2("/old", MntFlags::MNT_DETACH).map_err(ReenactError::mount("leaving the old root"))?;
    fs::remove_dir("/old").map_err(ReenactError::ground("/old"))?;
    make_folder(Path::new(DRAWER), 0o755)?;
    set_mode(Path::new(VAULT), 0o700)
}

fn kernel_flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn furnish_dev(dev: &Path) -> Result<(), ReenactError> {
    for name in ["null", "zero", "urandom"] {
        let node = dev.join(name);
        File::create(&node).map_err(ReenactError::ground(&node))?;
        let source = Path::new("/dev").join(name);
        mount_at(&node, None, source.to_str(), MsFlags::MS_BIND, "")?;
    }
    let queues = dev.join("mqueue");
    make_folder(&queues, 0o1777)?;
    mount_at(&queues, Some("mqueue"), None, kernel_flags(), "")
}

/// Everything of the tenant called `name`, owned by `owner`.
///
/// The root is complete in itself: the program, the mount points that a
/// sandbox wants, the files. `program` is copied, so that no two tenants
/// share an inode.
pub(crate) fn furnish_tenant(
    name: &str,
    program: &[u8],
    owner: u32,
    hostile: bool,
) -> Result<Tree, ReenactError> {
    let root = Path::new(TENANTS).join(name);
    let served = root.join("www");
    for folder in ["", "bin", "proc", "dev", "tmp", "run", "sys"] {
        make_folder(&root.join(folder), 0o755)?;
    }
    for folder in ["", "letters", "cgi", "log", "run"] {
        make_folder(&served.join(folder), 0o755)?;
    }
    let server = root.join("bin/canary-serve");
    write(&server, program, 0o755)?;
    let clerk = root.join("bin/canary-clerk");
    fs::hard_link(&server, &clerk).map_err(ReenactError::ground(&clerk))?;
    for file in tenants::files(name) {
        write(&served.join(file.name), file.content.as_bytes(), 0o600)?;
    }
    if hostile {
        write(&served.join(UPLOADED), program, 0o755)?;
    }
    write_marker(&root)?;
    give_away(&root, owner)?;
    let drawer = drawer_of(name);
    write(&drawer, drawer_content(name).as_bytes(), 0o666)?;
    let folder = File::open(&served).map_err(ReenactError::ground(&served))?;
    Ok(Tree {
        root,
        served: "/www",
        folder,
    })
}

/// The request that starts what was uploaded.
pub(crate) fn attack_request() -> String {
    format!("/{UPLOADED}?attacker")
}

/// The file of a tenant that only an inherited descriptor leads to.
pub(crate) fn drawer_of(name: &str) -> PathBuf {
    Path::new(DRAWER).join(name)
}

/// What stands in it.
pub(crate) fn drawer_content(name: &str) -> String {
    format!("{}\nwhat the host keeps of the {name}\n", tenants::CANARY)
}

/// Leaves the drawer open without close-on-exec.
pub(crate) fn leave_open() -> Result<LeftOpen, ReenactError> {
    let opened = File::open(DRAWER).map_err(ReenactError::ground(DRAWER))?;
    // Not the number 3, where a server's socket goes.
    let folder = opened.try_clone();
    let folder = folder.map_err(ReenactError::ground(DRAWER))?;
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(|errno| ReenactError::ground(DRAWER)(errno.into()))?;
    Ok(LeftOpen {
        _folder: folder.into(),
    })
}

/// The program for whoever is started without an enclosure.
pub(crate) fn place_program(program: &[u8]) -> Result<PathBuf, ReenactError> {
    let path = PathBuf::from("/run/ordinary");
    write(&path, program, 0o755)?;
    Ok(path)
}

fn mount_at(
    target: impl AsRef<Path>,
    kind: Option<&'static str>,
    source: Option<&str>,
    flags: MsFlags,
    data: &'static str,
) -> Result<(), ReenactError> {
    let step = kind.unwrap_or("a folder or node of the machine");
    let data = (!data.is_empty()).then_some(data);
    mount(source.or(Some("none")), target.as_ref(), kind, flags, data)
        .map_err(ReenactError::mount(step))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), ReenactError> {
    fs::create_dir(path).map_err(ReenactError::ground(path))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ReenactError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(ReenactError::ground(path))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), ReenactError> {
    fs::write(path, content).map_err(ReenactError::ground(path))?;
    set_mode(path, mode)
}

fn write_marker(root: &Path) -> Result<(), ReenactError> {
    write(&root.join(MARKER), MARKER_CONTENT.as_bytes(), 0o444)
}

/// Gives a tree that nobody has seen yet to `owner`.
fn give_away(path: &Path, owner: u32) -> Result<(), ReenactError> {
    let failed = |source: io::Error| ReenactError::ground(path)(source);
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            give_away(&entry.map_err(failed)?.path(), owner)?;
        }
    }
    chown(path, Some(owner), Some(owner)).map_err(failed)
}
