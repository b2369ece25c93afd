//! The root file system and everything attached to it before the pivot.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use cloison_linux::host::attribute;
use nix::errno::Errno;

use crate::error::{Error, Found, Refused};
use crate::layers::landlock;
use crate::layers::own_root::{Overlay, open_own};
use crate::layers::tree::{CONFINED, Filling, Swap, Tmpfs, Tree, of_host};
use crate::plan::{Composition, MOUNTS_MAX};
use crate::posture::tenant_ranges;
use crate::spawner::io_errno;
use crate::spec::{Access, Mount, OwnAccess, Root, Spec};
use crate::tenant_path::TenantPath;

const READ_ONLY: u64 = CONFINED | attribute::READ_ONLY;

/// Where a merged `/usr` leaves links.
const LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Directories that every root has, made in ours and wanted of others.
pub(crate) const MOUNT_POINTS: [&str; 4] = ["proc", "dev", "tmp", "run"];

/// The root, and what it needs to be one.
pub(crate) struct Base {
    /// In the order of attachment.
    pub(crate) trees: Vec<Tree>,
    /// The layers over the first of them.
    pub(crate) overlay: Option<Overlay>,
    /// The ranges of ids that its entries should be shown with.
    pub(crate) ranges: BTreeSet<u32>,
}

/// Opens, or makes, the root.
pub(crate) fn base(composition: &Composition<'_>) -> Result<Base, Error> {
    match &composition.spec.root {
        Root::SharedBase => {
            let mut trees = Vec::with_capacity(8);
            shared_base(composition, &mut trees)?;
            Ok(Base {
                trees,
                overlay: None,
                ranges: BTreeSet::new(),
            })
        }
        Root::Directory { path, access } => {
            let failed = |errno| Error::host_path(path, errno);
            let root = of_host(path, "", *access)?;
            wants_mount_points(path, &[root.mount.as_fd()], &[], composition)?;
            let ranges =
                tenant_ranges(root.mount.as_fd(), &composition.covered()).map_err(failed)?;
            Ok(Base {
                trees: vec![root],
                overlay: None,
                ranges,
            })
        }
        Root::Own(own) => open_own(composition, own),
    }
}

/// The trees that the spec asks for.
pub(crate) fn mounts(composition: &Composition<'_>) -> Result<Vec<Tree>, Error> {
    let mounts = &composition.spec.mounts;
    let mut trees = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let target = inside(&mount.target)?;
        trees.push(of_host(&mount.source, &target, mount.access)?);
    }
    Ok(trees)
}

/// Where nothing may be mounted, or beneath: the sandbox has its own there.
const OURS_AND_BENEATH: [&str; 4] = ["proc", "sys", "dev", "run/credentials"];
/// Where nothing may be mounted, but beneath.
const OURS: [&str; 2] = ["tmp", "run"];

/// A target has no more parts: each may be a directory that is made for it.
const TARGET_PARTS_MAX: usize = 32;
/// No file system of Linux has longer names (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Refuses paths of the host that depend on where the caller is or that the
/// kernel would cut off, and what cannot be mounted.
pub(crate) fn check_paths(spec: &Spec) -> Result<(), Refused> {
    let sources = spec.mounts.iter().map(|mount| &mount.source);
    for path in sources.chain(paths_of_root(&spec.root)) {
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(Refused::Nul);
        }
        if !path.is_absolute() {
            return Err(Refused::HostPathNotAbsolute(path.clone()));
        }
    }
    check_targets(&spec.mounts)
}

fn paths_of_root(root: &Root) -> Vec<&PathBuf> {
    match root {
        Root::SharedBase => Vec::new(),
        Root::Directory { path, .. } => vec![path],
        Root::Own(own) => match &own.access {
            OwnAccess::DiskLayer { path } => vec![&own.path, path],
            OwnAccess::ReadOnly | OwnAccess::ReadWrite | OwnAccess::MemoryLayer { .. } => {
                vec![&own.path]
            }
        },
    }
}

/// Refuses what cannot be mounted, or would hide what the sandbox relies on.
fn check_targets(mounts: &[Mount]) -> Result<(), Refused> {
    let mut seen = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let target = inside(&mount.target)?;
        let is_beneath = |ours: &&str| Path::new(&target).starts_with(ours);
        if OURS.contains(&target.as_str()) || OURS_AND_BENEATH.iter().any(is_beneath) {
            return Err(Refused::MountOnOurs(mount.target.clone()));
        }
        if seen.contains(&target) {
            return Err(Refused::MountTwice(mount.target.clone()));
        }
        let above = Path::new(&target);
        if let Some(hidden) = seen.iter().find(|seen| Path::new(seen).starts_with(above)) {
            return Err(Refused::MountHidden {
                target: Path::new("/").join(hidden),
                hidden_by: mount.target.clone(),
            });
        }
        seen.push(target);
    }
    Ok(())
}

/// A path inside, without its leading slash.
///
/// It is taken apart by hand: [`Path::components`] passes over empty parts and
/// `.`, which the kernel and the read-back would see.
pub(crate) fn inside(path: &Path) -> Result<String, Refused> {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES_MAX && !part.contains('\0')
    };
    match path.to_str().and_then(|text| text.strip_prefix('/')) {
        Some(text)
            if text.split('/').all(is_plain) && text.split('/').count() <= TARGET_PARTS_MAX =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Refused::MountTarget(path.to_owned())),
    }
}

impl Composition<'_> {
    /// Names in the root on which something will be mounted.
    pub(crate) fn covered(&self) -> Vec<&str> {
        let asked = self.spec.mounts.iter();
        let names = asked.filter_map(|mount| mount.target.to_str()?.strip_prefix('/'));
        let sys = self.wants_sysfs().then_some("sys");
        MOUNT_POINTS.into_iter().chain(sys).chain(names).collect()
    }
}

/// Refuses a root that has not what is mounted on. `layers` are its trees, the
/// uppermost first; `made` are the names that are made before the launch. It makes for a better message, before anything is made: the
/// child opens each anew, beneath the root's descriptor.
pub(crate) fn wants_mount_points(
    path: &Path,
    layers: &[BorrowedFd<'_>],
    made: &[&str],
    composition: &Composition<'_>,
) -> Result<(), Error> {
    let sys = composition.wants_sysfs().then_some("sys");
    let names = MOUNT_POINTS.into_iter().chain(sys);
    for name in names.filter(|name| !made.contains(name)) {
        expect(path, layers, name, Found::Directory)?;
    }
    for mount in &composition.spec.mounts {
        let target = inside(&mount.target)?;
        // In a file system of ours, or in another mount, which is there by then.
        let others = composition.spec.mounts.iter();
        let is_in_another = others
            .filter(|other| other.target != mount.target)
            .any(|other| mount.target.starts_with(&other.target));
        if is_in_another || OURS.iter().any(|ours| Path::new(&target).starts_with(ours)) {
            continue;
        }
        let wanted = if mount.source.is_dir() {
            Found::Directory
        } else {
            Found::File
        };
        expect(path, layers, &target, wanted)?;
    }
    Ok(())
}

fn expect(path: &Path, layers: &[BorrowedFd<'_>], name: &str, wanted: Found) -> Result<(), Error> {
    let found = layers
        .iter()
        .map(|layer| TenantPath(name).look(*layer))
        .find(|found| *found != Found::Nothing)
        .unwrap_or(Found::Nothing);
    if found == wanted {
        return Ok(());
    }
    Err(Refused::MountPointMissing {
        root: path.to_owned(),
        name: name.to_owned(),
        found,
    }
    .into())
}

/// The host's `/usr` in a small root of our own.
fn shared_base(composition: &Composition<'_>, all: &mut Vec<Tree>) -> Result<(), Error> {
    let made = |errno| Error::prepare("tmpfs", errno);
    let root = Filling::new(&Tmpfs {
        bytes_max: 128 << 10,
        // Its own, and each part of each target.
        files_max: 256 + (MOUNTS_MAX * TARGET_PARTS_MAX) as u64,
        mode: c"755",
        owner: 0,
        attributes: CONFINED,
        swap: Swap::Allowed,
    })
    .map_err(made)?;
    for name in MOUNT_POINTS.into_iter().chain(["usr", "etc"]) {
        root.directory(name).map_err(made)?;
    }
    if composition.wants_sysfs() {
        root.directory("sys").map_err(made)?;
    }
    root.link("var", "run").map_err(made)?;
    for name in LINKS {
        let target = format!("usr/{name}");
        if links_to(Path::new(&format!("/{name}")), &target)? {
            root.link(name, &target).map_err(made)?;
        }
    }
    for (path, content) in etc(composition) {
        root.file(path, content.as_bytes()).map_err(made)?;
    }
    for mount in &composition.spec.mounts {
        let target = inside(&mount.target)?;
        let below = |name: &str| {
            target
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        if MOUNT_POINTS.into_iter().chain(["usr"]).any(below) {
            continue;
        }
        let is_file = mount.source.is_file();
        let point = match target.rsplit_once('/') {
            _ if !is_file => root.directory(&target),
            Some((above, _)) => root.directory(above).and_then(|()| root.file(&target, b"")),
            None => root.file(&target, b""),
        };
        match point {
            // A file of ours, over which that of the spec is mounted.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::prepare("a mount point in the root", errno)),
        }
    }
    let alternatives = Path::new("/etc/alternatives");
    let has_alternatives = is_directory(alternatives)?;
    if has_alternatives {
        root.directory("etc/alternatives").map_err(made)?;
    }
    let usr = Path::new("/usr");
    all.push(
        root.finish("", READ_ONLY, landlock::LIST_ONLY | landlock::READ_FILE)
            .map_err(made)?,
    );
    all.push(of_host(usr, "usr", Access::ReadOnly)?);
    if has_alternatives {
        all.push(of_host(alternatives, "etc/alternatives", Access::ReadOnly)?);
    }
    Ok(())
}

/// Whether a path of the host is a link to `target`: not where it is none, or
/// not there.
fn links_to(path: &Path, target: &str) -> Result<bool, Error> {
    match std::fs::read_link(path).map_err(|error| io_errno(&error)) {
        Ok(to) => Ok(to.ends_with(target)),
        Err(Errno::ENOENT | Errno::EINVAL) => Ok(false),
        Err(errno) => Err(Error::host_path(path, errno)),
    }
}

/// Whether a path of the host leads to a directory.
fn is_directory(path: &Path) -> Result<bool, Error> {
    match std::fs::metadata(path).map_err(|error| io_errno(&error)) {
        Ok(found) => Ok(found.is_dir()),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::host_path(path, errno)),
    }
}

/// The files of `/etc` that programs look for, with nothing of the host's.
fn etc(composition: &Composition<'_>) -> [(&'static str, String); 6] {
    let name = &composition.spec.name;
    let (user, group) = (composition.spec.user, composition.spec.group);
    let mut passwd = "root:x:0:0:root:/:/bin/sh\n".to_owned();
    let mut groups = "root:x:0:\ntty:x:5:\n".to_owned();
    if user != 0 {
        passwd.push_str(&format!("app:x:{user}:{group}:app:/:/bin/sh\n"));
    }
    if group != 0 && group != 5 {
        groups.push_str(&format!("app:x:{group}:\n"));
    }
    passwd.push_str("nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
    groups.push_str("nogroup:x:65534:\n");
    [
        ("etc/passwd", passwd),
        ("etc/group", groups),
        ("etc/hostname", format!("{name}\n")),
        (
            "etc/hosts",
            format!("127.0.0.1 localhost {name}\n::1 localhost {name}\n"),
        ),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
        ("etc/resolv.conf", String::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::{check_targets, inside};
    use crate::error::Refused;
    use crate::spec::{Access, Mount};
    use std::path::Path;

    fn mounts(targets: &[&str]) -> Vec<Mount> {
        let mount = |target: &&str| Mount {
            source: "/srv".into(),
            target: target.into(),
            access: Access::ReadOnly,
        };
        targets.iter().map(mount).collect()
    }

    #[test]
    fn nothing_is_mounted_on_what_is_the_sandboxs_own() {
        for target in [
            "/proc",
            "/proc/sys",
            "/dev/shm",
            "/run/credentials",
            "/tmp",
            "/run",
        ] {
            let refused = check_targets(&mounts(&["/data", target]));
            assert_eq!(refused, Err(Refused::MountOnOurs(target.into())));
        }
        let twice = check_targets(&mounts(&["/data", "/data"]));
        assert_eq!(twice, Err(Refused::MountTwice("/data".into())));
        let hidden = check_targets(&mounts(&["/data/x", "/data"]));
        assert_eq!(
            hidden,
            Err(Refused::MountHidden {
                target: "/data/x".into(),
                hidden_by: "/data".into()
            })
        );
        assert_eq!(check_targets(&mounts(&["/data", "/data/x"])), Ok(()));
        for target in ["/data", "/tmp/data", "/run/data", "/procs", "/etc/passwd"] {
            assert_eq!(check_targets(&mounts(&[target])), Ok(()));
        }
    }

    #[test]
    fn targets_stay_inside() {
        assert_eq!(inside(Path::new("/a/b")).ok().as_deref(), Some("a/b"));
        let long = format!("/{}", "a".repeat(256));
        let deep = "/a".repeat(33);
        for bad in [
            "", "/", "a", "/../a", "/a/../b", "/a/..", "//a", "/a//b", "/a/", "/./a", "/a/.",
            "/tmp/", "//proc", "/a\0", &long, &deep,
        ] {
            assert!(inside(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
