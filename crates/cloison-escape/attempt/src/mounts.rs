//! A03 and A32: a tree that must stay read-only, and a mask over a name.

use std::ffi::{CStr, CString};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::arguments::{Arguments, c_string};
use crate::files;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, name, nr};

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: usize = 0x1000;
const AT_RECURSIVE: usize = 0x8000;
const CLONE_NEWNS: usize = 0x2_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const FSCONFIG_CMD_RECONFIGURE: usize = 7;
const FSCONFIG_SET_STRING: usize = 1;
const MNT_DETACH: usize = 2;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
const MS_BIND: usize = 4096;
const MS_MOVE: usize = 8192;
const MS_REC: usize = 16384;
const MS_REMOUNT: usize = 32;
const OPEN_TREE_CLONE: usize = 1;

/// The name of the canary file in a read-only tree.
const CANARY: &str = "canary";
/// The name of the file beneath a mask.
const SECRET: &str = "secret";

/// Clears read-only of the tree `ro`, whose file `canary` anyone may write
/// but for the mount, and looks beneath the mask `mask` for `token`.
/// `scratch` is a directory of the sandbox's own to mount on.
pub(crate) fn a03(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let tree = ReadOnlyTree::find(arguments, "ro")?;
    let mask = Mask {
        path: PathBuf::from(arguments.text("mask")?),
        token: arguments.text("token")?.to_owned(),
        scratch: tree.scratch.clone(),
    };
    if !mask.path.is_dir() {
        return Err(CouldNotTry(format!(
            "{} is no directory",
            mask.path.display()
        )));
    }
    tree.clear(report);
    mask.lift(report);
    Ok(())
}

/// Writes to a file of a tree that belongs to the host or to many tenants.
pub(crate) fn a32(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let tree = ReadOnlyTree::find(arguments, "ro")?;
    tree.clear(report);
    report.way("clear-nosuid-nodev", || tree.clear_nosuid_and_nodev());
    report.way("reopen", || tree.cleared(files::reopen_for_write));
    report.way("change-mode", || tree.cleared(change_mode));
    report.way("change-owner", || tree.cleared(change_owner));
    report.way("set-times", || tree.cleared(set_times));
    Ok(())
}

struct ReadOnlyTree {
    path: PathBuf,
    scratch: PathBuf,
}

impl ReadOnlyTree {
    fn find(arguments: &Arguments, key: &str) -> Result<Self, CouldNotTry> {
        let path = PathBuf::from(arguments.text(key)?);
        let scratch = PathBuf::from(arguments.text("scratch")?);
        let canary = path.join(CANARY);
        std::fs::symlink_metadata(&canary)
            .map_err(|error| CouldNotTry(format!("{}: {error}", canary.display())))?;
        std::fs::create_dir_all(scratch.join("over"))
            .map_err(|error| CouldNotTry(format!("{}: {error}", scratch.display())))?;
        Ok(Self { path, scratch })
    }

    fn clear(&self, report: &mut Report) {
        let path = c_string(&self.path.to_string_lossy());
        report.way("open", || files::mark(&self.path.join(CANARY)));
        report.way("create", || self.create());
        report.way("remount-bind", || {
            alone();
            self.after(
                mount(None, &path, MS_REMOUNT | MS_BIND),
                "mount",
                files::mark,
            )
        });
        report.way("remount", || self.remount(&path));
        report.way("mount_setattr", || {
            alone();
            self.after(
                clear_attributes(AT_FDCWD, &path, MOUNT_ATTR_RDONLY, 0),
                "mount_setattr",
                files::mark,
            )
        });
        report.way("mount_setattr-recursive", || {
            alone();
            let answer = clear_attributes(AT_FDCWD, &path, MOUNT_ATTR_RDONLY, AT_RECURSIVE);
            self.after(answer, "mount_setattr", files::mark)
        });
        report.way("reconfigure", || self.reconfigure(&path));
        report.way("bind-elsewhere", || self.bind_elsewhere(&path));
        report.way("detached-tree", || self.detached_tree(&path));
        report.way("nested-namespace", || {
            if let Err(errno) = unshare(CLONE_NEWUSER | CLONE_NEWNS) {
                return Verdict::stopped("unshare", errno);
            }
            self.after(
                mount(None, &path, MS_REMOUNT | MS_BIND),
                "mount",
                files::mark,
            )
        });
    }

    /// Tries the canary if `answer` says that the way to it was opened.
    fn after(&self, answer: Answer, call: &str, attempt: impl Fn(&Path) -> Verdict) -> Verdict {
        match answer {
            Ok(_) => attempt(&self.path.join(CANARY)),
            Err(errno) => Verdict::stopped(call, errno),
        }
    }

    /// Tries the canary on a mount whose read-only is cleared.
    fn cleared(&self, attempt: impl Fn(&Path) -> Verdict) -> Verdict {
        alone();
        let path = c_string(&self.path.to_string_lossy());
        let answer = clear_attributes(AT_FDCWD, &path, MOUNT_ATTR_RDONLY, 0);
        self.after(answer, "mount_setattr", attempt)
    }

    fn create(&self) -> Verdict {
        let path = self.path.join("made-inside");
        match std::fs::File::create_new(&path) {
            Ok(_) => Verdict::Through(format!("{} made", path.display())),
            Err(error) => Verdict::refused("open O_CREAT", &error),
        }
    }

    /// A remount without MS_BIND also reaches the superblock, so it is tried
    /// on a tmpfs only, which the test made for it.
    fn remount(&self, path: &CStr) -> Verdict {
        if let Err(unfit) = self.superblock_is_a_canary() {
            return unfit;
        }
        alone();
        self.after(mount(None, path, MS_REMOUNT), "mount", files::mark)
    }

    /// A smaller size for the superblock: the options of the host's file
    /// system are open to change.
    fn reconfigure(&self, path: &CStr) -> Verdict {
        if let Err(unfit) = self.superblock_is_a_canary() {
            return unfit;
        }
        // SAFETY: fspick reads a path, which is a C string.
        let picked = unsafe { sys::call(nr::FSPICK, [int(AT_FDCWD), name(path), 0]) };
        let context = match picked {
            Ok(context) => context,
            Err(errno) => return Verdict::stopped("fspick", errno),
        };
        let size = [name(c"size"), name(c"15m")];
        // SAFETY: fsconfig reads a key and a value, both C strings.
        let set = unsafe {
            sys::call(
                nr::FSCONFIG,
                [context, FSCONFIG_SET_STRING, size[0], size[1], 0],
            )
        };
        if let Err(errno) = set {
            return Verdict::stopped("fsconfig", errno);
        }
        // SAFETY: this command takes no pointer.
        let done = unsafe { sys::call(nr::FSCONFIG, [context, FSCONFIG_CMD_RECONFIGURE, 0, 0, 0]) };
        Verdict::of("fsconfig", done, "the superblock took options from inside")
    }

    fn superblock_is_a_canary(&self) -> Result<(), Verdict> {
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        match file_system(&self.path) {
            Ok(TMPFS_MAGIC) => Ok(()),
            Ok(other) => Err(Verdict::Untried(format!(
                "the tree is no tmpfs but {other:#x}"
            ))),
            Err(errno) => Err(Verdict::Untried(format!("statfs {errno}"))),
        }
    }

    /// The tree once more at a place of one's own, and that made writable.
    fn bind_elsewhere(&self, path: &CStr) -> Verdict {
        alone();
        let over = self.scratch.join("over");
        let target = c_string(&over.to_string_lossy());
        if let Err(errno) = mount(Some(path), &target, MS_BIND | MS_REC) {
            return Verdict::stopped("mount", errno);
        }
        match mount(None, &target, MS_REMOUNT | MS_BIND) {
            Ok(_) => files::mark(&over.join(CANARY)),
            Err(errno) => Verdict::stopped("mount", errno),
        }
    }

    /// A detached copy, which no mount table shows, made writable.
    fn detached_tree(&self, path: &CStr) -> Verdict {
        let tree = match open_tree(path, OPEN_TREE_CLONE | AT_RECURSIVE) {
            Ok(tree) => tree,
            Err(errno) => return Verdict::stopped("open_tree", errno),
        };
        let tree = i32::try_from(tree).unwrap_or(-1);
        match clear_attributes(tree, c"", MOUNT_ATTR_RDONLY, AT_EMPTY_PATH | AT_RECURSIVE) {
            Ok(_) => files::mark(Path::new(&format!("/proc/self/fd/{tree}/{CANARY}"))),
            Err(errno) => Verdict::stopped("mount_setattr", errno),
        }
    }

    fn clear_nosuid_and_nodev(&self) -> Verdict {
        alone();
        let path = c_string(&self.path.to_string_lossy());
        let flags = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        Verdict::of(
            "mount_setattr",
            clear_attributes(AT_FDCWD, &path, flags, 0),
            "nosuid and nodev are gone",
        )
    }
}

struct Mask {
    path: PathBuf,
    token: String,
    scratch: PathBuf,
}

impl Mask {
    fn lift(&self, report: &mut Report) {
        let path = c_string(&self.path.to_string_lossy());
        report.way("mask-read", || self.read());
        report.way("mask-umount", || {
            alone();
            self.after(umount(&path, 0), "umount2")
        });
        report.way("mask-umount-detach", || {
            alone();
            self.after(umount(&path, MNT_DETACH), "umount2")
        });
        report.way("mask-move", || self.move_away(&path));
        report.way("mask-move_mount", || self.move_away_by_descriptor(&path));
        report.way("mask-bind-beneath", || self.bind_beneath());
        report.way("mask-clone-beneath", || self.clone_beneath());
        report.way("mask-nested-namespace", || {
            if let Err(errno) = unshare(CLONE_NEWUSER | CLONE_NEWNS) {
                return Verdict::stopped("unshare", errno);
            }
            self.after(umount(&path, MNT_DETACH), "umount2")
        });
    }

    fn read(&self) -> Verdict {
        files::read_token(&self.path.join(SECRET), &self.token)
    }

    fn after(&self, answer: Answer, call: &str) -> Verdict {
        match answer {
            Ok(_) => self.read(),
            Err(errno) => Verdict::stopped(call, errno),
        }
    }

    fn over(&self) -> CString {
        c_string(&self.scratch.join("over").to_string_lossy())
    }

    fn move_away(&self, path: &CStr) -> Verdict {
        alone();
        self.after(mount(Some(path), &self.over(), MS_MOVE), "mount")
    }

    fn move_away_by_descriptor(&self, path: &CStr) -> Verdict {
        alone();
        let tree = match open_tree(path, 0) {
            Ok(tree) => tree,
            Err(errno) => return Verdict::stopped("open_tree", errno),
        };
        let target = self.over();
        // SAFETY: move_mount reads two paths, both C strings.
        let moved = unsafe {
            sys::call(
                nr::MOVE_MOUNT,
                [
                    tree,
                    name(c""),
                    int(AT_FDCWD),
                    name(&target),
                    MOVE_MOUNT_F_EMPTY_PATH,
                ],
            )
        };
        self.after(moved, "move_mount")
    }

    /// A bind that is not recursive leaves out what is mounted on the tree.
    fn bind_beneath(&self) -> Verdict {
        alone();
        let Some((parent, last)) = self.split() else {
            return Verdict::Untried("the mask has no parent".to_owned());
        };
        match mount(Some(&parent), &self.over(), MS_BIND) {
            Ok(_) => {
                let path = self.scratch.join("over").join(last).join(SECRET);
                files::read_token(&path, &self.token)
            }
            Err(errno) => Verdict::stopped("mount", errno),
        }
    }

    fn clone_beneath(&self) -> Verdict {
        let Some((parent, last)) = self.split() else {
            return Verdict::Untried("the mask has no parent".to_owned());
        };
        match open_tree(&parent, OPEN_TREE_CLONE) {
            Ok(tree) => {
                let path = PathBuf::from(format!("/proc/self/fd/{tree}"));
                files::read_token(&path.join(last).join(SECRET), &self.token)
            }
            Err(errno) => Verdict::stopped("open_tree", errno),
        }
    }

    fn split(&self) -> Option<(CString, PathBuf)> {
        let parent = self.path.parent()?;
        let last = self.path.file_name()?;
        Some((c_string(&parent.to_string_lossy()), PathBuf::from(last)))
    }
}

/// Changes the canary's mode, holds still, and sets it back.
fn change_mode(canary: &Path) -> Verdict {
    let changed = std::fs::metadata(canary).and_then(|found| {
        let before = found.permissions();
        std::fs::set_permissions(canary, PermissionsExt::from_mode(before.mode() ^ 0o010))?;
        report::hold();
        std::fs::set_permissions(canary, before)
    });
    match changed {
        Ok(()) => Verdict::Through("its mode was changed".to_owned()),
        Err(error) => Verdict::refused("chmod", &error),
    }
}

fn change_owner(canary: &Path) -> Verdict {
    use std::os::unix::fs::lchown;
    let changed = std::fs::metadata(canary).and_then(|found| {
        lchown(canary, Some(found.uid() + 1), Some(found.gid() + 1))?;
        report::hold();
        lchown(canary, Some(found.uid()), Some(found.gid()))
    });
    match changed {
        Ok(()) => Verdict::Through("its owner was changed".to_owned()),
        Err(error) => Verdict::refused("chown", &error),
    }
}

fn set_times(canary: &Path) -> Verdict {
    let set = std::fs::File::open(canary).and_then(|file| {
        let modified = file.metadata()?.modified()?;
        let earlier = std::time::SystemTime::UNIX_EPOCH;
        file.set_times(std::fs::FileTimes::new().set_modified(earlier))?;
        report::hold();
        file.set_times(std::fs::FileTimes::new().set_modified(modified))
    });
    match set {
        Ok(()) => Verdict::Through("its time was changed".to_owned()),
        Err(error) => Verdict::refused("utimensat", &error),
    }
}

/// A copy of the mounts for this way alone, where it can be had, so that one
/// way's success does not pave the next way's road. Without it the way is
/// tried on the mounts that all share: a refusal changes nothing there.
fn alone() {
    match unshare(CLONE_NEWNS) {
        Ok(_) | Err(_) => {}
    }
}

fn unshare(flags: usize) -> Answer {
    // SAFETY: unshare takes flags and no pointer; the program has one thread.
    unsafe { sys::call(nr::UNSHARE, [flags]) }
}

fn mount(source: Option<&CStr>, target: &CStr, flags: usize) -> Answer {
    let source = source.map_or(0, name);
    // SAFETY: mount reads source and target, C strings or null; no data.
    unsafe { sys::call(nr::MOUNT, [source, name(target), 0, flags, 0]) }
}

fn umount(target: &CStr, flags: usize) -> Answer {
    // SAFETY: umount2 reads a path, which is a C string.
    unsafe { sys::call(nr::UMOUNT2, [name(target), flags]) }
}

fn open_tree(path: &CStr, flags: usize) -> Answer {
    // SAFETY: open_tree reads a path, which is a C string.
    unsafe { sys::call(nr::OPEN_TREE, [int(AT_FDCWD), name(path), flags]) }
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn clear_attributes(directory: i32, path: &CStr, clear: u64, flags: usize) -> Answer {
    let attributes = MountAttr {
        set: 0,
        clear,
        propagation: 0,
        user_namespace: 0,
    };
    let size = size_of::<MountAttr>();
    let pointer = (&raw const attributes).expose_provenance();
    // SAFETY: mount_setattr reads the path and `size` bytes of attributes,
    // which live on this frame.
    unsafe {
        sys::call(
            nr::MOUNT_SETATTR,
            [int(directory), name(path), flags, pointer, size],
        )
    }
}

/// The magic number of the file system that holds `path`.
fn file_system(path: &Path) -> Result<i64, Errno> {
    const STATFS: usize = 137;
    let path = c_string(&path.to_string_lossy());
    let mut found = [0_i64; 15];
    // SAFETY: statfs reads a C string and writes 120 bytes, the array's size.
    unsafe { sys::call(STATFS, [name(&path), (&raw mut found).expose_provenance()]) }?;
    Ok(found[0])
}
