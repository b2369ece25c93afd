//! Whose the files of a root are, inside and on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cloison_sandbox::posture::Field;
use cloison_sandbox::{Error, IdRange, OwnAccess, Prepared, Weakening};
use cloison_tests::Outcome;

use crate::ground::{DISK, directory, hold_again, spec, succeeds, tree};

const NO_SUCH_ID: u32 = IdRange::COUNT + 70_000;

/// Files of user 0 and 7, and nothing can be written.
pub(crate) fn read_only() -> Outcome {
    let tree = tree("/tmp");
    let script = "test $(stat -c %u:%g /etc/seven) = 7:7 && test $(stat -c %u / | tr -d '\\n') = 0 \
                  && ! touch /etc/x && ! touch /x";
    let ended = succeeds(&spec(&tree, OwnAccess::ReadOnly, 1, script));
    fs::remove_dir_all(&tree).unwrap();
    ended.into()
}

/// What one made is the other's own.
pub(crate) fn two_servers() -> Outcome {
    let tree = tree("/tmp");
    let write = "echo one > /data/one && test $(stat -c %u /data/one) = 0";
    let read = "test $(cat /data/one) = one && test $(stat -c %u:%g /data/one) = 0:0 \
                && echo two >> /data/one";
    let ended = succeeds(&spec(&tree, OwnAccess::ReadWrite, 1, write))
        .and_then(|()| succeeds(&spec(&tree, OwnAccess::ReadWrite, 2, read)))
        .and_then(|()| {
            let file = fs::metadata(tree.join("data/one")).unwrap();
            let text = fs::read_to_string(tree.join("data/one")).unwrap();
            if (file.uid(), file.gid(), text.as_str()) == (DISK, DISK, "one\ntwo\n") {
                Ok(())
            } else {
                Err(format!("on disk {}:{} {text:?}", file.uid(), file.gid()))
            }
        });
    fs::remove_dir_all(&tree).unwrap();
    ended.into()
}

/// A file, a set-user-id file, a file given away: all of the tenant's ids, on a
/// mount that honours no set-user-id bit. One outside the range is refused.
pub(crate) fn made_inside() -> Outcome {
    let tree = tree("/tmp");
    let script = format!(
        "touch /data/plain && cp /usr/bin/true /data/setuid && chmod 4755 /data/setuid \
         && touch /data/given && chown 65534:65534 /data/given \
         && ! chown {NO_SUCH_ID} /data/given && ! chown {DISK} /data/given"
    );
    let mut spec = spec(&tree, OwnAccess::ReadWrite, 1, &script);
    spec.capabilities.insert(caps_chown());
    let ended = succeeds(&spec).and_then(|()| {
        let owner = |name: &str| {
            let file = fs::metadata(tree.join("data").join(name)).unwrap();
            (file.uid() - DISK, file.gid() - DISK)
        };
        let owners = ["plain", "setuid", "given"].map(owner);
        if owners != [(0, 0), (0, 0), (65534, 65534)] {
            return Err(format!("on disk: {owners:?}"));
        }
        let mode = fs::metadata(tree.join("data/setuid"))
            .unwrap()
            .permissions();
        if mode.mode() & 0o7777 != 0o4755 {
            return Err(format!("mode {:o}", mode.mode()));
        }
        // Run by somebody of the host it gives him nothing: see the refusal of
        // a mount without nosuid.
        let flags = nix::sys::statvfs::statvfs(&tree).unwrap().flags();
        if flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID) {
            Ok(())
        } else {
            Err("the host honours it".to_owned())
        }
    });
    fs::remove_dir_all(&tree).unwrap();
    ended.into()
}

fn caps_chown() -> caps::Capability {
    caps::Capability::CAP_CHOWN
}

/// The mounts without their map: what is read back is not what was asked for.
pub(crate) fn broken() -> Outcome {
    let tree = tree("/tmp");
    let state = std::path::PathBuf::from("/tmp/state");
    directory(&state);
    let memory = OwnAccess::MemoryLayer {
        bytes_max: 1 << 20,
        files_max: 64,
    };
    let mut faults = Vec::new();
    for (access, red) in [
        (OwnAccess::ReadOnly, vec![Field::Mounts, Field::RootIds]),
        (OwnAccess::ReadWrite, vec![Field::Mounts, Field::RootIds]),
        (memory, vec![Field::RootIds]),
        (OwnAccess::DiskLayer { path: state }, Vec::new()),
    ] {
        let spec = spec(&tree, access.clone(), 1, "true");
        let broken = vec![Weakening::BrokenField(Field::RootIds)];
        let held = hold_again(&spec, Prepared::new(&spec).unwrap(), broken);
        let fields: Vec<Field> = match held {
            Err(Error::PostureDiffers(differences)) => {
                differences.iter().map(|d| d.expected.field()).collect()
            }
            other => {
                faults.push(format!("{access:?}: {other:?}"));
                continue;
            }
        };
        println!("{access:?}: {fields:?}");
        let is_red = red.iter().all(|field| fields.contains(field));
        if !is_red || !fields.contains(&Field::RootIds) {
            faults.push(format!("{access:?}: {fields:?}"));
        }
        // What the broken launch left in the layer has other ids.
        fs::remove_dir_all("/tmp/state").unwrap();
        directory("/tmp/state".as_ref());
        if let Err(error) = succeeds(&spec) {
            faults.push(format!("whole: {error}"));
        }
    }
    fs::remove_dir_all(&tree).unwrap();
    fs::remove_dir_all("/tmp/state").unwrap();
    faults.into()
}

/// The same namespace, and a spec that asks for another map is refused.
pub(crate) fn restart() -> Outcome {
    let tree = tree("/tmp");
    let mut spec = spec(&tree, OwnAccess::ReadOnly, 1, "true");
    let number = |prepared: &Prepared| {
        use std::os::fd::AsFd;
        let mapping = prepared.tree_ids().unwrap();
        nix::sys::stat::fstat(mapping.as_fd()).unwrap().st_ino
    };
    let prepared = Prepared::new(&spec).unwrap();
    let first = number(&prepared);
    let mut sandbox = hold_again(&spec, prepared, Vec::new())
        .unwrap()
        .start()
        .unwrap();
    sandbox.wait().unwrap();
    let mut sandbox = hold_again(&spec, sandbox.into_prepared().unwrap(), Vec::new())
        .unwrap()
        .start()
        .unwrap();
    sandbox.wait().unwrap();
    let prepared = sandbox.into_prepared().unwrap();
    let second = number(&prepared);
    if let cloison_sandbox::Root::Own(own) = &mut spec.root {
        own.disk_ids = crate::ground::server(9);
    }
    let other = hold_again(&spec, prepared, Vec::new());
    fs::remove_dir_all(&tree).unwrap();
    match other {
        Err(Error::Refused(cloison_sandbox::Refused::OtherDiskIds)) if first == second => {
            Outcome::Passed
        }
        other => Outcome::Failed(format!("{first}, then {second}; {other:?}")),
    }
}
