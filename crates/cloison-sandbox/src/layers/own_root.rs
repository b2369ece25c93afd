//! A tenant's own tree as a root: id-mapped, with a layer to write to or not.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cloison_linux::host::{self, Reach, attribute};
use cloison_linux::steps::Op;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, fchown};

use crate::error::{Error, Refused};
use crate::layers::landlock;
use crate::layers::root::{Base, MOUNT_POINTS, wants_mount_points};
use crate::layers::tree::{CONFINED, Filling, HOSTS_ALONE, Swap, Tmpfs, Tree, is_writable};
use crate::plan::Composition;
use crate::posture::{Field, tenant_ranges};
use crate::proc::mountinfo::file_system_of;
use crate::spawner::{errno, io_errno};
use crate::spec::{OwnAccess, OwnRoot};
use crate::steps::Slot;
use crate::tenant_path::{Opened, TenantPath};
use crate::{IdRange, Layer};

/// Where the layers stand while the overlay is mounted: names of ours in a
/// memory file system of ours. Beneath `state` a disk layer is the tenant's, but
/// no link of it is followed: its mount says so.
const LOWER: &str = "lower";
const STATE: &str = "state";
const UPPER: &str = "upper";
const WORK: &str = "work";

/// What every layer has.
const LAYER: u64 = CONFINED | attribute::NO_SYMFOLLOW;

/// The layers of a root, but for the lowest, which is the root's tree.
pub(crate) struct Overlay {
    scratch: OwnedFd,
    /// The disk layer.
    state: Option<OwnedFd>,
    /// The id that the overlay makes its own files with.
    file_id: u32,
}

/// A tree of the tenant's while it is opened.
struct OwnTree<'a> {
    /// The operator's path.
    path: &'a Path,
    /// A detached copy of the mount, still with the ids of the disk.
    mount: OwnedFd,
    status: FileStat,
}

impl<'a> OwnTree<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let failed = |errno| Error::host_path(path, errno);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = open(path, flags, Mode::empty()).map_err(failed)?;
        let mount = host::open_tree(Some(top.as_fd()), c"", Reach::One)
            .map_err(errno)
            .map_err(failed)?;
        let status = fstatat(&mount, c"", AtFlags::AT_EMPTY_PATH).map_err(failed)?;
        Ok(Self {
            path,
            mount,
            status,
        })
    }

    /// Refuses one whose directory is not the tenant's.
    fn belongs_to(&self, ids: IdRange) -> Result<(), Error> {
        if ids.contains(self.status.st_uid) && ids.contains(self.status.st_gid) {
            return Ok(());
        }
        Err(of_another(self.path, &self.status, ids))
    }

    /// Refuses one whose directory is neither the host's own nor the tenant's.
    fn is_hosts_or_of(&self, ids: IdRange) -> Result<(), Error> {
        if (self.status.st_uid, self.status.st_gid) == (0, 0) {
            return Ok(());
        }
        self.belongs_to(ids)
    }

    /// Refuses one that lies within the other, or around it.
    fn is_apart_from(&self, other: &OwnTree<'_>) -> Result<(), Error> {
        let whole = |tree: &OwnTree<'_>| {
            std::fs::canonicalize(tree.path)
                .map_err(|error| Error::host_path(tree.path, io_errno(&error)))
        };
        let same = |status: &FileStat| (status.st_dev, status.st_ino);
        let (ours, others) = (whole(self)?, whole(other)?);
        if ours.starts_with(&others)
            || others.starts_with(&ours)
            || same(&self.status) == same(&other.status)
        {
            return Err(Refused::LayerWithinTree {
                layer: self.path.to_owned(),
                tree: other.path.to_owned(),
            }
            .into());
        }
        Ok(())
    }

    /// Refuses one that the host does not write to, or on which it would honour
    /// a set-user-id file.
    fn takes_files(&self) -> Result<(), Error> {
        let flags = fstatvfs(&self.mount)
            .map_err(|errno| Error::host_path(self.path, errno))?
            .flags();
        is_writable(self.path, flags)?;
        if flags.contains(FsFlags::ST_NOSUID) {
            Ok(())
        } else {
            Err(Refused::HostHonoursSetuid(self.path.to_owned()).into())
        }
    }

    /// The mount with the sandbox's ids.
    fn mapped(self, composition: &Composition<'_>, attributes: u64) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::host_path(self.path, errno);
        let set = |attributes: u64, mapping| {
            let clear = HOSTS_ALONE & !attributes;
            host::set_mount_attributes(self.mount.as_fd(), attributes, clear, mapping, Reach::One)
                .map_err(errno)
        };
        set(attributes, None).map_err(failed)?;
        if composition.breaks(Field::RootIds) {
            return Ok(self.mount);
        }
        let mapping = composition
            .prepared
            .tree_ids()
            .ok_or(Refused::OtherDiskIds)?;
        match set(attribute::IDMAP, Some(mapping.as_fd())) {
            Ok(()) => Ok(self.mount),
            // Nothing else of the request could be refused so.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Err(not_mappable(self.path)),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// The error for a directory that is not the tenant's.
fn of_another(path: &Path, status: &FileStat, ids: IdRange) -> Error {
    Refused::TreeOwner {
        path: path.to_owned(),
        user: status.st_uid,
        group: status.st_gid,
        first: ids.first(),
    }
    .into()
}

/// Since when file systems can be id-mapped.
///
/// # Source
/// mount_setattr(2)
const MAPPABLE_SINCE: [(&str, &str); 11] = [
    ("ext4", "5.12"),
    ("vfat", "5.12"),
    ("xfs", "5.12"),
    ("btrfs", "5.15"),
    ("ntfs3", "5.15"),
    ("f2fs", "5.18"),
    ("erofs", "5.19"),
    ("squashfs", "6.2"),
    ("tmpfs", "6.3"),
    ("ceph", "6.7"),
    ("hugetlbfs", "6.9"),
];

fn not_mappable(path: &Path) -> Error {
    let file_system = file_system_of(path).unwrap_or_else(|| "its file system".to_owned());
    let since = MAPPABLE_SINCE
        .into_iter()
        .find_map(|(name, since)| (name == file_system).then_some(since));
    Error::NotMappable {
        path: path.to_owned(),
        file_system,
        since,
    }
}

/// The root of a tenant's own tree.
pub(crate) fn open_own(composition: &Composition<'_>, own: &OwnRoot) -> Result<Base, Error> {
    let tree = OwnTree::open(&own.path)?;
    tree.belongs_to(own.disk_ids)?;
    let covered = composition.covered();
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |errno| Error::HostPath { path, errno }
    };
    let mut found = tenant_ranges(tree.mount.as_fd(), &covered).map_err(unreadable(&own.path))?;
    let (overlay, attributes, access) = match &own.access {
        OwnAccess::ReadOnly => {
            wants_mount_points(&own.path, &[tree.mount.as_fd()], &[], composition)?;
            (None, CONFINED | attribute::READ_ONLY, landlock::READ_TREE)
        }
        OwnAccess::ReadWrite => {
            wants_mount_points(&own.path, &[tree.mount.as_fd()], &[], composition)?;
            tree.takes_files()?;
            (None, CONFINED, landlock::WRITE_TREE)
        }
        OwnAccess::MemoryLayer {
            bytes_max,
            files_max,
        } => {
            let scratch = memory_layer(composition, &tree, *bytes_max, *files_max)
                .map_err(|errno| Error::prepare("the memory layer of the root", errno))?;
            let upper = TenantPath("state/upper")
                .open(scratch.as_fd(), Opened::Named)
                .map_err(|errno| Error::prepare("the memory layer of the root", errno))?;
            let layers = [upper.as_fd(), tree.mount.as_fd()];
            wants_mount_points(&own.path, &layers, &[], composition)?;
            let overlay = Overlay {
                scratch,
                state: None,
                file_id: 0,
            };
            (Some(overlay), LAYER | attribute::READ_ONLY, 0)
        }
        OwnAccess::DiskLayer { path } => {
            let state = OwnTree::open(path)?;
            state.takes_files()?;
            state.is_apart_from(&tree)?;
            state.is_hosts_or_of(own.disk_ids)?;
            let upper = found_upper(&state, own.disk_ids)?;
            let layers = upper.iter().chain([&tree.mount]).map(AsFd::as_fd);
            let layers: Vec<BorrowedFd<'_>> = layers.collect();
            // A new one has them.
            let made: &[&str] = if upper.is_none() { &MOUNT_POINTS } else { &[] };
            wants_mount_points(&own.path, &layers, made, composition)?;
            // Nothing was made before this.
            let upper = made_upper(&state, upper, &tree, own.disk_ids)?;
            found.extend(tenant_ranges(upper.as_fd(), &covered).map_err(unreadable(path))?);
            let scratch = places(16 << 10, 16, &[LOWER, STATE])
                .map_err(|errno| Error::prepare("the places of the root's layers", errno))?
                .into_mount();
            let overlay = Overlay {
                scratch,
                state: Some(state.mapped(composition, LAYER)?),
                file_id: composition.ids.first(),
            };
            (Some(overlay), LAYER | attribute::READ_ONLY, 0)
        }
    };
    let mount = tree.mapped(composition, attributes)?;
    let root = if overlay.is_some() {
        Tree {
            mount,
            target: String::new(),
            file_system: "overlay",
            attributes: CONFINED,
            access,
        }
    } else {
        Tree {
            mount,
            target: String::new(),
            file_system: "",
            attributes: attributes | attribute::IDMAP,
            access,
        }
    };
    Ok(Base {
        trees: vec![root],
        overlay,
        // What is of no tenant is shown as nobody's.
        ranges: found
            .into_iter()
            .filter(|range| *range == own.disk_ids.first())
            .map(|_| composition.ids.first())
            .collect::<BTreeSet<u32>>(),
    })
}

/// A memory file system with the places of the layers.
fn places(bytes_max: u64, files_max: u64, names: &[&str]) -> Result<Filling, Errno> {
    let scratch = Filling::new(&Tmpfs {
        bytes_max,
        files_max,
        mode: c"755",
        owner: 0,
        attributes: CONFINED,
        swap: Swap::Allowed,
    })?;
    for name in names {
        scratch.directory(name)?;
    }
    Ok(scratch)
}

/// The places of the layers, the uppermost one in memory. It has the mount
/// points: whatever the tenant's tree has in their places is covered.
fn memory_layer(
    composition: &Composition<'_>,
    tree: &OwnTree<'_>,
    bytes_max: u64,
    files_max: u64,
) -> Result<OwnedFd, Errno> {
    let scratch = places(bytes_max, files_max, &[LOWER, "state/upper", "state/work"])?;
    let ids = composition.ids;
    // Memory carries the sandbox's ids: only a disk is mapped.
    let inside = |id: u32| ids.first() + id % IdRange::COUNT;
    let status = &tree.status;
    let owner = (inside(status.st_uid), inside(status.st_gid));
    scratch.give("state/upper", owner, status.st_mode & 0o7777)?;
    let sys = composition.wants_sysfs().then_some("sys");
    for name in MOUNT_POINTS.into_iter().chain(sys) {
        let path = format!("state/upper/{name}");
        scratch.directory(&path)?;
        scratch.give(&path, (ids.first(), ids.first()), 0o755)?;
    }
    Ok(scratch.into_mount())
}

/// The uppermost layer that a directory of the disk has.
fn found_upper(state: &OwnTree<'_>, ids: IdRange) -> Result<Option<OwnedFd>, Error> {
    let failed = |errno| Error::host_path(state.path, errno);
    let upper = match TenantPath(UPPER).open(state.mount.as_fd(), Opened::Directory) {
        Err(Errno::ENOENT) => return Ok(None),
        upper => upper.map_err(failed)?,
    };
    let status = fstat(&upper).map_err(failed)?;
    if ids.contains(status.st_uid) && ids.contains(status.st_gid) {
        Ok(Some(upper))
    } else {
        Err(of_another(&state.path.join(UPPER), &status, ids))
    }
}

/// What was found, or a new one; and beside it the directory that the kernel
/// works in.
fn made_upper(
    state: &OwnTree<'_>,
    found: Option<OwnedFd>,
    tree: &OwnTree<'_>,
    ids: IdRange,
) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::host_path(state.path, errno);
    let at = state.mount.as_fd();
    let root = (ids.first(), ids.first());
    owned_directory(at, WORK, root, 0o700).map_err(failed)?;
    match found {
        Some(upper) => Ok(upper),
        None => new_upper(at, tree, root).map_err(failed),
    }
}

/// It gets its name when it is whole: who is interrupted finds it at the next
/// start and goes on.
fn new_upper(at: BorrowedFd<'_>, tree: &OwnTree<'_>, root: (u32, u32)) -> Result<OwnedFd, Errno> {
    const UNFINISHED: &str = "upper.new";
    let status = &tree.status;
    let owner = (status.st_uid, status.st_gid);
    let upper = owned_directory(at, UNFINISHED, owner, status.st_mode & 0o7777)?;
    for name in MOUNT_POINTS {
        owned_directory(upper.as_fd(), name, root, 0o755)?;
    }
    nix::fcntl::renameat(at, UNFINISHED, at, UPPER)?;
    Ok(upper)
}

/// A directory beneath `at`, made if it is not there, with its owner and mode.
fn owned_directory(
    at: BorrowedFd<'_>,
    name: &str,
    (user, group): (u32, u32),
    mode: u32,
) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let directory = TenantPath(name).open(at, Opened::Directory)?;
    fchown(
        &directory,
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(group)),
    )?;
    fchmod(&directory, Mode::from_bits_truncate(mode))?;
    Ok(directory)
}

/// Mounts the overlay in the place of its lowest layer's mount.
pub(crate) fn mount_overlay(composition: &mut Composition<'_>, overlay: Overlay, lower: Slot) {
    let layer = Layer::MountNamespace;
    let list = &mut composition.list;
    let scratch = list.own(overlay.scratch);
    list.push(layer, Op::StageLayers, [scratch.into()]);
    let at = list.text(LOWER);
    list.push(layer, Op::Attach, [lower.into(), at.into()]);
    if let Some(state) = overlay.state {
        let state = list.own(state);
        let at = list.text(STATE);
        list.push(layer, Op::Attach, [state.into(), at.into()]);
    }
    // What a host has set for all overlays does not count. Without an index
    // nothing stops a second overlay with the same disk layer.
    let options = list.list([
        "lowerdir",
        LOWER,
        "upperdir",
        "state/upper",
        "workdir",
        "state/work",
        "redirect_dir",
        "nofollow",
        "metacopy",
        "off",
        "xino",
        "off",
        "index",
        if overlay.file_id == 0 { "off" } else { "on" },
    ]);
    list.push(
        layer,
        Op::MountOverlay,
        [
            lower.into(),
            options.into(),
            CONFINED.into(),
            u64::from(overlay.file_id).into(),
        ],
    );
}
