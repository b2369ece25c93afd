//! A tenant's tree, and servers that have it as a root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cloison_sandbox::{
    Access, Error, ExitStatus, Held, IdRange, Io, Kernel, Layer, Mount, OwnAccess, OwnRoot, Plan,
    Prepared, Root, SandboxName, Spec, Waivers, Weakening,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What the files of the tenant carry on disk.
pub(crate) const DISK: u32 = 1_879_048_192;

/// The ids of the tenant's n-th server.
pub(crate) fn server(slot: u32) -> IdRange {
    IdRange::new(DISK + slot * IdRange::COUNT).unwrap()
}

pub(crate) fn disk() -> IdRange {
    IdRange::new(DISK).unwrap()
}

/// Mounts of the case stay its own.
pub(crate) fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
}

/// A directory of the tenant's.
pub(crate) fn directory(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    chown(path, Some(DISK), Some(DISK)).unwrap();
}

/// A tree with mount points, the host's `/usr` to come, and a file of user 7.
pub(crate) fn tree(beneath: &str) -> PathBuf {
    let tree = Path::new(beneath).join("tree");
    directory(&tree);
    for name in ["proc", "dev", "tmp", "run", "usr", "etc", "data"] {
        directory(&tree.join(name));
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name)).unwrap();
        lchown(tree.join(name), Some(DISK), Some(DISK)).unwrap();
    }
    let file = tree.join("etc/seven");
    fs::write(&file, "seven\n").unwrap();
    chown(&file, Some(DISK + 7), Some(DISK + 7)).unwrap();
    tree
}

/// A server whose root it is, that runs a script.
pub(crate) fn spec(tree: &Path, access: OwnAccess, slot: u32, script: &str) -> Spec {
    let name = SandboxName::new(format!("own-{slot}")).unwrap();
    let command = ["/usr/bin/sh", "-c", script].map(str::to_owned);
    let mut spec = Spec::new(name, command.to_vec());
    spec.environment
        .insert("PATH".to_owned(), "/usr/bin:/usr/sbin".to_owned());
    spec.ids = Some(server(slot));
    spec.root = Root::Own(OwnRoot {
        path: tree.to_owned(),
        disk_ids: disk(),
        access,
    });
    spec.mounts.push(Mount {
        source: "/usr".into(),
        target: "/usr".into(),
        access: Access::ReadOnly,
    });
    spec
}

pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::probe().unwrap())
}

pub(crate) fn waivers() -> Waivers {
    let mut waivers = Waivers::none();
    for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
        waivers
            .waive(layer, "the tests say what this host lacks")
            .unwrap();
    }
    waivers
}

pub(crate) fn hold_again(
    spec: &Spec,
    prepared: Prepared,
    weakenings: Vec<Weakening>,
) -> Result<Held, Error> {
    let io = Io::null()?;
    Plan::weakened(spec, kernel(), &waivers(), prepared, io, weakenings)?.hold()
}

pub(crate) fn hold(spec: &Spec) -> Result<Held, Error> {
    hold_again(spec, Prepared::new(spec)?, Vec::new())
}

/// Runs its script to the end.
pub(crate) fn run(spec: &Spec) -> Result<ExitStatus, Error> {
    let mut sandbox = hold(spec)?.start()?;
    sandbox.wait()?;
    sandbox.remove()
}

/// Fails unless the script ended well.
pub(crate) fn succeeds(spec: &Spec) -> Result<(), String> {
    match run(spec) {
        Ok(ExitStatus::Exited(0)) => Ok(()),
        other => Err(format!("{:?}: {other:?}", spec.command.last())),
    }
}
