//! Roots that cannot be had: one clear error each, and nothing made.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use cloison_sandbox::{Error, Found, OwnAccess, Refused};
use cloison_tests::Outcome;
use nix::mount::{MsFlags, mount};

use crate::ground::{DISK, hold, private_mounts, spec, tree};

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

pub(crate) fn all() -> Outcome {
    private_mounts();
    let mut faults = Vec::new();
    let none = None::<&str>;
    let nosuid = MsFlags::MS_NOSUID;
    for (kind, flags) in [("ramfs", nosuid), ("tmpfs", MsFlags::empty())] {
        let place = format!("/tmp/{kind}");
        fs::create_dir(&place).unwrap();
        mount(none, place.as_str(), Some(kind), flags, none).unwrap();
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
    fs::remove_dir_all(&tree).unwrap();
    for kind in ["ramfs", "tmpfs"] {
        nix::mount::umount(format!("/tmp/{kind}").as_str()).unwrap();
        fs::remove_dir(format!("/tmp/{kind}")).unwrap();
    }
    if faults.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(faults.join("\n"))
    }
}
