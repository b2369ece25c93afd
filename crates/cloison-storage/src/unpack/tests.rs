//! Archives, made by hand, into directories of this user's.

mod archive;
mod hostile;
mod limits;

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use self::archive::{Archive, Header};
use super::*;
use crate::tree::tests::Place;

/// What an archive became, and where.
struct Tried {
    place: Place,
    result: Result<Unpacked, Error>,
}

impl Tried {
    fn tree(&self) -> PathBuf {
        self.place.0.join("tree")
    }

    fn unpacked(&self) -> Unpacked {
        *self.result.as_ref().unwrap()
    }

    fn rule(&self) -> Rule {
        match &self.result {
            Err(Error::Refused { rule, .. }) => *rule,
            other => panic!("{other:?}"),
        }
    }

    fn fault(&self) -> &Fault {
        match &self.result {
            Err(Error::Malformed { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }
}

fn mine() -> Options {
    Options {
        owners: Owners::Caller,
        ..Options::default()
    }
}

fn with(archive: impl Read, options: &Options) -> Tried {
    let place = Place::new();
    fs::create_dir(place.0.join("tree")).unwrap();
    let result = unpack(archive, place.open("tree").as_fd(), options);
    Tried { place, result }
}

fn tried(archive: &Archive) -> Tried {
    with(archive.bytes().as_slice(), &mine())
}

#[test]
fn every_entry_that_is_allowed_is_made() {
    let mut archive = Archive::new();
    archive.add(Header::directory("."), b"");
    archive.add(Header::directory("a/").mode(0o750), b"");
    archive.add(Header::file("a/file").mode(0o4711).time(-5), b"content");
    archive.add(Header::link("a/link", "/nowhere"), b"");
    archive.add(Header::hard("b/hard", "./a/file"), b"");
    archive.add(Header::new("fifo", b'6').mode(0o622), b"");
    archive.add(Header::new("old/", 0), b"");
    archive.add(Header::new("contiguous", b'7'), &[b'x'; 100_000]);
    let tried = tried(&archive);
    let unpacked = tried.unpacked();
    let counts = (
        unpacked.entries,
        unpacked.files,
        unpacked.directories,
        unpacked.directories_implied,
    );
    assert_eq!(counts, (8, 2, 3, 1));
    assert_eq!(unpacked.bytes, 100_007);
    let tree = tried.tree();
    let file = fs::metadata(tree.join("a/file")).unwrap();
    assert_eq!(fs::read(tree.join("b/hard")).unwrap(), b"content");
    assert_eq!((file.nlink(), file.mode() & 0o7777), (2, 0o4711));
    assert_eq!((file.mtime(), file.mtime_nsec()), (-5, 0));
    let target = fs::read_link(tree.join("a/link")).unwrap();
    assert_eq!(target.as_os_str(), "/nowhere");
    let directory = fs::metadata(tree.join("a")).unwrap();
    assert_eq!(
        (directory.mode() & 0o7777, directory.mtime()),
        (0o750, 1_000_000)
    );
    assert_eq!(fs::metadata(tree.join("b")).unwrap().mode() & 0o7777, 0o755);
    let fifo = fs::symlink_metadata(tree.join("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo());
    assert_eq!(fifo.mode() & 0o7777, 0o622);
    assert!(tree.join("old").is_dir());
}

#[test]
fn closed_directory_is_filled_and_then_closed() {
    let mut archive = Archive::new();
    archive.add(Header::directory("a").mode(0), b"");
    archive.add(Header::directory("a/b").mode(0o500), b"");
    archive.add(Header::file("a/b/file"), b"1");
    let tried = tried(&archive);
    assert_eq!(tried.unpacked().files, 1);
    let directory = tried.tree().join("a");
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0);
    // For the removal by whoever runs the tests.
    use std::os::unix::fs::PermissionsExt;
    for path in ["a", "a/b"] {
        let path = tried.tree().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn later_entries_replace_earlier_ones_and_follow_nothing() {
    let place = Place::new();
    fs::write(place.0.join("canary"), "canary").unwrap();
    fs::create_dir(place.0.join("tree")).unwrap();
    let mut archive = Archive::new();
    archive.add(Header::link("a", "../canary"), b"");
    archive.add(Header::file("a"), b"one");
    archive.add(Header::hard("other", "a"), b"");
    archive.add(Header::file("a"), b"two");
    archive.add(Header::link("b", ".."), b"");
    archive.add(Header::directory("b"), b"");
    archive.add(Header::file("b/c"), b"three");
    archive.add(Header::directory("empty"), b"");
    archive.add(Header::file("empty"), b"four");
    let tree = place.open("tree");
    let unpacked = unpack(archive.bytes().as_slice(), tree.as_fd(), &mine()).unwrap();
    assert_eq!(unpacked.replaced, 4);
    let read = |name: &str| fs::read(place.0.join("tree").join(name)).unwrap();
    assert_eq!(read("a"), b"two");
    assert_eq!(read("other"), b"one");
    assert_eq!(read("b/c"), b"three");
    assert_eq!(read("empty"), b"four");
    assert_eq!(fs::read(place.0.join("canary")).unwrap(), b"canary");
    let mut names: Vec<_> = fs::read_dir(&place.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["canary", "tree"]);
}

#[test]
fn long_names_are_taken_from_either_form() {
    let long = format!("{}/{}", "a".repeat(200), "b".repeat(250));
    let mut archive = Archive::new();
    archive.long(b'L', long.as_bytes());
    archive.add(Header::file("short"), b"gnu");
    archive.pax(&[("path", "c/pax")]);
    archive.add(Header::file("short"), b"pax");
    archive.long(b'K', &[b't'; 300]);
    archive.add(Header::link("link", "short"), b"");
    archive.add(Header::file("name").prefix("prefix"), b"ustar");
    let tried = tried(&archive);
    assert_eq!(tried.unpacked().entries, 4);
    let read = |name: &str| fs::read(tried.tree().join(name)).unwrap();
    assert_eq!(read(&long), b"gnu");
    assert_eq!(read("c/pax"), b"pax");
    assert_eq!(read("prefix/name"), b"ustar");
    let target = fs::read_link(tried.tree().join("link")).unwrap();
    assert_eq!(target.as_os_str().len(), 300);
}

#[test]
fn sparse_files_of_every_form_keep_their_holes() {
    const LENGTH: u64 = 10 << 20;
    let mut archive = Archive::new();
    let old = [(0, 512), (5 << 20, 512), (LENGTH, 0)];
    archive.add(
        Header::new("old", b'S').gnu_sparse(&old, LENGTH),
        &[b'o'; 1024],
    );
    let length = LENGTH.to_string();
    archive.pax(&[
        ("GNU.sparse.size", &length),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.offset", "1048576"),
        ("GNU.sparse.numbytes", "3"),
    ]);
    archive.add(Header::file("zero"), b"abc");
    archive.pax(&[
        ("GNU.sparse.name", "one"),
        ("GNU.sparse.size", &length),
        ("GNU.sparse.map", "1048576,3,4194304,2"),
    ]);
    archive.add(Header::file("GNUSparseFile.1/one"), b"abcde");
    archive.pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "two"),
        ("GNU.sparse.realsize", &length),
    ]);
    let mut content = b"2\n1048576\n3\n4194304\n2\n".to_vec();
    content.resize(512, 0);
    content.extend(b"abcde");
    archive.add(Header::file("GNUSparseFile.1/two"), &content);
    archive.add(Header::file("after"), b"after");
    let tried = tried(&archive);
    assert_eq!(tried.unpacked().bytes, 4 * LENGTH + 5);
    for (name, at, part) in [
        ("old", 5 << 20, &b"ooo"[..]),
        ("zero", 1 << 20, b"abc"),
        ("one", 4 << 20, b"de\0"),
        ("two", 4 << 20, b"de\0"),
    ] {
        let path = tried.tree().join(name);
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, LENGTH, "{name}");
        assert_eq!(&content[at..at + 3], part, "{name}");
        let blocks = fs::metadata(path).unwrap().blocks();
        assert!(blocks < 200, "{name} occupies {blocks}");
    }
}

#[test]
fn attributes_of_the_user_are_kept_and_others_counted() {
    let mut archive = Archive::new();
    archive.pax(&[
        ("SCHILY.xattr.user.colour", "red"),
        ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        ("SCHILY.xattr.security.selinux", "label"),
        ("SCHILY.acl.access", "user::rwx"),
        ("mtime", "1.25"),
        ("comment", "none"),
    ]);
    archive.add(Header::file("file"), b"");
    let tried = tried(&archive);
    let mut value = [0_u8; 16];
    let path = tried.tree().join("file");
    match rustix::fs::getxattr(&path, "user.colour", &mut value) {
        Ok(3) => assert_eq!(&value[..3], b"red"),
        other => panic!("{other:?}"),
    }
    assert_eq!(tried.unpacked().attributes_ignored, 3);
    let status = fs::metadata(path).unwrap();
    assert_eq!((status.mtime(), status.mtime_nsec()), (1, 250_000_000));
}

#[test]
fn compressions_are_found_by_their_first_bytes() {
    let mut archive = Archive::new();
    archive.add(Header::file("file"), &[b'x'; 300_000]);
    let bytes = archive.bytes();
    let (first, second) = bytes.split_at(1000);
    for (compression, compress) in archive::COMPRESSIONS {
        let whole = with(compress(&bytes).as_slice(), &mine());
        assert_eq!(whole.unpacked().compression, compression);
        let content = fs::read(whole.tree().join("file")).unwrap();
        assert!(content == [b'x'; 300_000], "{compression:?}");
        // Members, streams and frames, one after the other.
        let parts = [compress(first), compress(second)].concat();
        let parts = with(parts.as_slice(), &mine());
        assert_eq!(parts.unpacked().files, 1, "{compression:?}");
    }
}

#[test]
fn directory_that_holds_something_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.0.join("tree/.hidden")).unwrap();
    let refused = unpack(&b""[..], place.open("tree").as_fd(), &mine());
    assert!(matches!(refused, Err(Error::NotEmpty)));
}
