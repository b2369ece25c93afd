//! A sandbox that is written down by whoever launches it.

use std::fs::File;
use std::time::{Duration, Instant};

use cloison_sandbox::posture::Knowledge;
use cloison_sandbox::{ExecListener, Held, IdRange};
use nix::fcntl::Flock;

use super::{Process, Record, Runtime};
use crate::error::{Error, call};

/// How long a launcher that failed waits to strike out its record.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A name and a range of ids that are ours. Dropping it gives both back.
#[derive(Debug)]
pub struct Registration {
    pub(super) runtime: Runtime,
    pub(super) record: Record,
    pub(super) ids: IdRange,
    // Its lock is what keeps the range.
    pub(super) _range: Flock<File>,
    pub(super) is_over: bool,
}

impl Registration {
    /// The range of ids.
    #[must_use]
    pub fn ids(&self) -> IdRange {
        self.ids
    }

    /// The socket on which its init will listen.
    ///
    /// # Errors
    /// [`Error::ExecListener`].
    pub fn exec_listener(&self) -> Result<ExecListener, Error> {
        let path = Runtime::exec_path(&self.runtime.directory, &self.record.name);
        ExecListener::bind(&path).map_err(Error::ExecListener)
    }

    /// Writes down the sandbox itself, before it runs anything foreign.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`].
    pub fn note(&mut self, held: &Held) -> Result<(), Error> {
        let process = Process::find(held.pid().as_raw());
        self.record.sandbox = Some(process.map_err(call("reading the start time"))?);
        self.record.self_reported = held
            .posture()
            .facts()
            .filter(|fact| fact.known() == Knowledge::SelfReported)
            .map(|fact| (fact.field().name().to_owned(), fact.value().to_string()))
            .collect();
        self.record.cgroups = held.prepared().cgroup.membership();
        self.record.write(&self.runtime.directory)
    }

    /// Gives name and ids back. Nothing of the sandbox is left by now.
    /// Waits for the lock as [`Runtime::lock`] does; the next start gives back
    /// what this one did not.
    ///
    /// # Errors
    /// [`Error::Path`]; what `go_on` gives.
    pub fn finish<E: From<Error>>(mut self, go_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        self.remove(go_on)
    }

    /// Leaves the sandbox, which was started, to itself: from now on it is in
    /// use as long as it lives.
    ///
    /// # Errors
    /// [`Error::Path`]: the sandbox is to be ended then.
    pub fn leave(mut self) -> Result<(), Error> {
        self.record.is_started = true;
        let directory = &self.runtime.directory;
        self.record.write(directory)?;
        self.record.settle(directory)?;
        self.is_over = true;
        Ok(())
    }

    fn remove<E: From<Error>>(&mut self, go_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        if self.is_over {
            return Ok(());
        }
        self.is_over = true;
        let exclusive = self.runtime.lock(go_on)?;
        self.runtime
            .forget(&self.record.name, self.ids, &exclusive)?;
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The error that made us drop it is the one to tell of; the next
        // start sweeps what stays.
        let end = Instant::now() + LOCK_TIMEOUT;
        let path = self.runtime.directory.join("lock");
        let in_time = || {
            let is_in_time = Instant::now() < end;
            is_in_time.then_some(()).ok_or(Error::Locked(path.clone()))
        };
        match self.remove(in_time) {
            Ok(()) | Err(_) => {}
        }
    }
}
