//! The controls: a root prepared by name, as runtimes did before they were
//! shown better. Each looks first, finds nothing wrong, and then uses the path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::ground::{SHOWN, TARGET, TREE, VICTIM};

/// What is done by name on the tree, and whether it hit the victim instead.
/// What it did is undone.
pub(crate) fn try_once(race: &str) -> bool {
    match race {
        "a15" => mounts(SHOWN, TARGET, &victim("deep/data")),
        "a16" => masks(),
        "a17" => mounts("/dev/null", "dev/console", &victim("console")),
        "a18" => writes(),
        "a34" => makes(),
        _ => panic!("no control for {race}"),
    }
}

fn victim(name: &str) -> PathBuf {
    Path::new(VICTIM).join(name)
}

/// Whether no component of the path is a link: the look before.
fn is_safe(path: &str) -> bool {
    let mut whole = PathBuf::from(TREE);
    Path::new(path).components().all(|part| {
        whole.push(part);
        !whole.is_symlink()
    })
}

fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)
}

/// Everything that stands on the path, whichever it is now.
fn unmount(target: &Path) {
    while umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
}

/// Takes off what was mounted, wherever it landed.
fn unmount_both(victim: &Path) {
    unmount(victim);
    // In the tree it has the one name or the other of what is swapped, which
    // may have changed when it is used.
    loop {
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounted.lines().filter_map(|line| line.split(' ').nth(4));
        let mut beneath = points.filter(|point| point.starts_with(TREE)).peekable();
        if beneath.peek().is_none() {
            return;
        }
        beneath.for_each(|point| unmount(Path::new(point)));
    }
}

fn mounts(source: &str, target: &str, victim: &Path) -> bool {
    if !is_safe(target) {
        return false;
    }
    let was = fs::metadata(victim).unwrap();
    if bind(Path::new(source), &Path::new(TREE).join(target)).is_err() {
        return false;
    }
    let is = fs::metadata(victim).unwrap();
    let hit = (was.dev(), was.ino()) != (is.dev(), is.ino());
    unmount_both(victim);
    hit
}

/// The null device over a file that should be hidden; the victim's secret is
/// what can be read there.
fn masks() -> bool {
    if !is_safe("dev/null") {
        return false;
    }
    let masked = Path::new("/tmp/masked");
    if bind(&Path::new(TREE).join("dev/null"), masked).is_err() {
        return false;
    }
    let shown = fs::read_to_string(masked).unwrap_or_default();
    unmount(masked);
    shown.contains("secret")
}

fn writes() -> bool {
    if !is_safe("proc/self/oom_score_adj") {
        return false;
    }
    let path = Path::new(TREE).join("proc/self/oom_score_adj");
    let written = fs::write(path, "0\n");
    let file = victim("self/oom_score_adj");
    let hit = written.is_ok() && fs::read_to_string(&file).unwrap() != "the victim's";
    fs::write(&file, "the victim's").unwrap();
    hit
}

fn makes() -> bool {
    let path = "srv/deep/made";
    if !is_safe("srv/deep") {
        return false;
    }
    let whole = Path::new(TREE).join(path);
    let made = fs::create_dir(&whole);
    let hit = made.is_ok() && victim("deep/made").exists();
    for place in [
        victim("deep/made"),
        Path::new(TREE).join("srv/deep/made"),
        Path::new(TREE).join("swapped/deep/made"),
    ] {
        // It is in one of them, or nowhere.
        let _removed = fs::remove_dir(&place);
    }
    hit
}
