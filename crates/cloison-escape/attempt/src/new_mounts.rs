//! A04, A19, A25, C07: mounts of one's own.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::arguments::Arguments;
use crate::kernel_calls::{handed_out, reached};
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, EFAULT, Errno, int, name, nr};

/// # Source
/// syscalls(2), table of x86-64.
mod number {
    pub(super) const MKNOD: usize = 133;
    pub(super) const RENAMEAT2: usize = 316;
    pub(super) const FSOPEN: usize = 430;
    pub(super) const FSMOUNT: usize = 432;
    pub(super) const STATMOUNT: usize = 457;
    pub(super) const LISTMOUNT: usize = 458;
}

const AT_FDCWD: i32 = -100;
const CLONE_NEWNS: usize = 0x2_0000;
const SCRATCH: &str = "/tmp/scratch";
const OVER: &CStr = c"/tmp/scratch/over";

fn make_scratch() -> Result<(), CouldNotTry> {
    for part in ["over", "lower", "upper", "work"] {
        let path = Path::new(SCRATCH).join(part);
        fs::create_dir_all(&path)
            .map_err(|error| CouldNotTry(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Mounts what a mask could be passed by, by the old call and by the new ones.
pub(crate) fn a04(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    make_scratch()?;
    let kinds = [
        c"proc", c"sysfs", c"tmpfs", c"devpts", c"mqueue", c"cgroup2",
    ];
    for kind in kinds {
        let shown = kind.to_string_lossy();
        report.way(&format!("mount-{shown}"), || {
            alone();
            Verdict::of("mount", mount(kind, c""), "it is mounted")
        });
        report.way(&format!("fsmount-{shown}"), || {
            alone();
            by_steps(kind)
        });
    }
    Ok(())
}

/// The same by fsopen, fsconfig, fsmount and move_mount.
fn by_steps(kind: &CStr) -> Verdict {
    const CREATE: usize = 6;
    const FROM_DESCRIPTOR: usize = 4;
    let context = match fsopen(kind) {
        Ok(context) => context,
        Err(errno) => return Verdict::stopped("fsopen", errno),
    };
    // SAFETY: this command takes no pointer.
    if let Err(errno) = unsafe { sys::call(nr::FSCONFIG, [context, CREATE, 0, 0, 0]) } {
        return Verdict::stopped("fsconfig", errno);
    }
    // SAFETY: no pointer.
    let made = match unsafe { sys::call(number::FSMOUNT, [context, 0, 0]) } {
        Ok(made) => made,
        Err(errno) => return Verdict::stopped("fsmount", errno),
    };
    let to = [made, name(c""), int(AT_FDCWD), name(OVER), FROM_DESCRIPTOR];
    // SAFETY: two C strings.
    let moved = unsafe { sys::call(nr::MOVE_MOUNT, to) };
    Verdict::of("move_mount", moved, "it is mounted")
}

/// An overlay of one's own, and the nodes that stand for a removed file in one.
pub(crate) fn a19(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const CHARACTER: usize = 0o020_600;
    const WHITEOUT: usize = 4;
    make_scratch()?;
    report.way("overlay", || {
        alone();
        let options = c"lowerdir=/tmp/scratch/lower,upperdir=/tmp/scratch/upper,workdir=/tmp/scratch/work,userxattr";
        Verdict::of("mount", mount(c"overlay", options), "it is mounted")
    });
    report.way("whiteout-by-mknod", || {
        // SAFETY: the call reads a path, a C string.
        let made = unsafe {
            let node = name(c"/tmp/scratch/whiteout-by-mknod");
            sys::call(number::MKNOD, [node, CHARACTER, 0])
        };
        Verdict::of("mknod", made, "a whiteout was made")
    });
    for (way, high) in [
        ("whiteout-by-rename", 0),
        ("whiteout-by-rename-high-half", 1 << 32),
    ] {
        report.way(way, || {
            let old = format!("{SCRATCH}/{way}");
            if let Err(error) = fs::write(&old, b"") {
                return Verdict::Untried(format!("{old}: {error}"));
            }
            let from = crate::arguments::c_string(&old);
            let to = crate::arguments::c_string(&format!("{old}-gone"));
            let here = int(AT_FDCWD);
            // SAFETY: two C strings.
            let moved = unsafe {
                sys::call(
                    number::RENAMEAT2,
                    [here, name(&from), here, name(&to), WHITEOUT | high],
                )
            };
            let is_made = fs::symlink_metadata(&old).is_ok_and(|found| found.rdev() == 0);
            match moved {
                Ok(_) if !is_made => Verdict::Stopped("renameat2 left no whiteout".to_owned()),
                moved => Verdict::of("renameat2", moved, "a whiteout was made"),
            }
        });
    }
    Ok(())
}

/// A handler of one's own for a kind of program: in one's own instance, where
/// the kernel has such.
pub(crate) fn a25(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    make_scratch()?;
    report.way("mount", || {
        alone();
        Verdict::of("mount", mount(c"binfmt_misc", c""), "it is mounted")
    });
    report.way("register", || {
        alone();
        if let Err(errno) = mount(c"binfmt_misc", c"") {
            return Verdict::stopped("mount", errno);
        }
        let entry = ":cloison:M::cloisoncanary::/attempt:";
        match fs::write(Path::new(SCRATCH).join("over/register"), entry) {
            Ok(()) => Verdict::Through("a handler was registered".to_owned()),
            Err(error) => Verdict::refused("write", &error),
        }
    });
    Ok(())
}

/// The calls that mounts are made of and told by.
pub(crate) fn c07(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const CLONE: usize = 1;
    report.way("fsopen", || handed_out("fsopen", fsopen(c"tmpfs")));
    report.way("fspick", || {
        // SAFETY: the call reads a path, a C string.
        let picked = unsafe { sys::call(nr::FSPICK, [int(AT_FDCWD), name(c"/tmp"), 0]) };
        handed_out("fspick", picked)
    });
    report.way("open_tree", || {
        // SAFETY: the call reads a path, a C string.
        let opened = unsafe { sys::call(nr::OPEN_TREE, [int(AT_FDCWD), name(c"/tmp"), CLONE]) };
        handed_out("open_tree", opened)
    });
    report.way("mount_setattr", || {
        // SAFETY: null for the attributes.
        let answer = unsafe {
            let all = [int(AT_FDCWD), name(c"/tmp"), 0, 0, 32];
            sys::call(nr::MOUNT_SETATTR, all)
        };
        reached("mount_setattr", answer, &[EFAULT])
    });
    for (way, number) in [
        ("statmount", number::STATMOUNT),
        ("listmount", number::LISTMOUNT),
    ] {
        report.way(way, || {
            // SAFETY: null pointers.
            let answer = unsafe { sys::call(number, [0, 0, 0, 0]) };
            reached(way, answer, &[EFAULT, Errno(22)])
        });
    }
    Ok(())
}

fn fsopen(kind: &CStr) -> Answer {
    // SAFETY: the call reads a C string.
    unsafe { sys::call(number::FSOPEN, [name(kind), 0]) }
}

fn mount(kind: &CStr, options: &CStr) -> Answer {
    let all = [name(kind), name(OVER), name(kind), 0, name(options)];
    // SAFETY: C strings all.
    unsafe { sys::call(nr::MOUNT, all) }
}

/// As for A03: a way's mounts are its own where they can be.
fn alone() {
    // SAFETY: unshare takes no pointer; the program has one thread.
    match unsafe { sys::call(nr::UNSHARE, [CLONE_NEWNS]) } {
        Ok(_) | Err(_) => {}
    }
}
