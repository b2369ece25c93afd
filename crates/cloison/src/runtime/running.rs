//! A sandbox that runs, found by its name.

use std::os::fd::OwnedFd;
use std::path::Path;

use cloison_sandbox::{Cgroup, CgroupError, SandboxName};

use crate::error::{Error, call};
use crate::runtime::{Record, Runtime};

/// What is written down of a sandbox, and its process 1, which cannot be
/// another's.
#[derive(Debug)]
pub struct Running {
    /// What is written down.
    pub record: Record,
    /// The number of its process 1.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
}

impl Running {
    /// The sandbox `name` beneath `directory`, if it runs.
    ///
    /// # Errors
    /// [`Error::NoSandbox`], [`Error::BeingLaunched`], [`Error::NoState`].
    pub fn find(directory: &Path, name: &SandboxName) -> Result<Self, Error> {
        let absent = || Error::NoSandbox(name.clone());
        let record = Runtime::find(directory, name)?.ok_or_else(absent)?;
        if record.sandbox.is_none() {
            // Its launcher lives, or it would not have been found.
            return Err(Error::BeingLaunched(name.clone()));
        }
        Self::of(record)?.ok_or_else(absent)
    }

    /// The sandbox of `record`; `None` if it has ended, or has no process yet.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn of(record: Record) -> Result<Option<Self>, Error> {
        let Some(process) = &record.sandbox else {
            return Ok(None);
        };
        let opened = process.open().map_err(call("opening the process"))?;
        let pid = process.pid;
        Ok(opened.map(|pidfd| Self { record, pid, pidfd }))
    }

    /// Its cgroup, where it was noted; none if it has ended meanwhile.
    ///
    /// # Errors
    /// [`Error::Control`].
    pub fn cgroup(&self) -> Result<Option<Cgroup>, Error> {
        let record = &self.record;
        match Cgroup::take_over_noted(&record.name, &record.cgroups) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(CgroupError::Absent { .. }) => Ok(None),
            Err(source) => Err(self.out_of_control(source.into())),
        }
    }

    /// The same of one that must not have ended.
    ///
    /// # Errors
    /// [`Error::Control`], [`Error::NoSandbox`].
    pub fn living_cgroup(&self) -> Result<Cgroup, Error> {
        let absent = || Error::NoSandbox(self.record.name.clone());
        self.cgroup()?.ok_or_else(absent)
    }

    /// It could not be handled.
    pub(super) fn out_of_control(&self, source: cloison_sandbox::Error) -> Error {
        Error::Control {
            name: self.record.name.clone(),
            source,
        }
    }
}
