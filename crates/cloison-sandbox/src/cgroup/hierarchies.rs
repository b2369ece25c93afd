//! Which cgroup hierarchies a host has, and where the caller is in each.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use cloison_linux::host;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{AccessFlags, Pid, faccessat};
use serde::{Deserialize, Serialize};

use super::{CgroupError, CgroupStep};
use crate::proc::fields::{lines, words};
use crate::proc::mountinfo::{MountLine, mounts, options, unescaped};
use crate::proc::{Reader, escaped, unescaped as plain};

/// Where systemd shows that it runs.
///
/// # Source
/// sd_booted(3)
const SYSTEMD: &str = "/run/systemd/system";

/// One cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Hierarchy {
    /// One of version 1, by the list of its controllers or by its name, as
    /// `/proc/PID/cgroup` shows it: `cpu,cpuacct` or `name=systemd`.
    V1(String),
    /// The one of version 2.
    V2,
}

impl Hierarchy {
    /// Whether `controller` is bound to this hierarchy of version 1.
    #[must_use]
    pub fn has_controller(&self, controller: &str) -> bool {
        match self {
            Self::V1(list) => list.split(',').any(|bound| bound == controller),
            Self::V2 => false,
        }
    }

    fn named(list: &[u8]) -> Self {
        if list.is_empty() {
            Self::V2
        } else {
            Self::V1(escaped(list))
        }
    }

    fn is_mounted_by(&self, mount: &MountLine<'_>) -> bool {
        match self {
            Self::V2 => mount.fs_type == b"cgroup2",
            Self::V1(list) => {
                mount.fs_type == b"cgroup"
                    && list.split(',').all(|wanted| {
                        options(mount.super_options).any(|option| escaped(option) == wanted)
                    })
            }
        }
    }
}

impl From<String> for Hierarchy {
    fn from(name: String) -> Self {
        match name.as_str() {
            "v2" => Self::V2,
            _ => Self::V1(name),
        }
    }
}

impl From<Hierarchy> for String {
    fn from(hierarchy: Hierarchy) -> Self {
        match hierarchy {
            Hierarchy::V1(list) => list,
            Hierarchy::V2 => "v2".to_owned(),
        }
    }
}

impl std::fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V1(list) => f.write_str(list),
            Self::V2 => f.write_str("v2"),
        }
    }
}

/// The cgroup hierarchies of this host, each with the cgroup beneath which
/// those of sandboxes are made, as it was when they were found: the caller's
/// own, and where version 2 has to hand controllers on, the one above it.
///
/// A cgroup of version 2 that holds processes hands no controller on, unless
/// it is the root. So the caller runs in a leaf of a cgroup that was delegated
/// to it.
#[derive(Debug)]
pub struct Hierarchies {
    mounted: Vec<Mounted>,
}

/// A hierarchy with the caller's own cgroup, opened.
#[derive(Debug)]
pub(super) struct Mounted {
    hierarchy: Hierarchy,
    own: OwnedFd,
    own_path: Vec<u8>,
    /// What it has to hand on, as far as it has it.
    controllers: Vec<&'static str>,
}

/// The controllers that keep limits: what version 1 and version 2 call them.
const CONTROLLERS: [(&str, &str); 5] = [
    ("memory", "memory"),
    ("pids", "pids"),
    ("cpu", "cpu"),
    ("cpuset", "cpuset"),
    ("blkio", "io"),
];

/// The leaf of a program that went there by itself.
const LEAF: &CStr = c"cloison-caller";

/// By which systemd says that it leaves a cgroup alone.
const DELEGATED: [&CStr; 2] = [c"trusted.delegate", c"user.delegate"];

impl Hierarchies {
    /// Finds every hierarchy of the host.
    ///
    /// # Errors
    /// [`CgroupError::NoHierarchy`]; [`CgroupError::NotVisible`] if one
    /// exists that no mount shows, since a sandbox could not be placed in it;
    /// [`CgroupError::Proc`] and [`CgroupError::Malformed`].
    ///
    /// # Source
    /// cgroups(7), cgroup_namespaces(7)
    pub fn find() -> Result<Self, CgroupError> {
        let process = own_process()?;
        let mut reader = Reader::new();
        let own: Vec<(Hierarchy, Vec<u8>)> = entries(
            reader
                .read(&process, c"cgroup")
                .map_err(|source| proc_error("/proc/self/cgroup", source))?,
        )
        .map(|entry| entry.map(|(hierarchy, path)| (hierarchy, path.to_vec())))
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("/proc/self/cgroup"))?;
        let text = mountinfo(&mut reader, &process)?;
        let mut mounted = own
            .into_iter()
            .map(|(hierarchy, path)| Mounted::find(hierarchy, path, text))
            .collect::<Result<Vec<_>, _>>()?;
        if mounted.is_empty() {
            return Err(CgroupError::NoHierarchy);
        }
        let bound = |(v1, v2): (&str, &'static str)| {
            let mut hierarchies = mounted.iter().map(Mounted::hierarchy);
            (!hierarchies.any(|hierarchy| hierarchy.has_controller(v1))).then_some(v2)
        };
        let unbound: Vec<&'static str> = CONTROLLERS.into_iter().filter_map(bound).collect();
        let v2 = mounted.iter_mut().find(|m| m.hierarchy == Hierarchy::V2);
        if let (Some(v2), false) = (v2, unbound.is_empty()) {
            v2.climb(unbound)?;
        }
        Ok(Self { mounted })
    }

    /// Goes into a leaf of the caller's own cgroup of version 2, so that this can
    /// hand its controllers on: where version 2 has to, the cgroup was delegated
    /// to the caller by systemd, and nobody else is in it. Everywhere else it
    /// does nothing, and what a launch then lacks it says itself.
    ///
    /// For a program that systemd started by itself (`Delegate=yes`, a service
    /// or a scope); call it before anything else starts a process. The leaf goes
    /// with the unit.
    ///
    /// # Errors
    /// As [`Hierarchies::find`], and [`CgroupError::Step`].
    ///
    /// # Source
    /// systemd's documentation "Control Group APIs and Delegation"
    pub fn enter_leaf() -> Result<(), CgroupError> {
        let process = own_process()?;
        let mut reader = Reader::new();
        let text = reader.read(&process, c"cgroup");
        let text = text.map_err(|source| proc_error("/proc/self/cgroup", source))?;
        let own = memberships(text).ok_or_else(|| malformed("/proc/self/cgroup"))?;
        let is_bound = |(v1, _): &(&str, &str)| own.keys().any(|h| h.has_controller(v1));
        if CONTROLLERS.iter().all(is_bound) {
            return Ok(());
        }
        let own = own
            .into_iter()
            .filter(|(hierarchy, _)| *hierarchy == Hierarchy::V2);
        for (hierarchy, directory) in opened(&own.collect())? {
            let failed = |step| {
                let hierarchy = hierarchy.clone();
                move |source| CgroupError::Step {
                    step,
                    hierarchy,
                    path: "of this program".to_owned(),
                    source,
                }
            };
            let is_delegated = DELEGATED
                .into_iter()
                .any(|name| host::attribute_is(directory.as_fd(), name, b"1") == Ok(true));
            let inside = super::placement::read(directory.as_fd(), c"cgroup.procs");
            let inside = inside.map_err(failed(CgroupStep::Read))?;
            let alone = std::process::id().to_string();
            if !is_delegated || lines(&inside).any(|pid| pid != alone.as_bytes()) {
                continue;
            }
            match mkdirat(&directory, LEAF, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed(CgroupStep::Make)(errno)),
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let leaf = openat(&directory, LEAF, flags, Mode::empty());
            let leaf = leaf.map_err(failed(CgroupStep::Open))?;
            super::placement::write(leaf.as_fd(), c"cgroup.procs", b"0")
                .map_err(failed(CgroupStep::Make))?;
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mounted.len()
    }

    /// Whether there is none: never, since [`Hierarchies::find`] refuses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mounted.is_empty()
    }

    /// Each hierarchy with the path of the cgroup beneath which sandboxes'
    /// own are made.
    pub fn iter(&self) -> impl Iterator<Item = (&Hierarchy, String)> {
        self.mounted
            .iter()
            .map(|mounted| (&mounted.hierarchy, escaped(&mounted.own_path)))
    }

    /// The caller's own cgroup in the first hierarchy.
    pub(crate) fn first_directory(&self) -> Option<BorrowedFd<'_>> {
        self.mounted.first().map(Mounted::own)
    }

    pub(super) fn mounted(&self) -> impl Iterator<Item = &Mounted> {
        self.mounted.iter()
    }
}

impl Mounted {
    /// Opens the caller's own cgroup, `own_path`, through the first mount of
    /// `mountinfo` that shows it.
    fn find(
        hierarchy: Hierarchy,
        own_path: Vec<u8>,
        mountinfo: &[u8],
    ) -> Result<Self, CgroupError> {
        let path = escaped(&own_path);
        Self::find_if_there(hierarchy.clone(), own_path, mountinfo)?
            .ok_or(CgroupError::NotVisible { hierarchy, path })
    }

    /// The same of any cgroup; `None` where a mount would show it and it is
    /// not there.
    fn find_if_there(
        hierarchy: Hierarchy,
        own_path: Vec<u8>,
        mountinfo: &[u8],
    ) -> Result<Option<Self>, CgroupError> {
        let mut is_gone = false;
        let mut refused = None;
        for mount in mounts(mountinfo) {
            let mount = mount.ok_or_else(|| malformed("/proc/self/mountinfo"))?;
            if !hierarchy.is_mounted_by(&mount) {
                continue;
            }
            let Some(beneath) = beneath(&unescaped(mount.root), &own_path).map(<[u8]>::to_vec)
            else {
                continue;
            };
            match open_own(&mount, &beneath) {
                Ok(own) => {
                    return Ok(Some(Self {
                        hierarchy,
                        own,
                        own_path,
                        controllers: Vec::new(),
                    }));
                }
                Err(Errno::ENOENT) => is_gone = true,
                Err(errno) => refused = Some(errno),
            }
        }
        if let Some(source) = refused {
            return Err(CgroupError::Step {
                step: CgroupStep::Open,
                path: escaped(&own_path),
                hierarchy,
                source,
            });
        }
        if is_gone {
            return Ok(None);
        }
        Err(CgroupError::NotVisible {
            hierarchy,
            path: escaped(&own_path),
        })
    }

    pub(super) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Goes to the cgroup that can hand `controllers` on: the one above,
    /// unless this is the root of the hierarchy, or of what can be seen.
    fn climb(&mut self, controllers: Vec<&'static str>) -> Result<(), CgroupError> {
        self.controllers = controllers;
        let is_root = match faccessat(
            &self.own,
            c"cgroup.type",
            AccessFlags::F_OK,
            AtFlags::empty(),
        ) {
            Ok(()) => false,
            Err(Errno::ENOENT) => true,
            Err(source) => return Err(self.failed(CgroupStep::Open, source)),
        };
        let cut = self.own_path.iter().rposition(|byte| *byte == b'/');
        let (false, Some(cut)) = (is_root || self.own_path == b"/", cut) else {
            return Ok(());
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let above = openat(&self.own, c"..", flags, Mode::empty());
        let above = above.map_err(|source| self.failed(CgroupStep::Open, source))?;
        let devices = (fstat(&above), fstat(&self.own));
        if let (Ok(above), Ok(own)) = devices
            && above.st_dev != own.st_dev
        {
            // The mount shows no more.
            return Ok(());
        }
        self.own = above;
        self.own_path.truncate(cut.max(1));
        Ok(())
    }

    /// Has the cgroup hand on what it has of the controllers that limits need.
    ///
    /// # Kernel
    /// cgroup v2: `EBUSY` where it holds processes and is not the root.
    pub(super) fn hand_on(&self) -> Result<(), CgroupError> {
        if self.controllers.is_empty() {
            return Ok(());
        }
        let not_delegated = || CgroupError::NotDelegated {
            path: escaped(&self.own_path),
        };
        // Also one that hands all of them on already: what is made in it would
        // be in the way of whoever decides over it.
        if !self.is_left_alone() {
            return Err(not_delegated());
        }
        let named = |file| {
            let text = super::placement::read(self.own(), file);
            text.map_err(|source| self.failed(CgroupStep::HandOn, source))
        };
        let (there, on) = (
            named(c"cgroup.controllers")?,
            named(c"cgroup.subtree_control")?,
        );
        let has = |text: &[u8], name: &str| {
            words(text.trim_ascii_end()).any(|word| word == name.as_bytes())
        };
        let missing = self
            .controllers
            .iter()
            .filter(|name| has(&there, name) && !has(&on, name));
        for name in missing {
            let text = format!("+{name}");
            let written =
                super::placement::write(self.own(), c"cgroup.subtree_control", text.as_bytes());
            written.map_err(|source| match source {
                Errno::EBUSY => not_delegated(),
                source => self.failed(CgroupStep::HandOn, source),
            })?;
        }
        Ok(())
    }

    /// Whether nobody else decides over this cgroup: where systemd runs, it
    /// says so of what it delegated.
    fn is_left_alone(&self) -> bool {
        let is_root = faccessat(
            &self.own,
            c"cgroup.type",
            AccessFlags::F_OK,
            AtFlags::empty(),
        ) == Err(Errno::ENOENT);
        if is_root || !std::path::Path::new(SYSTEMD).is_dir() {
            return true;
        }
        DELEGATED
            .into_iter()
            .any(|name| host::attribute_is(self.own(), name, b"1") == Ok(true))
    }

    fn failed(&self, step: CgroupStep, source: Errno) -> CgroupError {
        CgroupError::Step {
            step,
            hierarchy: self.hierarchy.clone(),
            path: escaped(&self.own_path),
            source,
        }
    }

    pub(super) fn own(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    pub(super) fn own_path(&self) -> &[u8] {
        &self.own_path
    }
}

/// The cgroups that hold those `noted`, opened; `parent` gives the path of
/// one. What is gone is left out.
pub(super) fn parents_of(
    noted: &BTreeMap<Hierarchy, String>,
    parent: impl Fn(&Hierarchy, &str) -> Result<Vec<u8>, CgroupError>,
) -> Result<Vec<Mounted>, CgroupError> {
    let mut reader = Reader::new();
    let text = mountinfo(&mut reader, &own_process()?)?;
    let mut opened = Vec::with_capacity(noted.len());
    for (hierarchy, path) in noted {
        let parent = parent(hierarchy, path)?;
        opened.extend(Mounted::find_if_there(hierarchy.clone(), parent, text)?);
    }
    Ok(opened)
}

/// The directories of the cgroups of a process that is in `memberships`, as far
/// as a mount shows them.
pub(crate) fn opened(
    memberships: &BTreeMap<Hierarchy, String>,
) -> Result<Vec<(Hierarchy, OwnedFd)>, CgroupError> {
    let mut reader = Reader::new();
    let text = mountinfo(&mut reader, &own_process()?)?;
    let mut all = Vec::with_capacity(memberships.len());
    for (hierarchy, path) in memberships {
        let Some(path) = plain(path) else { continue };
        match Mounted::find_if_there(hierarchy.clone(), path, text) {
            Ok(found) => all.extend(found.map(|found| (found.hierarchy, found.own))),
            Err(CgroupError::NotVisible { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn own_process() -> Result<OwnedFd, CgroupError> {
    openat(
        AT_FDCWD,
        c"/proc/self",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|source| proc_error("/proc/self", source))
}

fn mountinfo<'a>(reader: &'a mut Reader, process: &OwnedFd) -> Result<&'a [u8], CgroupError> {
    reader
        .read(process, c"mountinfo")
        .map_err(|source| proc_error("/proc/self/mountinfo", source))
}

/// `path` as seen from the cgroup `root`; `None` if it lies outside.
fn beneath<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = match root {
        b"/" => path,
        _ => path.strip_prefix(root)?,
    };
    match rest {
        [] => Some(b"."),
        // A root above the caller's cgroup namespace reads `/..`: what the
        // caller's own cgroup is called there, the kernel does not say.
        [b'/', rest @ ..] if !rest.starts_with(b"..") => {
            Some(if rest.is_empty() { b"." } else { rest })
        }
        _ => None,
    }
}

fn open_own(mount: &MountLine<'_>, beneath: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mount_point = unescaped(mount.mount_point);
    let top = openat(
        AT_FDCWD,
        OsStr::from_bytes(&mount_point),
        flags,
        Mode::empty(),
    )?;
    // Another mount may stand on top of this one.
    if fstat(&top)?.st_dev != mount.device {
        return Err(Errno::EXDEV);
    }
    openat2(
        &top,
        OsStr::from_bytes(beneath),
        OpenHow::new().flags(flags).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        ),
    )
}

/// Where `pid` is in each hierarchy, read from `/proc/PID/cgroup`; paths are
/// escaped where they are not printable ASCII.
///
/// # Errors
/// [`CgroupError::Proc`] and [`CgroupError::Malformed`].
pub fn membership(pid: Pid) -> Result<BTreeMap<Hierarchy, String>, CgroupError> {
    let path = format!("/proc/{pid}");
    let file = format!("{path}/cgroup");
    let directory = CString::new(path).map_err(|_nul| malformed(&file))?;
    let process = openat(
        AT_FDCWD,
        directory.as_c_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|source| proc_error(&file, source))?;
    let mut reader = Reader::new();
    let text = reader
        .read(&process, c"cgroup")
        .map_err(|source| proc_error(&file, source))?;
    memberships(text).ok_or_else(|| malformed(&file))
}

/// The lines of a `/proc/PID/cgroup`.
pub(crate) fn memberships(text: &[u8]) -> Option<BTreeMap<Hierarchy, String>> {
    entries(text)
        .map(|entry| entry.map(|(hierarchy, path)| (hierarchy, escaped(path))))
        .collect()
}

fn entries(text: &[u8]) -> impl Iterator<Item = Option<(Hierarchy, &[u8])>> {
    lines(text).map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (_number, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((Hierarchy::named(list), path))
    })
}

fn proc_error(path: &str, source: Errno) -> CgroupError {
    CgroupError::Proc {
        path: path.to_owned(),
        source,
    }
}

fn malformed(path: &str) -> CgroupError {
    CgroupError::Malformed {
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_has_its_path() {
        let text = b"9:name=systemd:/a:b\n4:cpu,cpuacct:/\n0::/x\\y\n";
        let map = memberships(text).unwrap_or_default();
        assert_eq!(map.len(), 3);
        assert_eq!(
            map.get(&Hierarchy::V1("name=systemd".into()))
                .map(String::as_str),
            Some("/a:b")
        );
        assert_eq!(map.get(&Hierarchy::V2).map(String::as_str), Some("/x\\\\y"));
        assert_eq!(memberships(b"9 systemd"), None);
    }

    #[test]
    fn own_cgroup_is_found_beneath_the_root_of_a_mount() {
        assert_eq!(beneath(b"/", b"/"), Some(&b"."[..]));
        assert_eq!(beneath(b"/", b"/a/b"), Some(&b"a/b"[..]));
        assert_eq!(beneath(b"/a", b"/a/b"), Some(&b"b"[..]));
        assert_eq!(beneath(b"/a", b"/a"), Some(&b"."[..]));
        for (root, path) in [("/a", "/ab"), ("/..", "/"), ("/", "/../x"), ("/b", "/a")] {
            assert_eq!(
                beneath(root.as_bytes(), path.as_bytes()),
                None,
                "{root} {path}"
            );
        }
    }

    #[test]
    fn comounted_controllers_are_one_hierarchy() {
        let text = b"1 2 0:5 / /c rw - cgroup cgroup rw,xattr,cpu,cpuacct\n\
                     1 2 0:6 / /s rw - cgroup cgroup rw,name=systemd\n\
                     1 2 0:7 / /u rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |hierarchy: Hierarchy| {
            mounts(text)
                .flatten()
                .filter(|mount| hierarchy.is_mounted_by(mount))
                .map(|mount| mount.mount_point)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(Hierarchy::V1("cpuacct,cpu".into())), [b"/c"]);
        assert_eq!(found(Hierarchy::V1("name=systemd".into())), [b"/s"]);
        assert_eq!(found(Hierarchy::V2), [b"/u"]);
        assert!(found(Hierarchy::V1("cpuset".into())).is_empty());
    }
}
