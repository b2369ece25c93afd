//! Unpacking as a tenant would: a root of a user namespace of its own.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use cloison_storage::unpack::{Options, Owners, unpack};
use cloison_tests::{Outcome, REPORT};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::archive::{Item, Squeezed, encode};

/// The tenant's first id on disk.
const FIRST: u32 = 0x7000_0000;
const TREE: &str = "/tmp/inside/tree";

/// Makes this process root of a user namespace whose ids are the tenant's.
fn become_tenant() {
    let pid = std::process::id();
    let write = format!(
        "read go; echo 0 {FIRST} 65536 >/proc/{pid}/uid_map; echo 0 {FIRST} 65536 >/proc/{pid}/gid_map"
    );
    let mut host = Command::new("sh")
        .args(["-c", &write])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    host.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(host.wait().unwrap().success());
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
}

pub(crate) fn unpacked() -> Outcome {
    fs::create_dir_all(TREE).unwrap();
    chown(TREE, Some(FIRST), Some(FIRST)).unwrap();
    // Looks at what is on disk, from the host's side, when it is told to.
    let stat = format!("read go; cd {TREE} && stat -c '%n %u %g %a' . a a/file a/last link");
    let mut host = Command::new("sh")
        .args(["-c", &stat])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    become_tenant();
    let capability = [&[1, 0, 0, 2][..], &[0, 4], &[0; 14]].concat();
    let owned = |item: Item, owner| Item { owner, ..item };
    let items = [
        owned(Item::directory(b"a"), 33),
        Item {
            owner: 1000,
            mode: 0o4755,
            records: vec![("SCHILY.xattr.security.capability", capability)],
            ..Item::file(b"a/file", b"content")
        },
        owned(Item::file(b"a/last", b""), 65535),
        owned(Item::link(b"link", b'2', b"/etc/shadow"), 5),
        owned(Item::link(b"hard", b'1', b"a/file"), 5),
    ];
    let bytes = encode(&items, Squeezed::Gzip);
    let tree = File::open(TREE).unwrap();
    let unpacked = unpack(bytes.as_slice(), tree.as_fd(), &Options::default());
    let unpacked = unpacked.unwrap();
    assert_eq!(unpacked.entries, 5);
    let mut faults = Vec::new();
    let file = Path::new(TREE).join("a/file");
    let inside = fs::metadata(&file).unwrap();
    if (inside.uid(), inside.mode() & 0o7777) != (1000, 0o4755) {
        faults.push(format!("inside {} {:o}", inside.uid(), inside.mode()));
    }
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(&file, "security.capability", &mut value).unwrap();
    // Whose it is shows as version 2 to those whose root it is.
    if value[..length] != [&[1, 0, 0, 2][..], &[0, 4], &[0; 14]].concat() {
        faults.push(format!("capabilities {:?}", &value[..length]));
    }
    host.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let seen = String::from_utf8(host.wait_with_output().unwrap().stdout).unwrap();
    let expected = [
        format!(". {FIRST} {FIRST} 755"),
        format!("a {0} {0} 755", FIRST + 33),
        format!("a/file {0} {0} 4755", FIRST + 1000),
        format!("a/last {0} {0} 644", FIRST + 65535),
        format!("link {0} {0} 777", FIRST + 5),
    ];
    let lines: Vec<&str> = seen.lines().take(5).collect();
    if lines != expected {
        faults.push(format!("on disk {lines:?}"));
    }
    println!(
        "{REPORT}{} entries by a root of its own; on disk {}",
        unpacked.entries,
        lines.join(", ")
    );
    faults.into()
}

/// Who may pass over no mode: a closed directory is filled first and closed at the end.
pub(crate) fn by_ordinary_user() -> Outcome {
    const USER: u32 = 1000;
    fs::create_dir_all(TREE).unwrap();
    chown(TREE, Some(USER), Some(USER)).unwrap();
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    let closed = |name: &[u8]| Item {
        mode: 0,
        ..Item::directory(name)
    };
    let items = [
        closed(b"."),
        closed(b"a"),
        closed(b"a/b"),
        Item::file(b"a/b/file", b"content"),
        Item::link(b"a/hard", b'1', b"a/b/file"),
    ];
    let bytes = encode(&items, Squeezed::No);
    let options = Options {
        owners: Owners::Caller,
        ..Options::default()
    };
    let tree = File::open(TREE).unwrap();
    let unpacked = unpack(bytes.as_slice(), tree.as_fd(), &options);
    let mode = fs::metadata(TREE).unwrap().mode() & 0o7777;
    match unpacked {
        Ok(unpacked) if (unpacked.entries, mode) == (5, 0) => Outcome::Passed,
        other => Outcome::Failed(format!("{other:?}, mode {mode:o}")),
    }
}
