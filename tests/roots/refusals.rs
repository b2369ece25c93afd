//! Roots that cannot be had: one clear error each, and nothing made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use cloison_sandbox::{Access, Error, Found, Mount, OwnAccess, Refused};
use cloison_tests::Outcome;
use nix::mount::{MsFlags, mount};

use crate::ground::{DISK, hold, private_mounts, spec, succeeds, tree};

fn expect(
    faults: &mut Vec<String>,
    tree: &Path,
    access: OwnAccess,
    is_it: impl Fn(&Error) -> bool,
) {
    match hold(&spec(tree, access, 1, "true")) {
        Err(error) if is_it(&error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            println!("{error}: {source:?}");
        }
        other => faults.push(format!("{other:?}")),
    }
}

/// Layers that are refused, and are as they were.
fn layers(faults: &mut Vec<String>, tree: &Path) {
    let within = tree.join("data");
    for path in [tree, &within] {
        let access = OwnAccess::DiskLayer { path: path.into() };
        expect(
            faults,
            tree,
            access,
            |error| matches!(error, Error::Refused(Refused::LayerWithinTree { layer, .. }) if layer == path),
        );
    }
    let layer = Path::new("/tmp/tmpfs-nosuid/layer");
    fs::create_dir(layer).unwrap();
    let on_disk = || OwnAccess::DiskLayer { path: layer.into() };
    chown(layer, Some(1000), Some(1000)).unwrap();
    expect(faults, tree, on_disk(), |error| {
        matches!(error, Error::Refused(Refused::TreeOwner { user: 1000, .. }))
    });
    chown(layer, Some(0), Some(0)).unwrap();
    let mut nowhere = spec(tree, on_disk(), 1, "true");
    nowhere.mounts.push(Mount {
        source: "/usr".into(),
        target: "/no/such/place".into(),
        access: Access::ReadOnly,
    });
    match hold(&nowhere) {
        Err(Error::Refused(Refused::MountPointMissing { .. })) => {}
        other => faults.push(format!("{other:?}")),
    }
    let left: Vec<_> = fs::read_dir(layer).unwrap().flatten().collect();
    if !left.is_empty() {
        faults.push(format!("left by what was refused: {left:?}"));
    }
    fs::remove_dir(layer).unwrap();
}

/// As the design wants the place where the tenants' trees are kept.
pub(crate) fn inert_place() -> Outcome {
    private_mounts();
    let place = "/tmp/inert";
    fs::create_dir(place).unwrap();
    let none = None::<&str>;
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, place, Some("tmpfs"), inert, none).unwrap();
    let tree = tree(place);
    fs::copy("/usr/bin/true", tree.join("data/true")).unwrap();
    fs::set_permissions(tree.join("data/true"), Permissions::from_mode(0o755)).unwrap();
    let mut faults = Vec::new();
    let memory = OwnAccess::MemoryLayer {
        bytes_max: 1 << 20,
        files_max: 64,
    };
    for access in [OwnAccess::ReadOnly, OwnAccess::ReadWrite, memory] {
        faults.extend(succeeds(&spec(&tree, access, 1, "/data/true")).err());
    }
    // What the host does not execute elsewhere stays so.
    let mut shown = spec(&tree, OwnAccess::ReadOnly, 1, "! /data/true");
    shown.mounts.push(Mount {
        source: tree.join("data"),
        target: "/data".into(),
        access: Access::ReadOnly,
    });
    faults.extend(succeeds(&shown).err());
    // Nor is what it only reads written to.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | inert;
    mount(none, place, none, flags, none).unwrap();
    expect(
        &mut faults,
        &tree,
        OwnAccess::ReadWrite,
        |error| matches!(error, Error::Refused(Refused::ReadOnlyOnHost(path)) if *path == tree),
    );
    nix::mount::umount(place).unwrap();
    fs::remove_dir(place).unwrap();
    faults.into()
}

pub(crate) fn all() -> Outcome {
    private_mounts();
    let mut faults = Vec::new();
    let none = None::<&str>;
    let nosuid = MsFlags::MS_NOSUID;
    let places = [
        ("/tmp/ramfs", "ramfs", nosuid),
        ("/tmp/tmpfs", "tmpfs", MsFlags::empty()),
        ("/tmp/tmpfs-nosuid", "tmpfs", nosuid),
    ];
    for (place, kind, flags) in places {
        fs::create_dir(place).unwrap();
        mount(none, place, Some(kind), flags, none).unwrap();
    }
    // The kernel cannot map it.
    expect(
        &mut faults,
        &tree("/tmp/ramfs"),
        OwnAccess::ReadOnly,
        |error| matches!(error, Error::NotMappable { file_system, since: None, .. } if file_system == "ramfs"),
    );
    // A set-user-id file would be one.
    let honoured = tree("/tmp/tmpfs");
    expect(
        &mut faults,
        &honoured,
        OwnAccess::ReadWrite,
        |error| matches!(error, Error::Refused(Refused::HostHonoursSetuid(path)) if *path == honoured),
    );
    let tree = tree("/tmp");
    // It is the host's.
    chown(&tree, Some(0), Some(0)).unwrap();
    expect(&mut faults, &tree, OwnAccess::ReadOnly, |error| {
        matches!(
            error,
            Error::Refused(Refused::TreeOwner {
                user: 0,
                group: 0,
                first: DISK,
                ..
            })
        )
    });
    chown(&tree, Some(DISK), Some(DISK)).unwrap();
    fs::remove_dir(tree.join("run")).unwrap();
    expect(&mut faults, &tree, OwnAccess::ReadOnly, |error| {
        matches!(
            error,
            Error::Refused(Refused::MountPointMissing { name, found: Found::Nothing, .. })
                if name == "run"
        )
    });
    expect(
        &mut faults,
        Path::new("/tmp/nowhere"),
        OwnAccess::ReadOnly,
        |error| matches!(error, Error::HostPath { path, .. } if path == Path::new("/tmp/nowhere")),
    );
    fs::create_dir(tree.join("run")).unwrap();
    layers(&mut faults, &tree);
    fs::remove_dir_all(&tree).unwrap();
    for (place, _, _) in places {
        nix::mount::umount(place).unwrap();
        fs::remove_dir(place).unwrap();
    }
    faults.into()
}
