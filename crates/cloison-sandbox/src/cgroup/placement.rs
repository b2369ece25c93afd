//! One directory of a sandbox's cgroup in one hierarchy.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::hierarchies::Mounted;
use super::{CgroupError, CgroupStep, Hierarchy, INTERVAL, Version, v1, v2};
use crate::SandboxName;
use crate::proc::fields::{decimal, lines};
use crate::proc::{Reader, escaped, unescaped};

/// How deep cgroups beneath a sandbox's own are removed.
const DEPTH_MAX: usize = 32;

/// One directory of a sandbox's cgroup, in one hierarchy.
#[derive(Debug)]
pub struct Placement {
    hierarchy: Hierarchy,
    parent: OwnedFd,
    name: String,
    directory: OwnedFd,
    entry: OwnedFd,
    path: String,
}

impl Placement {
    pub(super) fn make(mounted: &Mounted, name: &SandboxName) -> Result<Self, CgroupError> {
        mounted.hand_on()?;
        let failed = |step, source| CgroupError::Step {
            step,
            hierarchy: mounted.hierarchy().clone(),
            path: path_of(mounted, name),
            source,
        };
        let directory_name = directory_name(name);
        match mkdirat(
            mounted.own(),
            directory_name.as_str(),
            Mode::from_bits_truncate(0o755),
        ) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(CgroupError::Conflict {
                    hierarchy: mounted.hierarchy().clone(),
                    path: path_of(mounted, name),
                });
            }
            Err(errno) => return Err(failed(CgroupStep::Make, errno)),
        }
        Self::open(mounted, name)
            .and_then(|placement| {
                if mounted.hierarchy().has_controller("cpuset") {
                    v1::fill_cpuset(mounted.own(), placement.directory())
                        .map_err(|errno| (CgroupStep::FillCpuset, errno))?;
                }
                Ok(placement)
            })
            .map_err(|(step, errno)| {
                // The first failure is what the caller must hear of.
                match unlinkat(
                    mounted.own(),
                    directory_name.as_str(),
                    UnlinkatFlags::RemoveDir,
                ) {
                    Ok(()) | Err(_) => failed(step, errno),
                }
            })
    }

    /// The directory that is there already, if one is.
    pub(super) fn find(mounted: &Mounted, name: &SandboxName) -> Result<Option<Self>, CgroupError> {
        match Self::open(mounted, name) {
            Ok(placement) => Ok(Some(placement)),
            Err((CgroupStep::Open, Errno::ENOENT)) => Ok(None),
            Err((step, source)) => Err(CgroupError::Step {
                step,
                hierarchy: mounted.hierarchy().clone(),
                path: path_of(mounted, name),
                source,
            }),
        }
    }

    fn open(mounted: &Mounted, name: &SandboxName) -> Result<Self, (CgroupStep, Errno)> {
        let directory_name = directory_name(name);
        let at_open = |errno| (CgroupStep::Open, errno);
        let directory = open_directory(mounted.own(), directory_name.as_str()).map_err(at_open)?;
        // With one thread both say the same; `tasks` does not wait for others.
        let list = match mounted.hierarchy() {
            Hierarchy::V1(_) => c"tasks",
            Hierarchy::V2 => c"cgroup.procs",
        };
        let entry = openat(
            &directory,
            list,
            OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
        .map_err(at_open)?;
        let parent = mounted
            .own()
            .try_clone_to_owned()
            .map_err(|error| at_open(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
        Ok(Self {
            hierarchy: mounted.hierarchy().clone(),
            parent,
            path: path_of(mounted, name),
            name: directory_name,
            directory,
            entry,
        })
    }

    /// The hierarchy.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The list by which a process enters: `0` written to it is the writer
    /// (`tasks` in version 1, `cgroup.procs` in version 2).
    #[must_use]
    pub fn entry(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }

    /// Its path in the hierarchy as `/proc/PID/cgroup` shows it to the
    /// caller, escaped where it is not printable ASCII.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The cgroup that holds it.
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// What a file of the cgroup above says, fit to be shown.
    pub(super) fn above(&self, file: &CStr) -> Result<String, CgroupError> {
        read(self.parent(), file)
            .map(|text| escaped(text.trim_ascii_end()))
            .map_err(|errno| self.failed(CgroupStep::Read, errno))
    }

    pub(super) fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        let text = self.value(c"cgroup.procs")?;
        lines(&text)
            .map(|line| {
                decimal(line)
                    .and_then(|pid| i32::try_from(pid).ok())
                    .map(Pid::from_raw)
                    .ok_or_else(|| self.failed(CgroupStep::Read, Errno::EBADMSG))
            })
            .collect()
    }

    pub(super) fn value(&self, file: &CStr) -> Result<Vec<u8>, CgroupError> {
        read(self.directory(), file).map_err(|errno| self.failed(CgroupStep::Read, errno))
    }

    pub(super) fn memory_bytes_max(&self) -> Result<Option<u64>, Errno> {
        if self.hierarchy.has_controller("memory") {
            return v1::memory_bytes_max(self.directory());
        }
        if self.hierarchy == Hierarchy::V2 {
            return v2::memory_bytes_max(self.directory());
        }
        Ok(None)
    }

    /// The processors of the group, where this hierarchy decides on them.
    pub(super) fn processors(&self) -> Result<Option<Vec<u8>>, Errno> {
        match &self.hierarchy {
            Hierarchy::V2 => v2::processors(self.directory()),
            v1 if v1.has_controller("cpuset") => {
                read(self.directory(), c"cpuset.effective_cpus").map(Some)
            }
            Hierarchy::V1(_) => Ok(None),
        }
    }

    pub(super) fn set(
        &self,
        step: CgroupStep,
        file: &CStr,
        value: &[u8],
    ) -> Result<(), CgroupError> {
        write(self.directory(), file, value).map_err(|errno| self.failed(step, errno))
    }

    /// Sleeps for a moment, unless too much time has passed since `begun`.
    pub(super) fn pause(
        &self,
        step: CgroupStep,
        begun: Instant,
        deadline: Duration,
    ) -> Result<(), CgroupError> {
        if begun.elapsed() >= deadline {
            return Err(CgroupError::Deadline {
                step,
                hierarchy: self.hierarchy.clone(),
                path: self.path.clone(),
            });
        }
        std::thread::sleep(INTERVAL);
        Ok(())
    }

    pub(super) fn failed(&self, step: CgroupStep, source: Errno) -> CgroupError {
        CgroupError::Step {
            step,
            hierarchy: self.hierarchy.clone(),
            path: self.path.clone(),
            source,
        }
    }

    /// Removes the directory and those beneath it; gone already is removed.
    pub(super) fn remove(&self) -> Result<(), Errno> {
        let name = self.name.as_str();
        match unlinkat(&self.parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // Also what a cgroup with children answers.
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
        remove_children(self.directory(), DEPTH_MAX)?;
        match unlinkat(&self.parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            result => result,
        }
    }
}

fn directory_name(name: &SandboxName) -> String {
    format!("cloison-{name}")
}

/// The path of the cgroup that holds `path`, if that can be the one of a
/// sandbox of this name.
pub(super) fn parent_in(path: &str, name: &SandboxName) -> Option<Vec<u8>> {
    let path = unescaped(path)?;
    let (parent, last) = path.split_at(path.iter().rposition(|byte| *byte == b'/')?);
    let is_ours = last.strip_prefix(b"/") == Some(directory_name(name).as_bytes());
    let mut folders = parent.split(|byte| *byte == b'/');
    // What comes before the first slash.
    let is_absolute = folders.next() == Some(b"");
    let is_plain = folders.all(|folder| !matches!(folder, b"" | b"." | b".."));
    let parent = if parent.is_empty() { b"/" } else { parent };
    (is_ours && is_absolute && is_plain && !path.contains(&0)).then(|| parent.to_vec())
}

pub(super) fn path_of(mounted: &Mounted, name: &SandboxName) -> String {
    let own = escaped(mounted.own_path());
    format!("{}/{}", own.trim_end_matches('/'), directory_name(name))
}

fn open_directory<P: ?Sized + nix::NixPath>(
    parent: BorrowedFd<'_>,
    name: &P,
) -> Result<OwnedFd, Errno> {
    openat(
        parent,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

fn remove_children(directory: BorrowedFd<'_>, depth_left: usize) -> Result<(), Errno> {
    let depth_left = depth_left.checked_sub(1).ok_or(Errno::ELOOP)?;
    for entry in Dir::from_fd(open_directory(directory, c".")?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        let is_child = entry.file_type() == Some(nix::dir::Type::Directory);
        if !is_child || name == c"." || name == c".." {
            continue;
        }
        let child = match open_directory(directory, name) {
            Err(Errno::ENOENT) => continue,
            result => result?,
        };
        remove_children(child.as_fd(), depth_left)?;
        match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub(super) fn read(directory: BorrowedFd<'_>, file: &CStr) -> Result<Vec<u8>, Errno> {
    Ok(Reader::new().read(directory, file)?.to_vec())
}

/// Where a controller is at work, by its name in version 1: in one hierarchy
/// only.
pub(super) fn keeper<'a>(
    placements: &'a [Placement],
    controller: &str,
) -> Option<(Version, &'a Placement)> {
    let find = |is_it: &dyn Fn(&Hierarchy) -> bool| {
        placements
            .iter()
            .find(|placement| is_it(placement.hierarchy()))
    };
    let v1 = find(&|hierarchy| hierarchy.has_controller(controller));
    let v2 = || find(&|hierarchy| *hierarchy == Hierarchy::V2);
    v1.map(|placement| (Version::V1, placement))
        .or_else(|| v2().map(|placement| (Version::V2, placement)))
}

/// Writes `value` in one call, as files of cgroups need it.
pub(super) fn write(directory: BorrowedFd<'_>, file: &CStr, value: &[u8]) -> Result<(), Errno> {
    let file = openat(
        directory,
        file,
        OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )?;
    loop {
        match nix::unistd::write(&file, value) {
            Ok(written) if written == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
            // A limit that has to reclaim memory first is given up for a signal.
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_a_sandbox_of_that_name_is_ours() {
        let name = SandboxName::new("web").unwrap();
        for (path, parent) in [
            ("/cloison-web", "/"),
            ("/a/b.slice/cloison-web", "/a/b.slice"),
            ("/a\\\\x2d.slice/cloison-web", "/a\\x2d.slice"),
            ("/a\\xff/cloison-web", "/a\u{fffd}"),
        ] {
            let found = parent_in(path, &name).unwrap();
            assert_eq!(String::from_utf8_lossy(&found), parent, "{path}");
        }
        for path in [
            "",
            "/",
            "cloison-web",
            "a/cloison-web",
            "/cloison-web/",
            "/cloison-web/.",
            "/cloison-web2",
            "/cloison-other",
            "/a/../cloison-web",
            "/../cloison-web",
            "/a/./cloison-web",
            "/a//cloison-web",
            "//cloison-web",
            "/a\\x00/cloison-web",
            "/a\\q/cloison-web",
            "/a\\",
        ] {
            assert_eq!(parent_in(path, &name), None, "{path}");
        }
    }

    #[test]
    fn a_noted_path_that_is_not_ours_is_refused_and_a_gone_one_is_nothing() {
        let name = SandboxName::new("never-made-by-a-test").unwrap();
        let own = super::super::Hierarchies::find().unwrap();
        let places = super::super::Cgroup::places(&own, &name);
        let taken = super::super::Cgroup::take_over_noted(&name, &places);
        assert!(
            matches!(taken, Err(CgroupError::Absent { .. })),
            "{taken:?}"
        );
        let deeper = places
            .iter()
            .map(|(hierarchy, path)| (hierarchy.clone(), format!("{path}/gone/cloison-{name}")));
        let taken = super::super::Cgroup::take_over_noted(&name, &deeper.collect());
        assert!(
            matches!(taken, Err(CgroupError::Absent { .. })),
            "{taken:?}"
        );
        let other = SandboxName::new("another").unwrap();
        let taken = super::super::Cgroup::take_over_noted(&other, &places);
        assert!(
            matches!(taken, Err(CgroupError::NotOurs { .. })),
            "{taken:?}"
        );
        let unknown = [(Hierarchy::V1("no-such".into()), format!("/cloison-{name}"))];
        let taken = super::super::Cgroup::take_over_noted(&name, &unknown.into());
        assert!(
            matches!(taken, Err(CgroupError::NotVisible { .. })),
            "{taken:?}"
        );
    }
}
