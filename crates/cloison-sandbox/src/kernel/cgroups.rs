//! A cgroup: made, entered, frozen, thawed, emptied, removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use cloison_linux::steps::Op;
use nix::errno::Errno;

use super::probe::Found;
use super::trial::{self, Trial};
use super::{Absence, Feature, KernelError, NotNeeded, State};
use crate::cgroup::{Bound, Optional, Wanted, found_devices};
use crate::spawner::io_errno;
use crate::turn;
use crate::{Cgroup, CgroupError, CgroupLimits, Hierarchies, Hierarchy, SandboxName};

/// The name of the cgroup that is made, behind `cloison-`.
const NAME: &str = "probe";

/// How long others may take with their probes.
const TURN_DEADLINE: Duration = Duration::from_secs(10);

/// How the process gets into the hierarchy of version 2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// It is born there.
    Born,
    /// It writes itself into the list, as into those of version 1.
    Written,
}

/// What a cgroup keeps, tried with the one that is made.
const KEPT: [(Feature, &[Bound]); 4] = [
    (Feature::MemoryController, &[Bound::Memory]),
    (Feature::SwapLimit, &[Bound::Swap]),
    (Feature::PidsController, &[Bound::Tasks]),
    (Feature::CpuController, &[Bound::CpuWeight, Bound::CpuQuota]),
];

/// What depends on a cgroup that can be made.
const DEPENDENT: [Feature; 9] = [
    Feature::MemoryController,
    Feature::SwapLimit,
    Feature::PidsController,
    Feature::CpuController,
    Feature::CpusetController,
    Feature::IoController,
    Feature::IoWeight,
    Feature::DeviceControl,
    Feature::PressureStall,
];

/// Tries it.
pub(super) fn try_all(found: &mut Found) -> Result<(), KernelError> {
    let mut kept = BTreeMap::new();
    try_cgroup(found, &mut kept)?;
    for feature in DEPENDENT {
        let needs = Err(Absence::Needs(Feature::CgroupFreezer));
        found.record(feature, kept.remove(&feature).unwrap_or(needs))?;
    }
    Ok(())
}

fn try_cgroup(found: &mut Found, kept: &mut Kept) -> Result<(), KernelError> {
    let needed = [Feature::Clone3, Feature::CloseRange, Feature::Openat2];
    if let Some(need) = found.missing(&needed) {
        let needs = Absence::Needs(need);
        found.absent(Feature::CgroupFreezer, needs)?;
        return found.absent(Feature::CloneIntoCgroup, needs);
    }
    let hierarchies = match Hierarchies::find() {
        Ok(hierarchies) => hierarchies,
        Err(error) => {
            let needs = Absence::Needs(Feature::CgroupFreezer);
            found.absent(Feature::CgroupFreezer, absence(&error))?;
            return found.absent(Feature::CloneIntoCgroup, needs);
        }
    };
    let is_unified = hierarchies.iter().any(|(h, _)| *h == Hierarchy::V2);
    if !is_unified {
        let state = State::NotNeeded(NotNeeded::NoUnifiedHierarchy);
        found.set(Feature::CloneIntoCgroup, state);
        return found.record(
            Feature::CgroupFreezer,
            attempt(&hierarchies, Entry::Written, kept).map_err(Failure::absence),
        );
    }
    match attempt(&hierarchies, Entry::Born, kept) {
        Ok(()) => {
            found.record(Feature::CloneIntoCgroup, Ok(()))?;
            found.record(Feature::CgroupFreezer, Ok(()))
        }
        Err(Failure::Clone(errno)) => {
            found.refused(Feature::CloneIntoCgroup, errno)?;
            let tried = attempt(&hierarchies, Entry::Written, kept);
            found.record(Feature::CgroupFreezer, tried.map_err(Failure::absence))
        }
        Err(Failure::Cgroup(absence)) => {
            let needs = Absence::Needs(Feature::CgroupFreezer);
            found.absent(Feature::CloneIntoCgroup, needs)?;
            found.absent(Feature::CgroupFreezer, absence)
        }
    }
}

/// What a cgroup keeps, or why not.
type Kept = BTreeMap<Feature, Result<(), Absence>>;

/// What went wrong.
enum Failure {
    /// Making the process.
    Clone(Errno),
    /// Anything else.
    Cgroup(Absence),
}

impl Failure {
    fn absence(self) -> Absence {
        match self {
            Self::Clone(errno) => Absence::Refused(errno),
            Self::Cgroup(absence) => absence,
        }
    }
}

impl From<CgroupError> for Failure {
    fn from(error: CgroupError) -> Self {
        Self::Cgroup(absence(&error))
    }
}

fn refused(errno: Errno) -> Failure {
    Failure::Cgroup(Absence::Refused(errno))
}

fn absence(error: &CgroupError) -> Absence {
    match error {
        CgroupError::Proc { source, .. } | CgroupError::Step { source, .. } => {
            Absence::Refused(*source)
        }
        CgroupError::NoHierarchy
        | CgroupError::NoFreezer
        | CgroupError::Absent { .. }
        | CgroupError::Lacking { .. } => Absence::NoHierarchy,
        CgroupError::NotDelegated { .. } => Absence::NotDelegated,
        CgroupError::Limit { source, .. } | CgroupError::Device { source, .. } => {
            Absence::Refused(*source)
        }
        CgroupError::NotVisible { .. } => Absence::OwnCgroupHidden,
        CgroupError::NotOurs { .. } => Absence::Refused(Errno::EINVAL),
        CgroupError::Malformed { .. } => Absence::Refused(Errno::EBADMSG),
        CgroupError::Conflict { .. } => Absence::Refused(Errno::EEXIST),
        CgroupError::Deadline { .. } => Absence::NoAnswer,
    }
}

fn attempt(hierarchies: &Hierarchies, entry: Entry, kept: &mut Kept) -> Result<(), Failure> {
    // Probes of the same cgroup take turns, those of other threads and other
    // programs too: so one that is there is what a killed probe has left.
    let _turn = take_turn(hierarchies)?;
    let name = SandboxName::new(NAME).map_err(|_| refused(Errno::EINVAL))?;
    match Cgroup::take_over(hierarchies, &name) {
        // Killed, maybe, while its process stood still.
        Ok(mut left) => {
            left.kill()?;
            left.remove()?;
        }
        Err(CgroupError::Absent { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut cgroup = Cgroup::create(hierarchies, &name)?;
    let tried = freeze_one(&cgroup, entry);
    // Empty by now: nobody has to live within these limits.
    if tried.is_ok() {
        try_limits(&mut cgroup, kept);
    }
    // Removed also where it failed; what failed first is told.
    let removed = cgroup.remove();
    tried?;
    Ok(removed?)
}

/// A turn on the caller's own cgroup, which nobody else has a reason to lock.
fn take_turn(hierarchies: &Hierarchies) -> Result<File, Failure> {
    let own = hierarchies
        .first_directory()
        .ok_or(Failure::Cgroup(Absence::NoHierarchy))?;
    turn::take(own, TURN_DEADLINE).map_err(refused)
}

fn owned(descriptor: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    descriptor
        .try_clone_to_owned()
        .map_err(|error| refused(io_errno(&error)))
}

/// Writes each limit and looks whether it stands.
fn try_limits(cgroup: &mut Cgroup, kept: &mut Kept) {
    let wanted = match Wanted::of(&CgroupLimits::default()) {
        Ok(wanted) => wanted,
        Err(error) => {
            kept.extend(DEPENDENT.map(|feature| (feature, Err(absence(&error)))));
            return;
        }
    };
    for (feature, bounds) in KEPT {
        kept.insert(feature, try_bounds(cgroup, &wanted, bounds));
    }
    for (feature, file) in [
        (Feature::CpusetController, Optional::Processors),
        (Feature::IoController, Optional::IoRates),
        (Feature::IoWeight, Optional::IoWeight),
        (Feature::PressureStall, Optional::Pressure),
    ] {
        let is_there = cgroup.offers(file);
        kept.insert(feature, is_there.then_some(()).ok_or(Absence::NoHierarchy));
    }
    let devices = cgroup.allow_devices().map_err(|error| absence(&error));
    kept.insert(
        Feature::DeviceControl,
        devices.and_then(|()| {
            let found = found_devices(&cgroup.directories()).map_err(Absence::Refused)?;
            let stands = cgroup.expected_devices() == Some(found);
            stands.then_some(()).ok_or(Absence::Powerless)
        }),
    );
}

fn try_bounds(cgroup: &Cgroup, wanted: &Wanted, bounds: &[Bound]) -> Result<(), Absence> {
    for bound in bounds {
        let expected = cgroup
            .write(wanted, *bound)
            .map_err(|error| absence(&error))?;
        let found = cgroup
            .directories()
            .found(*bound)
            .map_err(Absence::Refused)?;
        if found != expected {
            return Err(Absence::Powerless);
        }
    }
    Ok(())
}

/// A process enters, is frozen and thawed, and is ended.
fn freeze_one(cgroup: &Cgroup, entry: Entry) -> Result<(), Failure> {
    let mut list = trial::list(0);
    for placement in cgroup.placements() {
        if *placement.hierarchy() == Hierarchy::V2 && entry == Entry::Born {
            list.cgroup = Some(list.own(owned(placement.directory())?));
        } else {
            let slot = list.own(owned(placement.entry())?);
            list.push(None, Op::EnterCgroup, [slot.into()]);
        }
    }
    trial::let_go(&mut list);
    list.push(None, Op::Report, []);
    list.push(None, Op::Wait, []);
    let mut trial = Trial::start(&list).map_err(Failure::Clone)?;
    let said = trial.answer().map_err(refused)?;
    said.held().map_err(Failure::Cgroup)?;
    if cgroup.processes()?.is_empty() {
        return Err(Failure::Cgroup(Absence::Powerless));
    }
    let frozen = cgroup.freeze();
    // A frozen process does not die: thawed whatever happened.
    cgroup.thaw()?;
    frozen?;
    trial.end().map_err(refused)
}
