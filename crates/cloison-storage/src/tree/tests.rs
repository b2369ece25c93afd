//! Trees as a tenant might leave them. None of these tests needs root.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own, gone with the value.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloison-storage-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn open(&self, name: &str) -> OwnedFd {
        open_path(&self.0.join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parent = open_path(Path::new(self.0.parent().unwrap()));
        let name = CString::new(self.0.file_name().unwrap().as_encoded_bytes()).unwrap();
        match remove(parent.as_fd(), &name, PATIENCE) {
            Ok(removed) => assert!(removed.is_whole() || std::thread::panicking()),
            Err(error) => assert!(std::thread::panicking(), "{error}"),
        }
    }
}

fn open_path(path: &Path) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).unwrap()
}

/// A chain of `depth` directories in `top`, a file in the last.
fn chain(top: OwnedFd, depth: usize) {
    let mut directory = top;
    for _ in 0..depth {
        mkdirat(&directory, "down", Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        directory = openat(&directory, "down", flags, Mode::empty()).unwrap();
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    drop(openat(&directory, "last", flags, Mode::S_IRUSR).unwrap());
}

#[test]
fn deep_tree_is_counted_and_removed() {
    let place = Place::new();
    fs::create_dir(place.0.join("tree")).unwrap();
    chain(place.open("tree"), 10_000);
    let used = usage(place.open("tree").as_fd()).unwrap();
    assert_eq!(used.inodes, 10_002);
    let removed = remove(place.open("").as_fd(), c"tree", PATIENCE).unwrap();
    assert!(removed.is_whole(), "{removed:?}");
    assert_eq!(removed.entries, 10_002);
    assert!(!place.0.join("tree").exists());
}

#[test]
fn links_and_fifos_are_removed_and_not_followed() {
    let place = Place::new();
    let outside = place.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "canary").unwrap();
    let tree = place.0.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    symlink(&outside, tree.join("link")).unwrap();
    symlink("../../outside", tree.join("a/b/link")).unwrap();
    symlink("/", tree.join("a/root")).unwrap();
    mkfifo(&tree.join("a/fifo"), Mode::S_IRWXU).unwrap();
    fs::hard_link(outside.join("canary"), tree.join("a/hard")).unwrap();
    let used = usage(place.open("tree").as_fd()).unwrap();
    assert_eq!(
        used.inodes, 8,
        "three links, a FIFO, a file, three directories"
    );
    let removed = remove(place.open("").as_fd(), c"tree", PATIENCE).unwrap();
    assert!(removed.is_whole(), "{removed:?}");
    assert_eq!(fs::read(outside.join("canary")).unwrap(), b"canary");
}

#[test]
fn wide_tree_is_counted_and_removed() {
    let place = Place::new();
    let tree = place.0.join("tree");
    for directory in 0..40 {
        let directory = tree.join(format!("directory-{directory}"));
        fs::create_dir_all(directory.join("below")).unwrap();
        for file in 0..200 {
            File::create(directory.join(format!("{file:0100}"))).unwrap();
        }
    }
    let used = usage(place.open("tree").as_fd()).unwrap();
    assert_eq!(used.inodes, 1 + 40 * 202);
    let removed = remove(place.open("").as_fd(), c"tree", PATIENCE).unwrap();
    assert!(removed.is_whole(), "{removed:?}");
    assert_eq!(removed.entries, 1 + 40 * 202);
}

#[test]
fn names_that_removal_uses_may_be_taken() {
    let place = Place::new();
    let tree = place.0.join("tree");
    for number in 0..5 {
        fs::create_dir_all(tree.join(format!(".cloison-removed-{number}/a/b"))).unwrap();
        fs::create_dir_all(tree.join(format!("x{number}/.cloison-removed-0/b"))).unwrap();
    }
    let removed = remove(place.open("").as_fd(), c"tree", PATIENCE).unwrap();
    assert!(removed.is_whole(), "{removed:?}");
    assert!(!tree.exists());
}

#[test]
fn name_of_a_tree_is_one_component() {
    let place = Place::new();
    for name in [c"", c".", c"..", c"a/b", c"/tmp"] {
        let refused = remove(place.open("").as_fd(), name, PATIENCE);
        assert!(matches!(refused, Err(Error::Name(_))), "{name:?}");
    }
    symlink("/tmp", place.0.join("link")).unwrap();
    let refused = remove(place.open("").as_fd(), c"link", PATIENCE);
    assert!(matches!(refused, Err(Error::Call { .. })), "{refused:?}");
}

#[test]
fn removal_without_time_says_so() {
    let place = Place::new();
    fs::create_dir_all(place.0.join("tree/a")).unwrap();
    let removed = remove(place.open("").as_fd(), c"tree", Duration::ZERO).unwrap();
    assert!(removed.is_out_of_time && !removed.is_whole());
    assert!(place.0.join("tree/a").exists());
}

#[test]
fn file_of_two_names_is_one_inode() {
    let place = Place::new();
    let tree = place.0.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("a"), vec![1; 100_000]).unwrap();
    let one = usage(place.open("tree").as_fd()).unwrap();
    fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    assert_eq!(usage(place.open("tree").as_fd()).unwrap(), one);
    assert!(one.bytes >= 100_000 && one.inodes == 2, "{one:?}");
}

#[test]
fn ids_are_found_wherever_a_file_carries_them() {
    let place = Place::new();
    let tree = place.0.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    let file = tree.join("a/b/file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    let status = file.metadata().unwrap();
    let top = place.open("tree");
    let find = |ids| find_foreign(top.as_fd(), ids).unwrap();
    let own = find(status.uid()..status.uid() + 1).unwrap();
    assert_eq!((own.id, own.bearer), (status.uid(), Bearer::User));
    assert_eq!(find(1_900_000_000..1_900_065_536), None);
    // An access control list that names user 1,900,000,007.
    let mut list = vec![2, 0, 0, 0];
    for (tag, id) in [
        (1, u32::MAX),
        (2, 1_900_000_007),
        (4, u32::MAX),
        (16, u32::MAX),
        (32, u32::MAX),
    ] {
        list.extend([tag, 0, 6, 0]);
        list.extend(u32::to_le_bytes(id));
    }
    let name = "system.posix_acl_access";
    match rustix::fs::setxattr(&file, name, &list, rustix::fs::XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => return,
        set => set.unwrap(),
    }
    let found = find(1_900_000_000..1_900_065_536).unwrap();
    assert_eq!(
        (found.id, found.bearer),
        (1_900_000_007, Bearer::AccessList)
    );
    assert_eq!(found.name.as_str(), "file");
}
