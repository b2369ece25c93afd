//! Tenants are removed, with their storage or without.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cloison::{Error, Removal, TenantSettings, TenantState};
use cloison_tests::Outcome;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;

use super::ground::{Place, name, nobody, refused};

fn settings() -> TenantSettings {
    TenantSettings::default()
}

pub(crate) fn kept() -> Outcome {
    let place = Place::new(4, 2);
    let host = place.host();
    let first = host.add_tenant(&name("a"), settings()).unwrap();
    fs::write(place.storage("a").join("file"), "his").unwrap();
    host.remove_tenant(&name("a"), Removal::Keep, nobody)
        .unwrap();
    let kept = host.tenant(&name("a")).unwrap();
    assert_eq!(kept.state, TenantState::Kept);
    assert_eq!(kept.block, first.block);
    // Neither his name nor his block is another's.
    refused(
        host.add_tenant(&name("a"), settings()),
        &["he is kept", "restore"],
    );
    let second = host.add_tenant(&name("b"), settings()).unwrap();
    assert_ne!(second.block, first.block);
    refused(host.add_tenant(&name("c"), settings()), &["no block left"]);
    // He is not there meanwhile.
    refused(
        host.change_tenant(&name("a"), |_| ()),
        &["not present but kept"],
    );
    refused(host.open_storage(&name("a")), &["not present but kept"]);
    let started = host.while_present(&name("a"), |_| Ok::<(), Error>(()));
    refused(started, &["not present but kept"]);
    assert_eq!(host.restore_tenant(&name("a")).unwrap(), first);
    assert_eq!(fs::read(place.storage("a").join("file")).unwrap(), b"his");
    host.while_present(&name("a"), |_| Ok::<(), Error>(()))
        .unwrap();
    host.remove_tenant(&name("a"), Removal::Keep, nobody)
        .unwrap();
    host.remove_tenant(&name("a"), Removal::Purge, nobody)
        .unwrap();
    assert!(!place.storage("a").exists());
    let third = host.add_tenant(&name("c"), settings()).unwrap();
    assert_eq!(third.block, first.block);
    assert_eq!(place.faults(&host), [""; 0]);
    Outcome::Passed
}

pub(crate) fn servers() -> Outcome {
    let place = Place::new(5, 2);
    let host = place.host();
    host.add_tenant(&name("a"), settings()).unwrap();
    let before = place.picture();
    for removal in [Removal::Keep, Removal::Purge] {
        let running = || {
            let servers = ["b/web", "a/web", "a/db"].map(|id| id.parse().unwrap());
            Ok::<_, Error>(servers.to_vec())
        };
        refused(
            host.remove_tenant(&name("a"), removal, running),
            &[
                "servers of the tenant a run: a/db, a/web;",
                "stop them first",
            ],
        );
        // Who does not know whether one runs does not remove.
        let unknown = || Err(Error::Locked("/nowhere".into()));
        refused(
            host.remove_tenant(&name("a"), removal, unknown),
            &["/nowhere"],
        );
        assert_eq!(place.picture(), before);
    }
    let others = || Ok::<_, Error>(vec!["b/web".parse().unwrap()]);
    host.remove_tenant(&name("a"), Removal::Purge, others)
        .unwrap();
    refused(host.tenant(&name("a")), &["no tenant a"]);
    Outcome::Passed
}

/// How deep, and how wide: more than a stack, or the descriptors of a process,
/// would take, and more than is read at once.
const DEPTH: usize = 3000;
const WIDTH: usize = 5000;

/// What hinders a careless removal.
fn furnish(root: &Path, canary: &Path) {
    for nth in 0..WIDTH {
        fs::write(root.join(format!("file-{nth}")), "").unwrap();
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut deepest = openat(AT_FDCWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        mkdirat(&deepest, "deep", Mode::S_IRWXU).unwrap();
        deepest = openat(&deepest, "deep", flags, Mode::empty()).unwrap();
    }
    // Where what is deep is moved to.
    fs::create_dir_all(root.join("moved-1/moved-2/moved-1/x")).unwrap();
    fs::write(root.join("moved-3"), "").unwrap();
    let closed = root.join("closed");
    fs::create_dir_all(closed.join("below")).unwrap();
    fs::write(closed.join("below/file"), "").unwrap();
    symlink(canary, root.join("link")).unwrap();
    symlink(canary.parent().unwrap(), closed.join("link")).unwrap();
    symlink("../../..", closed.join("up")).unwrap();
    fs::hard_link(canary, root.join("hard")).unwrap();
    mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    for bytes in [&b"\xff\n\x1b[2J"[..], b" ", b"-rf", b"..."] {
        fs::create_dir_all(root.join(OsString::from_vec(bytes.to_vec())).join("x")).unwrap();
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
}

pub(crate) fn hostile() -> Outcome {
    let place = Place::new(6, 2);
    let host = place.host();
    host.add_tenant(&name("a"), settings()).unwrap();
    host.add_tenant(&name("b"), settings()).unwrap();
    // In the same mount, so that a hard link can be made to it.
    let canary = place.storage("b").join("canary");
    fs::write(&canary, "alive").unwrap();
    furnish(&place.storage("a"), &canary);
    host.remove_tenant(&name("a"), Removal::Purge, nobody)
        .unwrap();
    assert_eq!(fs::read(&canary).unwrap(), b"alive");
    assert!(!place.storage("a").exists());
    assert_eq!(place.faults(&host), [""; 0]);
    // A link in the place of the root is not gone through.
    host.add_tenant(&name("c"), settings()).unwrap();
    fs::remove_dir(place.storage("c")).unwrap();
    symlink(place.storage("b"), place.storage("c")).unwrap();
    refused(
        host.remove_tenant(&name("c"), Removal::Purge, nobody),
        &["removing /tmp/host-6/storage/c"],
    );
    assert_eq!(fs::read(&canary).unwrap(), b"alive");
    Outcome::Passed
}

pub(crate) fn hindered() -> Outcome {
    let place = Place::new(7, 2);
    let host = place.host();
    host.add_tenant(&name("a"), settings()).unwrap();
    let inner = place.storage("a").join("x/mounted");
    fs::create_dir_all(&inner).unwrap();
    let none: Option<&str> = None;
    mount(none, &inner, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::write(inner.join("canary"), "alive").unwrap();
    let purge = || host.remove_tenant(&name("a"), Removal::Purge, nobody);
    refused(purge(), &["removing /tmp/host-7/storage/a"]);
    assert_eq!(fs::read(inner.join("canary")).unwrap(), b"alive");
    let state = || host.tenant(&name("a")).unwrap().state;
    assert_eq!(state(), TenantState::Purging);
    // It hinders nobody else, and nobody has his name or block meanwhile.
    let other = place.host().add_tenant(&name("b"), settings()).unwrap();
    refused(
        host.add_tenant(&name("a"), settings()),
        &["he is purging", "--purge"],
    );
    refused(
        host.remove_tenant(&name("a"), Removal::Keep, nobody),
        &["not present but purging"],
    );
    assert_eq!(state(), TenantState::Purging);
    umount(&inner).unwrap();
    // Nor is what is mounted on the root itself taken for his.
    let root = place.storage("a");
    mount(none, &root, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::write(root.join("canary"), "alive").unwrap();
    refused(purge(), &["removing /tmp/host-7/storage/a"]);
    assert_eq!(fs::read(root.join("canary")).unwrap(), b"alive");
    umount(&root).unwrap();
    // Whoever opens the host next finishes it.
    let next = place.host();
    assert_eq!(next.tenants().unwrap(), [other]);
    assert_eq!(next.retired().unwrap().len(), 1);
    assert_eq!(place.faults(&next), [""; 0]);
    next.add_tenant(&name("c"), settings()).unwrap();
    Outcome::Passed
}
