//! One cgroup a sandbox, in every hierarchy of the host: made, entered,
//! frozen, killed, removed.
//!
//! A hierarchy that sets no limit counts as well. In one where the sandbox
//! was not placed, the root of its cgroup namespace would be the host's, and
//! the host's cgroups would be readable inside.

mod devices;
mod error;
mod hierarchies;
mod limits;
mod placement;
mod usage;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

pub(crate) use devices::found as found_devices;
pub(crate) use error::DELEGATE;
pub use error::{CgroupError, CgroupStep};
pub(crate) use hierarchies::memberships;
pub(crate) use hierarchies::opened;
pub use hierarchies::{Hierarchies, Hierarchy, membership};
pub(crate) use limits::{Bound, Directories, Optional, Wanted};
pub use placement::Placement;
pub use usage::{Pressure, Stall, Usage};

use crate::posture::Value;
use crate::{CgroupLimits, SandboxName};
use devices::DeviceControl;

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
/// Dropping one that was made removes each directory that is empty by then and
/// leaves the others without a word: call [`Cgroup::remove`] to hear of those.
/// Dropping one that was taken over removes nothing: whoever made it may be
/// about to launch into it.
#[derive(Debug)]
pub struct Cgroup {
    placements: Vec<Placement>,
    origin: Origin,
    /// What was written to it last.
    limits: Option<Wanted>,
    devices: Option<DeviceControl>,
    is_device_control_lifted: bool,
}

/// Which version of cgroups a controller is at work in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// How a [`Cgroup`] came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Made,
    TakenOver,
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
        let mut made = Self::of(Vec::with_capacity(hierarchies.len()), Origin::Made);
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
        Self::found(found, name)
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
        Self::found(found, name)
    }

    fn found(placements: Vec<Placement>, name: &SandboxName) -> Result<Self, CgroupError> {
        if placements.is_empty() {
            return Err(CgroupError::Absent { name: name.clone() });
        }
        Ok(Self::of(placements, Origin::TakenOver))
    }

    fn of(placements: Vec<Placement>, origin: Origin) -> Self {
        Self {
            placements,
            origin,
            limits: None,
            devices: None,
            is_device_control_lifted: false,
        }
    }

    /// Writes `limits` to it. What was written before and is the same is not
    /// written again.
    ///
    /// # Errors
    /// [`CgroupError::Lacking`] for a limit that no hierarchy of this host
    /// keeps, [`CgroupError::Device`], [`CgroupError::Limit`].
    ///
    /// # Kernel
    /// As [`CgroupLimits`].
    pub fn limit(&mut self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        self.limit_to(Wanted::of(limits)?)
    }

    pub(crate) fn limit_to(&mut self, wanted: Wanted) -> Result<(), CgroupError> {
        if self.limits.as_ref() == Some(&wanted) {
            return Ok(());
        }
        // After a failure nobody knows what stands in it.
        let before = self.limits.take();
        wanted.write(&self.placements, before.as_ref())?;
        self.limits = Some(wanted);
        Ok(())
    }

    /// Lets its processes open and make the devices that a server has of its
    /// own, and no others: null, zero, full, random, urandom, tty and
    /// pseudo-terminals.
    ///
    /// # Errors
    /// [`CgroupError::Lacking`], [`CgroupError::Step`].
    ///
    /// # Kernel
    /// The devices controller of version 1 where it is mounted, else a
    /// program on version 2: 4.15, `CONFIG_CGROUP_BPF`.
    pub fn allow_devices(&mut self) -> Result<(), CgroupError> {
        if self.devices.is_none() || self.is_device_control_lifted {
            self.devices = Some(DeviceControl::apply(&self.placements)?);
            self.is_device_control_lifted = false;
        }
        Ok(())
    }

    /// Takes the control of devices away, as a weakened plan wants it.
    pub(crate) fn lift_devices(&mut self) -> Result<(), CgroupError> {
        if !self.is_device_control_lifted {
            devices::lift(&self.placements)?;
            self.is_device_control_lifted = true;
        }
        Ok(())
    }

    /// What [`Directories::found`] should find of `bound` where `wanted` stands.
    pub(crate) fn expected(&self, wanted: &Wanted, bound: Bound) -> Result<Value, CgroupError> {
        wanted.expected(bound, &self.placements)
    }

    /// Writes one limit alone, as a probe does; gives what should then be found.
    pub(crate) fn write(&self, wanted: &Wanted, bound: Bound) -> Result<Value, CgroupError> {
        wanted.write_one(&self.placements, bound, None)?;
        self.expected(wanted, bound)
    }

    /// Whether it keeps what a spec need not ask for.
    pub(crate) fn offers(&self, what: Optional) -> bool {
        self.directories().offers(what)
    }

    /// The list of devices, or the program, that should be found.
    pub(crate) fn expected_devices(&self) -> Option<Value> {
        self.devices.as_ref().map(DeviceControl::expected)
    }

    /// Its directories, to be read.
    pub(crate) fn directories(&self) -> Directories<'_> {
        let all = self.placements.iter();
        Directories::new(all.map(|placement| (placement.hierarchy(), placement.directory())))
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
        self.let_die()?;
        let begun = Instant::now();
        for placement in &self.placements {
            while !placement.processes()?.is_empty() {
                placement.pause(CgroupStep::Kill, begun, EMPTY_DEADLINE)?;
                // Somebody may have frozen it meanwhile.
                self.let_die()?;
            }
        }
        Ok(())
    }

    /// Thaws it, where it can have been frozen at all: a killed process of
    /// version 1 does not end before.
    pub(crate) fn let_die(&self) -> Result<(), CgroupError> {
        match self.thaw() {
            Ok(()) | Err(CgroupError::NoFreezer) => Ok(()),
            Err(error) => Err(error),
        }
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
        for look in 1_u32.. {
            if freezer.is_frozen()? {
                break;
            }
            freezer
                .placement()
                .pause(CgroupStep::Freeze, begun, FREEZE_DEADLINE)?;
            freezer.insist(look)?;
        }
        Ok(())
    }

    /// The freezer of version 1 where it is mounted: then that of version 2
    /// would hold the same processes twice.
    fn freezer(&self) -> Result<Freezer<'_>, CgroupError> {
        match placement::keeper(&self.placements, "freezer") {
            Some((Version::V1, placement)) => Ok(Freezer::V1(placement)),
            Some((Version::V2, placement)) => Ok(Freezer::V2(placement)),
            None => Err(CgroupError::NoFreezer),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.origin == Origin::TakenOver {
            return;
        }
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

    /// Asks again for what was asked and has not come about after so many
    /// looks.
    fn insist(self, looks: u32) -> Result<(), CgroupError> {
        match self {
            Self::V1(placement) => v1::insist(placement, looks),
            // It is kept up by the kernel.
            Self::V2(_) => Ok(()),
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
