//! One cgroup a sandbox, in every hierarchy of the host: made, entered,
//! frozen, killed, removed.
//!
//! A hierarchy that sets no limit counts as well. In one where the sandbox
//! was not placed, the root of its cgroup namespace would be the host's, and
//! the host's cgroups would be readable inside.

mod error;
mod hierarchies;
mod placement;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

pub use error::{CgroupError, CgroupStep};
pub(crate) use hierarchies::memberships;
pub use hierarchies::{Hierarchies, Hierarchy, membership};
pub use placement::Placement;

use crate::SandboxName;

/// How long a cgroup may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(5);

/// How long ended processes may stay in a cgroup.
const EMPTY_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks at a cgroup that is still busy.
const INTERVAL: Duration = Duration::from_micros(500);

/// The cgroup of one sandbox: one directory in each hierarchy.
///
/// Holding one tells you that the directories were made, or taken over, by
/// this value, and that nobody has removed them through it. It does not tell
/// you that a process is in them.
///
/// Dropping it removes each directory that is empty by then and leaves the
/// others without a word: call [`Cgroup::remove`] to hear of those.
#[derive(Debug)]
pub struct Cgroup {
    placements: Vec<Placement>,
}

impl Cgroup {
    /// Makes `cloison-NAME` beneath the caller's own cgroup in each hierarchy.
    ///
    /// # Errors
    /// [`CgroupError::Conflict`] if one is there already, also an empty one;
    /// [`CgroupError::Step`] otherwise. What was made is removed.
    ///
    /// # Source
    /// cgroups(7)
    pub fn create(hierarchies: &Hierarchies, name: &SandboxName) -> Result<Self, CgroupError> {
        let mut made = Self {
            placements: Vec::with_capacity(hierarchies.len()),
        };
        for mounted in hierarchies.mounted() {
            made.placements.push(Placement::make(mounted, name)?);
        }
        Ok(made)
    }

    /// Where [`Cgroup::create`] makes it: what [`Cgroup::membership`] then
    /// gives. Noted beforehand, it is found again whenever the caller dies.
    #[must_use]
    pub fn places(hierarchies: &Hierarchies, name: &SandboxName) -> BTreeMap<Hierarchy, String> {
        hierarchies
            .mounted()
            .map(|mounted| {
                let path = placement::path_of(mounted, name);
                (mounted.hierarchy().clone(), path)
            })
            .collect()
    }

    /// Takes over what an ended caller left of `NAME` where it was `noted`,
    /// whatever the cgroup of this caller. A note is not believed: its path
    /// must end in `cloison-NAME`, and is opened beneath a mount of the
    /// hierarchy, no link followed.
    ///
    /// # Errors
    /// [`CgroupError::NotOurs`] if a path is not one that a sandbox of this
    /// name has, [`CgroupError::NotVisible`] if no mount shows it;
    /// [`CgroupError::Absent`] if there is nothing, [`CgroupError::Step`]
    /// otherwise.
    pub fn take_over_noted(
        name: &SandboxName,
        noted: &BTreeMap<Hierarchy, String>,
    ) -> Result<Self, CgroupError> {
        let mut found = Vec::with_capacity(noted.len());
        let parents = hierarchies::parents_of(noted, |hierarchy, path| {
            let not_ours = || CgroupError::NotOurs {
                name: name.clone(),
                hierarchy: hierarchy.clone(),
                path: path.to_owned(),
            };
            placement::parent_in(path, name).ok_or_else(not_ours)
        })?;
        for parent in &parents {
            found.extend(Placement::find(parent, name)?);
        }
        if found.is_empty() {
            return Err(CgroupError::Absent { name: name.clone() });
        }
        Ok(Self { placements: found })
    }

    /// Takes over what an ended caller left of `NAME`, in the hierarchies
    /// where there is something beneath this caller's own cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Absent`] if there is nothing in any hierarchy,
    /// [`CgroupError::Step`] otherwise.
    pub fn take_over(hierarchies: &Hierarchies, name: &SandboxName) -> Result<Self, CgroupError> {
        let mut found = Vec::with_capacity(hierarchies.len());
        for mounted in hierarchies.mounted() {
            found.extend(Placement::find(mounted, name)?);
        }
        if found.is_empty() {
            return Err(CgroupError::Absent { name: name.clone() });
        }
        Ok(Self { placements: found })
    }

    /// Its directory in each hierarchy.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Its directory in the hierarchy of version 2, for `CLONE_INTO_CGROUP`.
    #[must_use]
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.placements
            .iter()
            .find(|placement| *placement.hierarchy() == Hierarchy::V2)
            .map(Placement::directory)
    }

    /// What [`membership`] gives for a process that is in it.
    #[must_use]
    pub fn membership(&self) -> BTreeMap<Hierarchy, String> {
        self.placements
            .iter()
            .map(|placement| (placement.hierarchy().clone(), placement.path().to_owned()))
            .collect()
    }

    /// The processors that its processes may run on, as a list: the mask that
    /// asks for all of them gives these.
    ///
    /// # Errors
    /// [`CgroupError::Step`].
    ///
    /// # Source
    /// cpuset(7), and the kernel's documentation of cgroup v2.
    pub fn processors(&self) -> Result<Option<String>, CgroupError> {
        for placement in &self.placements {
            let list = placement
                .processors()
                .map_err(|errno| placement.failed(CgroupStep::Read, errno))?;
            if let Some(list) = list {
                return Ok(Some(crate::proc::escaped(list.trim_ascii_end())));
            }
        }
        Ok(None)
    }

    /// The most memory that its processes may have together: the lowest limit
    /// of it and of those above it. `None`: there is none.
    ///
    /// # Errors
    /// [`CgroupError::Step`].
    ///
    /// # Source
    /// The kernel's documentation of cgroup v1 (memory) and v2.
    pub fn memory_bytes_max(&self) -> Result<Option<u64>, CgroupError> {
        let mut lowest: Option<u64> = None;
        for placement in &self.placements {
            let limit = placement
                .memory_bytes_max()
                .map_err(|errno| placement.failed(CgroupStep::Read, errno))?;
            lowest = lowest.into_iter().chain(limit).min();
        }
        Ok(lowest)
    }

    /// Stops every process in it and waits until all stand still.
    ///
    /// # Errors
    /// [`CgroupError::NoFreezer`]; [`CgroupError::Deadline`], and then some
    /// may stand still: [`Cgroup::thaw`] sets them free;
    /// [`CgroupError::Step`].
    ///
    /// # Kernel
    /// The freezer of version 1, or version 2 from Linux 5.2.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer()?;
        freezer.set_frozen()?;
        self.wait_until_frozen(freezer)
    }

    /// Lets its processes run again. One that was removed has none.
    ///
    /// # Errors
    /// [`CgroupError::NoFreezer`] and [`CgroupError::Step`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self.freezer()?.set_thawed() {
            // Somebody else who ended the sandbox removed it: nothing is frozen.
            Err(CgroupError::Step {
                source: Errno::ENOENT | Errno::ENODEV,
                ..
            }) => Ok(()),
            thawed => thawed,
        }
    }

    /// Whether every process in it stands still.
    ///
    /// # Errors
    /// [`CgroupError::NoFreezer`] and [`CgroupError::Step`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        self.freezer()?.is_frozen()
    }

    /// The processes in it, in any hierarchy, as the caller's pid namespace
    /// numbers them. One that this namespace does not see is 0.
    ///
    /// # Errors
    /// [`CgroupError::Step`].
    pub fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut pids = Vec::new();
        for placement in &self.placements {
            pids.extend(placement.processes()?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Ends every process in it, frozen or not, and waits until it is empty.
    ///
    /// On a kernel without `cgroup.kill` it only thaws and waits: whoever
    /// calls it has sent `SIGKILL` to process 1 of the sandbox beforehand.
    ///
    /// # Errors
    /// [`CgroupError::Deadline`] if a process is still there,
    /// [`CgroupError::Step`].
    ///
    /// # Kernel
    /// `cgroup.kill`: Linux 5.14, with a hierarchy of version 2 mounted.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.kill_all()?;
        match self.thaw() {
            // Without a freezer nothing is frozen.
            Ok(()) | Err(CgroupError::NoFreezer) => {}
            Err(error) => return Err(error),
        }
        let begun = Instant::now();
        for placement in &self.placements {
            while !placement.processes()?.is_empty() {
                placement.pause(CgroupStep::Kill, begun, EMPTY_DEADLINE)?;
            }
        }
        Ok(())
    }

    /// Removes it, and the cgroups beneath it, in every hierarchy. Ended
    /// processes that linger are waited for; one that goes on, outside of the
    /// pid namespace that has ended, is ended where the kernel can end all of a
    /// cgroup at once.
    ///
    /// # Errors
    /// [`CgroupError::Deadline`] with the path that stays busy,
    /// [`CgroupError::Step`]. It may be called again.
    pub fn remove(&mut self) -> Result<(), CgroupError> {
        let begun = Instant::now();
        let mut is_killed = false;
        while let Some(placement) = self.placements.last() {
            match placement.remove() {
                Ok(()) => {
                    self.placements.pop();
                }
                Err(Errno::EBUSY) if !is_killed => {
                    is_killed = true;
                    self.kill_all()?;
                }
                Err(Errno::EBUSY) => {
                    placement.pause(CgroupStep::Remove, begun, EMPTY_DEADLINE)?;
                }
                Err(errno) => return Err(placement.failed(CgroupStep::Remove, errno)),
            }
        }
        Ok(())
    }

    /// Ends every process in it, where the kernel can do that at once.
    fn kill_all(&self) -> Result<(), CgroupError> {
        for placement in &self.placements {
            if *placement.hierarchy() == Hierarchy::V2 {
                v2::kill(placement)?;
            }
        }
        Ok(())
    }

    fn wait_until_frozen(&self, freezer: Freezer<'_>) -> Result<(), CgroupError> {
        let begun = Instant::now();
        while !freezer.is_frozen()? {
            freezer
                .placement()
                .pause(CgroupStep::Freeze, begun, FREEZE_DEADLINE)?;
        }
        Ok(())
    }

    /// The freezer of version 1 where it is mounted: then that of version 2
    /// would hold the same processes twice.
    fn freezer(&self) -> Result<Freezer<'_>, CgroupError> {
        let v1 = self
            .placements
            .iter()
            .find(|placement| placement.hierarchy().has_controller("freezer"));
        let v2 = self
            .placements
            .iter()
            .find(|placement| *placement.hierarchy() == Hierarchy::V2);
        v1.map(Freezer::V1)
            .or(v2.map(Freezer::V2))
            .ok_or(CgroupError::NoFreezer)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A destructor has nobody to tell and must not wait: `remove` does.
        self.placements
            .retain(|placement| placement.remove().is_err());
    }
}

#[derive(Clone, Copy)]
enum Freezer<'a> {
    V1(&'a Placement),
    V2(&'a Placement),
}

impl<'a> Freezer<'a> {
    fn placement(self) -> &'a Placement {
        match self {
            Self::V1(placement) | Self::V2(placement) => placement,
        }
    }

    fn set_frozen(self) -> Result<(), CgroupError> {
        match self {
            Self::V1(placement) => v1::freeze(placement),
            Self::V2(placement) => v2::freeze(placement),
        }
    }

    fn set_thawed(self) -> Result<(), CgroupError> {
        match self {
            Self::V1(placement) => v1::thaw(placement),
            Self::V2(placement) => v2::thaw(placement),
        }
    }

    fn is_frozen(self) -> Result<bool, CgroupError> {
        match self {
            Self::V1(placement) => v1::is_frozen(placement),
            Self::V2(placement) => v2::is_frozen(placement),
        }
    }
}
