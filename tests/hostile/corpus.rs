//! Every place of a root, in every bad shape.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cloison_sandbox::{Access, Error, OwnAccess, Prepared, Refused, Root};
use cloison_tests::{Outcome, REPORT};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::ground::{
    Launch, POINTS, SHOWN, STATE, TARGET, TREE, VICTIM, directory, fresh_tree, launch, memory, own,
    own_root, shown, spec,
};
use crate::outside::Outside;
use crate::verbs::{PATIENCE, every_verb, prepared};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    LinkOut,
    LinkOutByDots,
    LinkToRoot,
    Dangling,
    Loop,
    MagicLink,
    LinkInside,
    Fifo,
    File,
    Socket,
    Device,
    Missing,
    Deep,
    Unreadable,
    OfTheHost,
}

const SHAPES: [Shape; 15] = [
    Shape::LinkOut,
    Shape::LinkOutByDots,
    Shape::LinkToRoot,
    Shape::Dangling,
    Shape::Loop,
    Shape::MagicLink,
    Shape::LinkInside,
    Shape::Fifo,
    Shape::File,
    Shape::Socket,
    Shape::Device,
    Shape::Missing,
    Shape::Deep,
    Shape::Unreadable,
    Shape::OfTheHost,
];

impl Shape {
    /// Whether something can be mounted there.
    fn is_directory(self) -> bool {
        matches!(self, Self::Deep | Self::Unreadable | Self::OfTheHost)
    }

    /// Puts it in the place of what is there.
    fn put(self, path: &Path) {
        if path.exists() {
            fs::remove_dir_all(path).unwrap();
        }
        let link = |to: &str| {
            symlink(to, path).unwrap();
            own(path);
        };
        let name = path.file_name().unwrap().to_str().unwrap();
        match self {
            Self::LinkOut => link(VICTIM),
            Self::LinkOutByDots => link("../../../../../../../../tmp/victim"),
            Self::LinkToRoot => link("/"),
            Self::Dangling => link("nowhere/at/all"),
            Self::Loop => link(name),
            Self::MagicLink => link("/proc/self/root/tmp/victim"),
            Self::LinkInside => link("/usr"),
            Self::Fifo => mkfifo(path, Mode::S_IRWXU).unwrap(),
            Self::File => fs::write(path, "a file").unwrap(),
            Self::Socket => drop(UnixListener::bind(path).unwrap()),
            Self::Device => mknod(
                path,
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o666),
                makedev(1, 3),
            )
            .unwrap(),
            Self::Missing => {}
            Self::Deep => {
                directory(path);
                let deep = "d/".repeat(400);
                fs::create_dir_all(path.join(deep)).unwrap();
            }
            Self::Unreadable => {
                directory(path);
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
            }
            Self::OfTheHost => fs::create_dir(path).unwrap(),
        }
        if matches!(self, Self::Fifo | Self::File | Self::Socket | Self::Device) {
            own(path);
        }
    }
}

/// How the tree is used.
fn roots() -> Vec<Root> {
    let mut roots = vec![
        own_root(OwnAccess::ReadOnly),
        own_root(memory()),
        own_root(OwnAccess::DiskLayer { path: STATE.into() }),
    ];
    if !cloison_tests::quick() {
        roots.push(own_root(OwnAccess::ReadWrite));
        roots.push(Root::Directory {
            path: TREE.into(),
            access: Access::ReadOnly,
        });
    }
    roots
}

fn layer(root: &Root) -> &OwnAccess {
    match root {
        Root::Own(own) => &own.access,
        _ => &OwnAccess::ReadOnly,
    }
}

/// The tree in which the shape is put: of a disk layer that layer, which the
/// tenant restored from a backup of his own making.
fn hostile_tree(root: &Root, place: &str) -> PathBuf {
    let tree = fresh_tree();
    if !matches!(layer(root), OwnAccess::DiskLayer { .. }) {
        return tree;
    }
    let upper = Path::new(STATE).join("upper");
    directory(&upper);
    let above = Path::new(place).parent().unwrap();
    for above in above.ancestors() {
        directory(upper.join(above));
    }
    upper
}

/// Whether a tree with that shape there must be refused.
fn is_refused(root: &Root, place: &str, shape: Shape) -> bool {
    let covered = matches!(layer(root), OwnAccess::MemoryLayer { .. }) && POINTS.contains(&place);
    match place {
        // Nobody but the payload looks there.
        "etc" => false,
        // A layer has what the tree beneath has, and directories of both are
        // one.
        _ if matches!(layer(root), OwnAccess::DiskLayer { .. }) => {
            !shape.is_directory() && shape != Shape::Missing
        }
        // What is above a place to mount on has none beneath it.
        "srv" | "srv/deep" => true,
        _ => !shape.is_directory() && !covered,
    }
}

#[derive(Default)]
struct Count {
    trees: usize,
    refused: usize,
    launched: usize,
    verbs: usize,
}

pub(crate) fn every_tree() -> Outcome {
    shown();
    fs::create_dir_all(Path::new(VICTIM).join("deep/data")).unwrap();
    fs::write(Path::new(VICTIM).join("file"), "victim").unwrap();
    let mut count = Count::default();
    let mut faults = Vec::new();
    let places = POINTS.into_iter().chain(["etc", "srv", "srv/deep", TARGET]);
    for place in places {
        for shape in SHAPES {
            for root in roots() {
                shape.put(&hostile_tree(&root, place).join(place));
                count.trees += 1;
                if let Err(fault) = meet(&root, place, shape, &mut count) {
                    faults.push(format!("{place} {shape:?} {root:?}: {fault}"));
                }
            }
        }
    }
    fs::remove_dir_all("/tmp/tenant").unwrap();
    println!(
        "{REPORT}{} trees: {} refused, {} launched contained, {} verbs on them",
        count.trees, count.refused, count.launched, count.verbs
    );
    faults.into()
}

fn meet(root: &Root, place: &str, shape: Shape, count: &mut Count) -> Result<(), String> {
    let outside = [VICTIM, SHOWN];
    let before = Outside::look(&outside);
    let spec = spec(root.clone(), "exec sleep 60");
    let begun = Instant::now();
    let prepared: Prepared = prepared(&spec);
    let met = match launch(&spec, prepared, None) {
        Launch::Held(_) if is_refused(root, place, shape) => Err("it was launched".to_owned()),
        Launch::Held(held) => every_verb(*held).map(|verbs| {
            count.launched += 1;
            count.verbs += verbs;
        }),
        Launch::Refused(Error::Refused(Refused::MountPointMissing { name, .. }))
            if is_refused(root, place, shape) && name.starts_with(place) =>
        {
            count.refused += 1;
            Ok(())
        }
        Launch::Refused(error) | Launch::Failed(error) => Err(format!("{error:?}")),
    };
    if begun.elapsed() > PATIENCE {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    met?;
    let changes = before.changes(&Outside::look(&outside));
    if changes.is_empty() {
        Ok(())
    } else {
        Err(changes.join("; "))
    }
}
