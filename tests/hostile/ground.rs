//! A tenant's tree, and what is launched in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cloison_sandbox::{
    Access, Error, Held, IdRange, Io, Kernel, Layer, Mount, OwnAccess, OwnRoot, Plan, Prepared,
    Root, SandboxName, Spec, Streams, Sysfs, Waivers,
};

pub(crate) const DISK: u32 = 1_879_048_192;

/// Where the tree is, and beside it what it must not reach.
pub(crate) const TREE: &str = "/tmp/tenant/tree";
pub(crate) const STATE: &str = "/tmp/tenant/state";
pub(crate) const VICTIM: &str = "/tmp/victim";
/// A tree of the operator's that is shown at [`TARGET`].
pub(crate) const SHOWN: &str = "/tmp/shown";
pub(crate) const TARGET: &str = "srv/deep/data";

/// What a root is wanted to have, but for [`TARGET`].
pub(crate) const POINTS: [&str; 5] = ["proc", "dev", "tmp", "run", "sys"];

pub(crate) fn own(path: &Path) {
    lchown(path, Some(DISK), Some(DISK)).unwrap();
}

pub(crate) fn directory(path: impl AsRef<Path>) {
    let path = path.as_ref();
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    own(path);
}

/// Makes the tree anew, with nothing wrong in it.
pub(crate) fn fresh_tree() -> PathBuf {
    for path in [TREE, STATE] {
        if Path::new(path).exists() {
            fs::remove_dir_all(path).unwrap();
        }
        directory(path);
    }
    let tree = PathBuf::from(TREE);
    for name in POINTS
        .into_iter()
        .chain(["usr", "etc", "srv", "srv/deep", TARGET])
    {
        directory(tree.join(name));
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name)).unwrap();
        own(&tree.join(name));
    }
    tree
}

/// The operator's tree.
pub(crate) fn shown() {
    fs::create_dir_all(SHOWN).unwrap();
    fs::write(Path::new(SHOWN).join("hello"), "shown\n").unwrap();
}

pub(crate) fn memory() -> OwnAccess {
    OwnAccess::MemoryLayer {
        bytes_max: 1 << 20,
        files_max: 64,
    }
}

pub(crate) fn own_root(access: OwnAccess) -> Root {
    Root::Own(OwnRoot {
        path: TREE.into(),
        disk_ids: IdRange::new(DISK).unwrap(),
        access,
    })
}

/// A server with that root, everything mounted in it that can be.
pub(crate) fn spec(root: Root, script: &str) -> Spec {
    let command = ["/usr/bin/sh", "-c", script].map(str::to_owned);
    let name = SandboxName::new("hostile").unwrap();
    let mut spec = Spec::new(name, command.to_vec());
    spec.environment
        .insert("PATH".to_owned(), "/usr/bin".to_owned());
    spec.ids = Some(IdRange::new(DISK + IdRange::COUNT).unwrap());
    spec.root = root;
    spec.sysfs = Sysfs::ReadOnly;
    for (source, target) in [("/usr", "usr"), (SHOWN, TARGET)] {
        spec.mounts.push(Mount {
            source: source.into(),
            target: Path::new("/").join(target),
            access: Access::ReadOnly,
        });
    }
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

/// How far a launch came.
pub(crate) enum Launch {
    /// Before there was a process.
    Refused(Error),
    /// In a step of the child.
    Failed(Error),
    Held(Box<Held>),
}

pub(crate) fn launch(spec: &Spec, prepared: Prepared, streams: Option<Streams>) -> Launch {
    let mut io = Io::null().unwrap();
    if let Some(streams) = streams {
        io.streams = streams;
    }
    match Plan::new(spec, kernel(), &waivers(), prepared, io).map(Plan::hold) {
        Err(error) => Launch::Refused(error),
        Ok(Err(error)) => Launch::Failed(error),
        Ok(Ok(held)) => Launch::Held(Box::new(held)),
    }
}
