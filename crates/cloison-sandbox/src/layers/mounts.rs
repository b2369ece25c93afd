//! The mount namespace: trees attached with the host's rights, proc, sysfs,
//! devices and devpts, then pivot and copy.
//!
//! What the host attached in its own namespace is locked in the copy that
//! the tenant's namespace gets: its flags cannot be cleared and it cannot be
//! taken off, not even by a root with all capabilities.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use cloison_linux::host::{self, Reach, attribute};
use cloison_linux::steps::Op;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::Layer;
use crate::layers::covers::{self, Covers};
use crate::layers::landlock;
use crate::layers::late::PLACES;
use crate::layers::own_root::{Overlay, mount_overlay};
use crate::layers::tree::{Filling, NO_EXEC, Swap, Tmpfs, Tree};
use crate::plan::Composition;
use crate::spawner::errno;
use crate::spec::{Proc, Sysfs};
use crate::steps::Slot;

/// The six nodes, by name and number.
pub(crate) const NODES: [(&str, (u64, u64)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// A mount that the sandbox should have, for its posture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) target: String,
    pub(crate) file_system: &'static str,
    pub(crate) attributes: u64,
    /// The device of the file system, where it is known beforehand.
    pub(crate) device: Option<u64>,
}

/// The `/dev` of one server: its own inodes, so that no lock and no time
/// stamp passes to another. It is read-only, and the same at each restart.
#[derive(Debug)]
pub(crate) struct Devices {
    mount: OwnedFd,
}

impl Devices {
    const ATTRIBUTES: u64 = attribute::NO_SUID | attribute::NO_EXEC | attribute::READ_ONLY;

    /// Makes one.
    pub(crate) fn make() -> Result<Self, Errno> {
        let dev = Filling::new(&Tmpfs {
            bytes_max: 16 << 10,
            files_max: 32,
            mode: c"755",
            owner: 0,
            attributes: Self::ATTRIBUTES & !attribute::READ_ONLY,
            swap: Swap::Allowed,
        })?;
        for (name, number) in NODES {
            dev.device(name, number)?;
        }
        dev.directory("pts")?;
        dev.directory("shm")?;
        for (name, to) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            dev.link(name, to)?;
        }
        let mount = dev.into_mount();
        host::set_mount_attributes(mount.as_fd(), attribute::READ_ONLY, 0, None, Reach::One)
            .map_err(errno)?;
        Ok(Self { mount })
    }

    /// A mount of it for one launch.
    pub(crate) fn tree(&self) -> Result<Tree, Errno> {
        let mount = match host::open_tree(Some(self.mount.as_fd()), c"", Reach::One).map_err(errno)
        {
            // Before 6.15 a mount that stands nowhere has no second one.
            Err(Errno::EINVAL) => Self::make()?.mount,
            mount => mount?,
        };
        Ok(Tree {
            mount,
            target: "dev".to_owned(),
            file_system: "tmpfs",
            attributes: Self::ATTRIBUTES,
            access: landlock::DEVICES,
        })
    }
}

/// A devpts of its own. Its `uid` and `gid` are the host's ids.
pub(crate) fn devpts(composition: &Composition<'_>) -> Result<Tree, Errno> {
    let text = |value: u32| CString::new(value.to_string()).unwrap_or_default();
    let spec = composition.spec;
    let user = text(composition.ids.host_id(spec.user));
    let terminals = text(spec.limits.terminals_max);
    let group = text(composition.ids.host_id(5));
    let attributes = attribute::NO_SUID | attribute::NO_EXEC;
    let mount = host::new_mount(
        c"devpts",
        &[
            (c"mode", Some(c"620")),
            (c"ptmxmode", Some(c"666")),
            (c"uid", Some(&user)),
            (c"gid", Some(&group)),
            (c"max", Some(&terminals)),
        ],
        attributes,
    )
    .map_err(errno)?;
    Ok(Tree {
        mount,
        target: "dev/pts".to_owned(),
        file_system: "devpts",
        attributes,
        access: landlock::DEVICES,
    })
}

/// Opens a terminal of that devpts: our side and the sandbox's.
pub(crate) fn open_terminal(devpts: &Tree) -> Result<(OwnedFd, OwnedFd), Errno> {
    open_peer(&devpts.mount)
}

/// Opens a terminal of the devpts at `mount`: our side and the other.
pub(crate) fn open_peer(mount: &OwnedFd) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ours = openat(mount, "ptmx", flags, Mode::empty())?;
    let theirs = host::open_terminal_peer(ours.as_fd()).map_err(errno)?;
    Ok((ours, theirs))
}

/// The trees of a sandbox, in the order of attachment.
pub(crate) struct Trees {
    /// The root, `/dev`, `/dev/pts`.
    pub(crate) base: Vec<Tree>,
    /// The layers over the first of them.
    pub(crate) overlay: Option<Overlay>,
    /// What keeps the places of those that come late.
    pub(crate) keepers: [OwnedFd; PLACES.len()],
    /// `/run/credentials`, writable until the child shares it.
    pub(crate) credentials: Tree,
    /// Those of the spec.
    pub(crate) asked: Vec<Tree>,
    /// What covers proc.
    pub(crate) covers: Option<Covers>,
}

/// Attaches the trees; mounts proc and sysfs.
pub(crate) fn attach(composition: &mut Composition<'_>, trees: Trees) {
    let layer = Layer::MountNamespace;
    composition.list.push(layer, Op::MakePrivate, []);
    let (shared, attached) = described(trees.credentials);
    let shared = composition.list.own(shared);
    composition.list.push(layer, Op::Share, [shared.into()]);
    let mut overlay = trees.overlay;
    for tree in trees.base {
        let (mount, attached) = described(tree);
        let slot = composition.list.own(mount);
        if let Some(overlay) = overlay.take() {
            mount_overlay(composition, overlay, slot);
        }
        attach_slot(composition, slot, attached);
    }
    let slots = trees.keepers.map(|keeper| composition.list.own(keeper));
    composition
        .list
        .push(None, Op::Receive, slots.map(Into::into));
    for (slot, place) in slots.into_iter().zip(PLACES) {
        let attached = Attached {
            target: format!("/{}", place.target),
            file_system: "tmpfs",
            attributes: place.attributes,
            device: None,
        };
        attach_slot(composition, slot, attached);
    }
    attach_slot(composition, shared, attached);
    for tree in trees.asked {
        let (mount, attached) = described(tree);
        let slot = composition.list.own(mount);
        let target = attached.target.trim_start_matches('/');
        composition.list.note_asked(slot, target);
        attach_slot(composition, slot, attached);
    }
    proc(composition);
    if let Some(covers) = trees.covers {
        covers::steps(composition, covers);
    }
    if composition.wants_sysfs() {
        sysfs(composition);
    }
}

/// A tree's mount, and what it should be once it is attached.
fn described(tree: Tree) -> (OwnedFd, Attached) {
    let attached = Attached {
        target: format!("/{}", tree.target),
        file_system: tree.file_system,
        attributes: tree.attributes,
        device: None,
    };
    (tree.mount, attached)
}

fn attach_slot(composition: &mut Composition<'_>, slot: Slot, attached: Attached) {
    let target = attached.target.trim_start_matches('/');
    let layer = match target {
        "dev/pts" => Layer::Devpts,
        "dev" | "dev/shm" => Layer::Devices,
        _ => Layer::MountNamespace,
    };
    let path = composition.list.text(target);
    if target.is_empty() {
        composition.list.push(layer, Op::AttachRoot, [slot.into()]);
    } else if composition.attaches_late(target) {
        composition.late.push((slot, path));
    } else {
        composition
            .list
            .push(layer, Op::Attach, [slot.into(), path.into()]);
    }
    composition.mounts.push(attached);
}

fn proc(composition: &mut Composition<'_>) {
    let options: &[&str] = match composition.spec.proc {
        _ if !composition.applies(Layer::Proc) => &[],
        Proc::Pid => &["subset", "pid", "hidepid", "invisible"],
        Proc::Covered => &["hidepid", "invisible"],
    };
    mount_new(composition, (Layer::Proc, "proc", "proc"), options, 1);
}

fn sysfs(composition: &mut Composition<'_>) {
    mount_new(composition, (Layer::Sysfs, "sysfs", "sys"), &[], 0);
}

fn mount_new(
    composition: &mut Composition<'_>,
    (layer, kind, target): (Layer, &'static str, &str),
    options: &[&str],
    remember: u64,
) {
    let attributes = if layer == Layer::Sysfs {
        NO_EXEC | attribute::READ_ONLY
    } else {
        NO_EXEC
    };
    composition.mounts.push(Attached {
        target: format!("/{target}"),
        file_system: kind,
        attributes,
        device: None,
    });
    let list = &mut composition.list;
    let kind = list.text(kind);
    let target = list.text(target);
    let options = list.list(options);
    list.push(
        layer,
        Op::MountNew,
        [
            kind.into(),
            target.into(),
            options.into(),
            attributes.into(),
            remember.into(),
        ],
    );
}

/// Makes the new root the root and lets go of the old one.
pub(crate) fn pivot(composition: &mut Composition<'_>) {
    let layer = Layer::MountNamespace;
    composition.list.push(layer, Op::PivotRoot, []);
    composition.list.push(layer, Op::DetachOldRoot, []);
    composition.list.push(layer, Op::EnterRoot, []);
}

/// Attaches what a weakened plan attaches only after the copy.
pub(crate) fn attach_late(composition: &mut Composition<'_>) {
    let late = std::mem::take(&mut composition.late);
    if late.is_empty() {
        return;
    }
    composition
        .list
        .push(Layer::MountNamespace, Op::EnterRoot, []);
    for (slot, path) in late {
        composition.list.push(
            Layer::MountNamespace,
            Op::Attach,
            [slot.into(), path.into()],
        );
    }
}

impl Composition<'_> {
    /// Whether a sysfs is mounted.
    pub(crate) fn wants_sysfs(&self) -> bool {
        self.spec.sysfs == Sysfs::ReadOnly
    }
}
