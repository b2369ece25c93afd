//! Where what is written over a tree goes.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use cloison_sandbox::posture::Field;
use cloison_sandbox::{Error, OwnAccess, Refused};
use cloison_tests::Outcome;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::ground::{DISK, directory, hold, private_mounts, spec, succeeds, tree};

/// Changes of what is there, of its place, its owner's bits, and new files.
const CHANGE: &str = "test $(stat -c %u /etc/seven) = 7 && echo more > /data/new && mkdir /data/d \
                      && mv /data/d /data/e && rm /etc/seven && ! test -e /etc/seven \
                      && test $(stat -c %u:%g /data/new) = 0:0 && ln -s x /data/l";

const MEMORY: OwnAccess = OwnAccess::MemoryLayer {
    bytes_max: 1 << 20,
    files_max: 64,
};

/// What lies in a tree: name, owner, kind.
fn listed(tree: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(tree).unwrap() {
        let path = entry.unwrap().path();
        let status = path.symlink_metadata().unwrap();
        all.push((path.clone(), status.uid(), status.mode()));
        if status.is_dir() {
            all.extend(listed(&path));
        }
    }
    all.sort();
    all
}

pub(crate) fn memory() -> Outcome {
    let tree = tree("/tmp");
    // No mount point of the tree's is needed, whatever stands there.
    fs::remove_dir(tree.join("proc")).unwrap();
    symlink("/etc", tree.join("proc")).unwrap();
    let before = listed(&tree);
    let full = "! head -c 2000000 /dev/zero > /data/full";
    let ended = succeeds(&spec(&tree, MEMORY, 1, CHANGE))
        .and_then(|()| succeeds(&spec(&tree, MEMORY, 1, CHANGE)))
        .and_then(|()| succeeds(&spec(&tree, MEMORY, 1, full)));
    let after = listed(&tree);
    fs::remove_dir_all(&tree).unwrap();
    if before == after {
        ended.into()
    } else {
        Outcome::Failed(format!("before {before:?}, after {after:?}"))
    }
}

/// On a file system of a disk, where one can be had.
fn disk_tree() -> (PathBuf, PathBuf) {
    private_mounts();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk-layer");
    fs::create_dir_all(&base).unwrap();
    let none = None::<&str>;
    mount(Some(&base), &base, none, MsFlags::MS_BIND, none).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, &base, none, flags, none).unwrap();
    for entry in fs::read_dir(&base).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let tree = tree(base.to_str().unwrap());
    let state = base.join("state");
    directory(&state);
    (tree, state)
}

pub(crate) fn disk() -> Outcome {
    let (tree, state) = disk_tree();
    let access = OwnAccess::DiskLayer {
        path: state.clone(),
    };
    let before = listed(&tree);
    let again = "test $(cat /data/new) = more && ! test -e /etc/seven && test -d /data/e";
    let ended = succeeds(&spec(&tree, access.clone(), 1, CHANGE))
        // Another server of the tenant's.
        .and_then(|()| succeeds(&spec(&tree, access, 2, again)))
        .and_then(|()| {
            let odd: Vec<_> = listed(&state.join("upper"))
                .into_iter()
                .filter(|(_, owner, _)| *owner != DISK)
                .collect();
            if odd.is_empty() && listed(&tree) == before {
                Ok(())
            } else {
                Err(format!("odd owners {odd:?}, tree {:?}", listed(&tree)))
            }
        });
    fs::remove_dir_all(&tree).unwrap();
    fs::remove_dir_all(&state).unwrap();
    ended.into()
}

pub(crate) fn one_at_a_time() -> Outcome {
    let (tree, state) = disk_tree();
    let access = OwnAccess::DiskLayer {
        path: state.clone(),
    };
    let first = hold(&spec(&tree, access.clone(), 1, "true")).unwrap();
    let second = hold(&spec(&tree, access.clone(), 2, "true"));
    drop(first);
    let third = hold(&spec(&tree, access, 2, "true"));
    let third = third.map(drop);
    fs::remove_dir_all(&tree).unwrap();
    fs::remove_dir_all(&state).unwrap();
    match (second, third) {
        (
            Err(Error::Step {
                errno: Errno::EBUSY,
                ..
            }),
            Ok(()),
        ) => Outcome::Passed,
        other => Outcome::Failed(format!("{other:?}")),
    }
}

/// The kernel cannot clean what lies in the place of its own files, and mounts
/// the overlay read-only.
pub(crate) fn silently_read_only() -> Outcome {
    let (tree, state) = disk_tree();
    directory(&state.join("work"));
    fs::create_dir_all(state.join("work/work/of-another")).unwrap();
    let access = OwnAccess::DiskLayer {
        path: state.clone(),
    };
    let held = hold(&spec(&tree, access, 1, "true"));
    fs::remove_dir_all(&tree).unwrap();
    fs::remove_dir_all(&state).unwrap();
    match held {
        Err(Error::PostureDiffers(differences))
            if differences
                .iter()
                .any(|d| d.expected.field() == Field::Mounts) =>
        {
            Outcome::Passed
        }
        other => Outcome::Failed(format!("{other:?}")),
    }
}

/// A disk layer came with a backup of the tenant's making.
pub(crate) fn links() -> Outcome {
    let (tree, state) = disk_tree();
    let victim = tree.with_file_name("victim");
    fs::create_dir_all(&victim).unwrap();
    let mut faults = Vec::new();
    for name in ["upper", "work", "upper.new"] {
        symlink("../victim", state.join(name)).unwrap();
        let access = OwnAccess::DiskLayer {
            path: state.clone(),
        };
        match hold(&spec(&tree, access, 1, "true")) {
            Err(Error::HostPath { .. } | Error::Refused(Refused::TreeOwner { .. })) => {}
            other => faults.push(format!("{name}: {other:?}")),
        }
        if !listed(&victim).is_empty() || fs::metadata(&victim).unwrap().uid() != 0 {
            faults.push(format!("{name}: the victim was touched"));
        }
        fs::remove_dir_all(&state).unwrap();
        directory(&state);
    }
    fs::remove_dir_all(&tree).unwrap();
    fs::remove_dir_all(&state).unwrap();
    fs::remove_dir_all(&victim).unwrap();
    faults.into()
}
