//! Trees that are hard to remove.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cloison_storage::tree;
use cloison_tests::{Outcome, REPORT, quick};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, mkdirat};

use crate::outside::Outside;

const GROUND: &str = "/tmp/removal";
const PATIENCE: Duration = Duration::from_secs(60);

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn ground() -> &'static Path {
    let ground = Path::new(GROUND);
    fs::create_dir_all(ground.join("victim/below")).unwrap();
    fs::create_dir_all(ground.join("tree")).unwrap();
    fs::write(ground.join("victim/canary"), "canary").unwrap();
    fs::write(ground.join("victim/below/canary"), "canary").unwrap();
    ground
}

/// 10,000 directories deep, with 64 descriptors to be had.
pub(crate) fn deep() -> Outcome {
    const DEPTH: u64 = 10_000;
    let ground = ground();
    let mut directory = open(&ground.join("tree"));
    for _ in 0..DEPTH {
        mkdirat(&directory, "down", Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        directory = openat(&directory, "down", flags, Mode::empty()).unwrap();
    }
    drop(directory);
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let begun = Instant::now();
    let used = tree::usage(open(&ground.join("tree")).as_fd()).unwrap();
    let foreign = tree::find_foreign(open(&ground.join("tree")).as_fd(), 1_000_000..2_000_000);
    let looked = begun.elapsed();
    let removed = tree::remove(open(ground).as_fd(), c"tree", PATIENCE).unwrap();
    let all = begun.elapsed();
    println!("{REPORT}{DEPTH} deep: counted and searched in {looked:?}, removed by {all:?}");
    fs::remove_dir_all(ground).unwrap();
    let is_right = used.inodes == DEPTH + 1
        && foreign.is_ok_and(|found| found.is_none())
        && removed.is_whole()
        && removed.entries == DEPTH + 1;
    if is_right {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{used:?} {removed:?}"))
    }
}

/// The tree that is swapped: directories, each beside a link to the victim.
fn fill(tree: &Path) {
    for number in 0..20 {
        let directory = tree.join(format!("d{number}/a/b"));
        fs::create_dir_all(&directory).unwrap();
        for (at, up) in [
            ("", "../victim"),
            ("a", "../../../victim"),
            ("a/b", "../../../../victim"),
        ] {
            let place = tree.join(format!("d{number}")).join(at);
            symlink(up, place.join("link")).unwrap();
            fs::write(place.join("file"), "tenant's").unwrap();
        }
        symlink("../victim", tree.join(format!("l{number}"))).unwrap();
        symlink("../../victim", tree.join(format!("d{number}/x"))).unwrap();
    }
}

/// Exchanges directories for links to the victim, on and on.
fn swap(tree: &OwnedFd, is_over: &AtomicBool, swaps: &AtomicU64) {
    let exchange = RenameFlags::RENAME_EXCHANGE;
    while !is_over.load(Ordering::Relaxed) {
        for number in 0..20 {
            for (one, other) in [
                (format!("d{number}"), format!("l{number}")),
                (format!("d{number}/a"), format!("d{number}/x")),
            ] {
                if renameat2(tree, one.as_str(), tree, other.as_str(), exchange).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Removal as it is written without thought: it looks, and then goes by name.
fn remove_by_name(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        // What `d_type` said a while ago.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                remove_by_name(&path);
                drop(fs::remove_dir(&path));
            }
            _ => drop(fs::remove_file(&path)),
        }
    }
}

/// Runs removals against the swapper, each of a tree filled anew; in how many the
/// victim was reached, and how often something was swapped.
fn race(removals: usize, remove: fn(&Path) -> Result<(), String>) -> Result<(usize, u64), String> {
    let ground = ground();
    let (mut reached, swaps) = (0, AtomicU64::new(0));
    let mut before = Outside::look(ground, &ground.join("tree"));
    for _ in 0..removals {
        let tree = ground.join("tree");
        fill(&tree);
        let held = open(&tree);
        let is_over = AtomicBool::new(false);
        let start = swaps.load(Ordering::Relaxed);
        let removed = thread::scope(|scope| {
            scope.spawn(|| swap(&held, &is_over, &swaps));
            while swaps.load(Ordering::Relaxed) == start {
                thread::yield_now();
            }
            let removed = remove(&tree);
            is_over.store(true, Ordering::Relaxed);
            removed
        });
        removed?;
        if !before.changes(&Outside::look(ground, &tree)).is_empty() {
            reached += 1;
            fs::remove_dir_all(ground).unwrap();
            self::ground();
            before = Outside::look(ground, &tree);
        } else {
            let left = tree::empty(open(&tree).as_fd(), PATIENCE).unwrap();
            if !left.is_whole() {
                return Err(format!("nobody swaps any more, and {left:?}"));
            }
        }
    }
    fs::remove_dir_all(ground).unwrap();
    Ok((reached, swaps.into_inner()))
}

pub(crate) fn swapped() -> Outcome {
    let removals = if quick() { 300 } else { 2000 };
    let ours = race(removals, |tree| {
        match tree::empty(open(tree).as_fd(), PATIENCE) {
            Ok(removed) if removed.is_out_of_time => Err("it does not end".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        }
    });
    let control = race(removals, |tree| {
        remove_by_name(tree);
        Ok(())
    });
    let (Ok((ours, swaps)), Ok((control, control_swaps))) = (&ours, &control) else {
        return Outcome::Failed(format!("{ours:?} {control:?}"));
    };
    println!(
        "{REPORT}{removals} removals against {swaps} swaps: victim reached {ours} times; \
         by name, against {control_swaps}: {control} times"
    );
    let mut faults = Vec::new();
    if *ours > 0 {
        faults.push(format!("the victim was reached {ours} times"));
    }
    if *control == 0 {
        faults.push("the control is silent".to_owned());
    }
    faults.into()
}

/// A mount beneath is left, told, and what is on it stays.
pub(crate) fn mounted() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let ground = ground();
    let tree = ground.join("tree");
    let mut faults = Vec::new();
    for at in ["mount", "a/mount", "a/b/c/mount"] {
        fs::create_dir_all(tree.join(at)).unwrap();
        let victim = ground.join("victim");
        mount(Some(&victim), &tree.join(at), none, MsFlags::MS_BIND, none).unwrap();
    }
    fs::write(tree.join("a/file"), "").unwrap();
    fs::write(tree.join("a/b/c/file"), "").unwrap();
    mount(
        Some(&ground.join("victim/canary")),
        &tree.join("a/b/c/file"),
        none,
        MsFlags::MS_BIND,
        none,
    )
    .unwrap();
    let before = Outside::look(ground, &tree);
    let used = tree::usage(open(&tree).as_fd()).unwrap();
    if (used.mounts, used.inodes) != (4, 5) {
        faults.push(format!("{used:?}"));
    }
    let begun = Instant::now();
    let removed = tree::remove(open(ground).as_fd(), c"tree", PATIENCE).unwrap();
    let told = removed
        .left
        .iter()
        .filter(|left| matches!(left.errno, Errno::EBUSY | Errno::EXDEV));
    if told.count() < 4 || removed.is_whole() || begun.elapsed() > PATIENCE / 2 {
        faults.push(format!("{removed:?}"));
    }
    faults.extend(before.changes(&Outside::look(ground, &tree)));
    println!(
        "{REPORT}4 mounts: {} removed, {} left",
        removed.entries, removed.left_behind
    );
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        let target = line.split(' ').nth(4).unwrap();
        if target.starts_with(GROUND) {
            umount2(target, MntFlags::MNT_DETACH).unwrap();
        }
    }
    let name = CString::new("tree").unwrap();
    let removed = tree::remove(open(ground).as_fd(), &name, PATIENCE).unwrap();
    if !removed.is_whole() {
        faults.push(format!("without mounts {removed:?}"));
    }
    fs::remove_dir_all(ground).unwrap();
    faults.into()
}
