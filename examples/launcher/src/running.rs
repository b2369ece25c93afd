//! A sandbox that runs, found by its name.

use std::os::fd::OwnedFd;
use std::path::Path;

use cloison_sandbox::{Cgroup, SandboxName};

use crate::error::{Error, call};
use crate::state::{Record, State};

/// What is written down of a sandbox, and its process 1, which cannot be
/// another's.
pub(crate) struct Running {
    pub(crate) record: Record,
    pub(crate) pidfd: OwnedFd,
}

impl Running {
    /// The sandbox `name`, if it runs.
    pub(crate) fn find(directory: &Path, name: &SandboxName) -> Result<Self, Error> {
        let absent = || Error::NoSandbox(name.clone());
        let record = State::find(directory, name)?.ok_or_else(absent)?;
        if !record.is_of_this_boot()? {
            return Err(absent());
        }
        let process = record.sandbox.as_ref().ok_or_else(absent)?;
        let opened = process.open().map_err(call("opening the process"))?;
        let pidfd = opened.ok_or_else(absent)?;
        Ok(Self { record, pidfd })
    }

    /// Its cgroup, where it was noted.
    pub(crate) fn cgroup(&self) -> Result<Cgroup, Error> {
        let record = &self.record;
        Cgroup::take_over_noted(&record.name, &record.cgroups)
            .map_err(|source| self.out_of_control(source.into()))
    }

    /// It could not be handled.
    pub(crate) fn out_of_control(&self, source: cloison_sandbox::Error) -> Error {
        Error::Control {
            name: self.record.name.clone(),
            source,
        }
    }
}
