//! Copies of a provider's base.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use cloison_storage::copy::{Copied, DiskIds, Error, Options, Rule, Way, copy};
use cloison_storage::{Devices, tree};
use cloison_tests::{Outcome, REPORT};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::mkfifo;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

const FIRST: u32 = 0x7000_0000;
const SECOND: u32 = FIRST + (1 << 20);

fn copied(base: &Path, tree: &Path, first: u32, options: &Options) -> Result<Copied, Error> {
    fs::create_dir_all(tree).unwrap();
    let (base, tree) = (File::open(base).unwrap(), File::open(tree).unwrap());
    copy(
        base.as_fd(),
        tree.as_fd(),
        DiskIds::from_first(first).unwrap(),
        options,
    )
}

/// All there is to say of each thing in a tree, its ids as if shifted back by `first`.
pub(crate) fn describe(top: &Path, first: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let status = path.symlink_metadata().unwrap();
        let kind = status.file_type();
        let content = match () {
            () if kind.is_symlink() => fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            () if kind.is_file() => fs::read(&path).unwrap(),
            () => Vec::new(),
        };
        let sum = content.iter().fold(content.len() as u64, |sum, byte| {
            sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
        });
        let links = if kind.is_dir() { 0 } else { status.nlink() };
        let below = path.strip_prefix(top).unwrap();
        found.push(format!(
            "{:?} {:o} {}:{} links {links} time {}.{} sum {sum:x}",
            below,
            status.mode(),
            i64::from(status.uid()) - i64::from(first),
            i64::from(status.gid()) - i64::from(first),
            status.mtime(),
            status.mtime_nsec(),
        ));
        if kind.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.sort();
    found
}

/// Something of everything.
fn base(top: &Path) {
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::write(top.join("a/file"), "content").unwrap();
    fs::hard_link(top.join("a/file"), top.join("a/b/too")).unwrap();
    fs::hard_link(top.join("a/file"), top.join("again")).unwrap();
    fs::write(top.join("setuid"), "setuid").unwrap();
    chown(top.join("setuid"), Some(0), Some(65535)).unwrap();
    fs::set_permissions(top.join("setuid"), Permissions::from_mode(0o6755)).unwrap();
    symlink("/etc/shadow", top.join("link")).unwrap();
    lchown(top.join("link"), Some(33), Some(33)).unwrap();
    mkfifo(&top.join("fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(top.join("socket")).unwrap());
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 20_000_000).unwrap();
    sparse.set_len(40_000_000).unwrap();
    fs::set_permissions(top.join("a/b"), Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(top, Permissions::from_mode(0o750)).unwrap();
    let empty = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(top.join("a/file"), "user.colour", b"red", empty).unwrap();
    let capability = [&[1, 0, 0, 2][..], &[0, 4], &[0; 14]].concat();
    rustix::fs::setxattr(
        top.join("setuid"),
        "security.capability",
        &capability,
        empty,
    )
    .unwrap();
    rustix::fs::setxattr(top.join("a"), "trusted.what", b"1", empty).unwrap();
}

fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir_all(place.join("base")).unwrap();
    place
}

/// What a copy is, but for its owner, is the base; what a tenant must not have is not.
pub(crate) fn whole() -> Outcome {
    let place = place("copies-whole");
    let (from, to) = (place.join("base"), place.join("tree"));
    base(&from);
    let copied = match copied(&from, &to, FIRST, &Options::default()) {
        Ok(copied) => copied,
        Err(error) => return Outcome::Failed(format!("{error:?}")),
    };
    let mut faults = Vec::new();
    let expected: Vec<String> = describe(&from, 0)
        .into_iter()
        .filter(|line| !line.starts_with("\"socket\""))
        .collect();
    let found = describe(&to, FIRST);
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            faults.push(format!("{expected}, copied {found}"));
        }
    }
    let counts = (
        copied.files,
        copied.hard_links,
        copied.sockets_skipped,
        copied.attributes_skipped,
    );
    if expected.len() != found.len() || counts != (3, 2, 1, 1) {
        faults.push(format!("{} of {}, {copied:?}", found.len(), expected.len()));
    }
    // None of the host's ids, in no place that carries one.
    let tree = File::open(&to).unwrap();
    match tree::find_foreign(tree.as_fd(), 0..65536) {
        Ok(None) => {}
        other => faults.push(format!("{other:?}")),
    }
    match tree::find_foreign(File::open(&from).unwrap().as_fd(), 0..65536) {
        Ok(Some(_)) => {}
        other => faults.push(format!("the control is silent: {other:?}")),
    }
    if fs::metadata(to.join("sparse")).unwrap().blocks() > 1000 {
        faults.push("the holes are gone".to_owned());
    }
    let mut value = [0; 32];
    let length =
        rustix::fs::getxattr(to.join("setuid"), "security.capability", &mut value).unwrap();
    let tenants = [&[1, 0, 0, 3][..], &[0, 4], &[0; 14], &FIRST.to_le_bytes()].concat();
    if value[..length] != tenants {
        faults.push(format!("capabilities {:?}", &value[..length]));
    }
    if !matches!(
        rustix::fs::getxattr(to.join("a/file"), "user.colour", &mut value),
        Ok(3)
    ) {
        faults.push("an attribute is lost".to_owned());
    }
    println!("{REPORT}{copied:?}");
    fs::remove_dir_all(place).unwrap();
    faults.into()
}

/// Whether the first page of a file is in memory, without bringing it there.
fn is_resident(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let mut byte = [0; 1];
    let mut room = [std::io::IoSliceMut::new(&mut byte)];
    match preadv2(&file, &mut room, 0, ReadWriteFlags::NOWAIT) {
        Ok(1) => true,
        Err(Errno::AGAIN) => false,
        other => panic!("{other:?}"),
    }
}

fn evict(paths: &[&Path]) {
    for path in paths {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }
}

fn read(path: &Path) {
    let mut content = Vec::new();
    File::open(path).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 1 << 20);
}

/// N01: what one tenant reads becomes resident for him alone. Where two share an
/// inode it does for both: that is the control.
pub(crate) fn own_inodes() -> Outcome {
    let place = place("copies-inodes");
    if statfs(&place).unwrap().filesystem_type() == TMPFS_MAGIC {
        // There all is resident for ever.
        return Outcome::Skipped("what is built here is on no disk".to_owned());
    }
    let [base, first, second] = ["base", "first", "second"].map(|name| place.join(name));
    fs::write(base.join("file"), vec![b'x'; 1 << 20]).unwrap();
    for (tree, ids) in [(&first, FIRST), (&second, SECOND)] {
        if let Err(error) = copied(&base, tree, ids, &Options::default()) {
            return Outcome::Failed(format!("{error:?}"));
        }
    }
    let [base, first, second] = [base, first, second].map(|tree| tree.join("file"));
    let shared = place.join("shared");
    fs::hard_link(&base, &shared).unwrap();
    let mut faults = Vec::new();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    if inode(&first) == inode(&second) || inode(&first) == inode(&base) {
        faults.push("an inode is shared".to_owned());
    }
    // Each is looked at once: to look may begin to read.
    let follows = |reader: &Path, other: &Path| {
        evict(&[&base, &first, &second]);
        read(reader);
        is_resident(other)
    };
    evict(&[&base, &first, &second]);
    if is_resident(&second) {
        return Outcome::Failed("what was evicted is resident".to_owned());
    }
    let seen = [
        (
            "the second follows the first",
            follows(&first, &second),
            false,
        ),
        ("the base follows the first", follows(&first, &base), false),
        ("the first follows the base", follows(&base, &first), false),
        ("a shared inode follows", follows(&base, &shared), true),
        ("what was read is resident", follows(&second, &second), true),
    ];
    for (what, is, should) in seen {
        if is != should {
            faults.push(format!("{what}: {is}"));
        }
    }
    println!(
        "{REPORT}{:?}",
        seen.map(|(what, is, _)| format!("{what}: {is}"))
    );
    fs::remove_dir_all(place).unwrap();
    faults.into()
}

/// Each rule, and a reflink where there are none.
pub(crate) fn refused() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let place = Path::new("/tmp/refused");
    let (from, to) = (place.join("base"), place.join("tree"));
    let mut faults = Vec::new();
    let mut attempt = |what: &str, options: &Options, rule: Option<Rule>| {
        let result = copied(&from, &to, FIRST, options);
        let is_right = match (&result, rule) {
            (Err(Error::Refused { rule, .. }), Some(expected)) => *rule == expected,
            (Err(Error::NoReflink { .. }), None) => options.way == Way::Reflink,
            (Ok(copied), None) => copied.devices_skipped == 1,
            _ => false,
        };
        if !is_right {
            faults.push(format!("{what}: {result:?}"));
        }
        for tree in [&from, &to] {
            fs::remove_dir_all(tree).unwrap();
            fs::create_dir_all(tree).unwrap();
        }
    };
    fs::create_dir_all(&from).unwrap();
    let whole = Options::default();
    let device = || {
        mknod(
            &from.join("null"),
            SFlag::S_IFCHR,
            Mode::S_IRWXU,
            makedev(1, 3),
        )
        .unwrap()
    };
    device();
    attempt("a device", &whole, Some(Rule::Device));
    device();
    let skip = Options {
        devices: Devices::Skip,
        ..whole
    };
    attempt("a device that is skipped", &skip, None);
    fs::write(from.join("file"), "").unwrap();
    chown(from.join("file"), Some(65536), Some(0)).unwrap();
    attempt("an id of the host's", &whole, Some(Rule::Id));
    let mut deep = from.clone();
    for _ in 0..140 {
        deep.push("d");
    }
    fs::create_dir_all(deep).unwrap();
    attempt("too deep", &whole, Some(Rule::Depth));
    fs::write(from.join("file"), "").unwrap();
    let reflink = Options {
        way: Way::Reflink,
        ..whole
    };
    attempt("a reflink in memory", &reflink, None);
    fs::create_dir_all(from.join("mount")).unwrap();
    mount(
        Some("/usr"),
        &from.join("mount"),
        none,
        MsFlags::MS_BIND,
        none,
    )
    .unwrap();
    let result = copied(&from, &to, FIRST, &whole);
    umount(&from.join("mount")).unwrap();
    if !matches!(
        result,
        Err(Error::Refused {
            rule: Rule::Mount,
            ..
        })
    ) {
        faults.push(format!("a mount: {result:?}"));
    }
    fs::remove_dir_all(place).unwrap();
    println!("{REPORT}6 bases");
    faults.into()
}
