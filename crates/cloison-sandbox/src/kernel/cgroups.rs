//! A cgroup: made, entered, frozen, thawed, emptied, removed.

use std::os::fd::OwnedFd;

use cloison_linux::steps::Op;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::probe::Found;
use super::trial::{self, Trial};
use super::{Absence, Feature, KernelError, NotNeeded, State};
use crate::{Cgroup, CgroupError, Hierarchies, Hierarchy, SandboxName};

/// As many probes may run at the same time, in the same cgroup.
const PROBES_MAX: usize = 64;

/// How the process gets into the hierarchy of version 2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// It is born there.
    Born,
    /// It writes itself into the list, as into those of version 1.
    Written,
}

/// Tries it.
pub(super) fn try_all(found: &mut Found) -> Result<(), KernelError> {
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
            attempt(&hierarchies, Entry::Written).map_err(Failure::absence),
        );
    }
    match attempt(&hierarchies, Entry::Born) {
        Ok(()) => {
            found.record(Feature::CloneIntoCgroup, Ok(()))?;
            found.record(Feature::CgroupFreezer, Ok(()))
        }
        Err(Failure::Clone(errno)) => {
            found.refused(Feature::CloneIntoCgroup, errno)?;
            let tried = attempt(&hierarchies, Entry::Written);
            found.record(Feature::CgroupFreezer, tried.map_err(Failure::absence))
        }
        Err(Failure::Cgroup(absence)) => {
            let needs = Absence::Needs(Feature::CgroupFreezer);
            found.absent(Feature::CloneIntoCgroup, needs)?;
            found.absent(Feature::CgroupFreezer, absence)
        }
    }
}

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
        CgroupError::NoHierarchy | CgroupError::NoFreezer | CgroupError::Absent { .. } => {
            Absence::NoHierarchy
        }
        CgroupError::NotVisible { .. } => Absence::OwnCgroupHidden,
        CgroupError::Malformed { .. } => Absence::Refused(Errno::EBADMSG),
        CgroupError::Conflict { .. } => Absence::Refused(Errno::EEXIST),
        CgroupError::Deadline { .. } => Absence::NoAnswer,
    }
}

fn attempt(hierarchies: &Hierarchies, entry: Entry) -> Result<(), Failure> {
    let (mut cgroup, _lock) = create(hierarchies)?;
    let tried = freeze_one(&cgroup, entry);
    // Removed also where it failed; what failed first is told.
    let removed = cgroup.remove();
    tried?;
    Ok(removed?)
}

/// A new cgroup, under a lock by which others see that it is in use: one
/// without is what a probe left that was killed, and is removed.
fn create(hierarchies: &Hierarchies) -> Result<(Cgroup, Flock<OwnedFd>), Failure> {
    for number in 0..PROBES_MAX {
        let name =
            SandboxName::new(format!("probe-{number}")).map_err(|_| refused(Errno::EINVAL))?;
        match Cgroup::take_over(hierarchies, &name) {
            Ok(left) => match claim(left)? {
                Some((mut left, _lock)) => left.remove()?,
                None => continue,
            },
            Err(CgroupError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match Cgroup::create(hierarchies, &name) {
            Ok(made) => {
                if let Some(ours) = claim(made)? {
                    return Ok(ours);
                }
            }
            // Somebody else was faster.
            Err(CgroupError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused(Errno::EEXIST))
}

/// Locks it; one that is locked, or was removed meanwhile, is let go.
fn claim(cgroup: Cgroup) -> Result<Option<(Cgroup, Flock<OwnedFd>)>, Failure> {
    match lock(&cgroup) {
        // Its name is its own only as long as it is there.
        Ok(Some(lock)) if cgroup.processes().is_ok() => Ok(Some((cgroup, lock))),
        Ok(_) => {
            cgroup.release();
            Ok(None)
        }
        Err(failure) => {
            cgroup.release();
            Err(failure)
        }
    }
}

fn lock(cgroup: &Cgroup) -> Result<Option<Flock<OwnedFd>>, Failure> {
    let Some(placement) = cgroup.placements().first() else {
        return Err(Failure::Cgroup(Absence::NoHierarchy));
    };
    let directory = owned(placement.directory())?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(refused(errno)),
    }
}

fn owned(descriptor: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    descriptor
        .try_clone_to_owned()
        .map_err(|error| refused(Errno::from_raw(error.raw_os_error().unwrap_or(0))))
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
