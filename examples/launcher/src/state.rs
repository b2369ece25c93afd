//! What runs now: one record a name, one lock a range of ids.
//!
//! Everything here changes under one lock, held for moments. A range's own
//! lock is held as long as its sandbox. The record of a launcher that died is
//! swept at the next start, with all that its sandbox left: so a range is
//! never handed out while a process still has its ids.

mod process;
mod record;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cloison::{Block, Pool};
use cloison_sandbox::posture::Knowledge;
use cloison_sandbox::{Cgroup, CgroupError, ExecListener, Held, Hierarchies, IdRange, SandboxName};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub(crate) use process::Process;
pub(crate) use record::Record;

use crate::error::{Error, at, call};

/// How long between two looks at a lock that somebody has.
const LOCK_PAUSE_MIN: Duration = Duration::from_millis(1);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(20);
/// How long a launcher that failed waits to strike out its record.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Where records are when nothing else is said.
pub(crate) const DEFAULT: &str = "/run/cloison";

/// Where the inits of sandboxes listen.
const EXEC: &str = "exec";

/// A directory that only its owner, this user, can change.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
}

/// The right to change what is in a [`State`].
#[derive(Debug)]
pub(crate) struct Exclusive(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

/// A name and a range of ids that are ours. Dropping it gives both back.
#[derive(Debug)]
pub(crate) struct Registration {
    state: State,
    record: Record,
    ids: IdRange,
    // Its lock is what keeps the range.
    _range: Flock<File>,
    is_over: bool,
}

/// What a sandbox that is no tenant's may have of a pool.
#[derive(Debug)]
pub(crate) struct Free {
    pub(crate) pool: Pool,
    /// The blocks of tenants.
    pub(crate) owned: Vec<Block>,
}

impl Free {
    fn ranges(&self) -> impl Iterator<Item = IdRange> {
        let is_owned = |range: &IdRange| {
            let mut owned = self.owned.iter();
            owned.any(|block| block.slot_of(range.first()).is_some())
        };
        self.pool.ranges().filter(move |range| !is_owned(range))
    }
}

impl State {
    /// Opens `directory`, made if it is missing.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(at("making", path))
        };
        make(directory)?;
        let found = fs::symlink_metadata(directory).map_err(at("opening", directory))?;
        let reason = if !found.is_dir() {
            Some("it is not a directory")
        } else if found.uid() != nix::unistd::geteuid().as_raw() {
            Some("it belongs to another user")
        } else if found.mode() & 0o022 != 0 {
            Some("others can write in it")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Error::UnsafeState {
                path: directory.to_owned(),
                reason,
            });
        }
        make(&directory.join("ids"))?;
        make(&directory.join(EXEC))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Where the init of `name` listens for commands.
    pub(crate) fn exec_path(directory: &Path, name: &SandboxName) -> PathBuf {
        directory.join(EXEC).join(name.as_str())
    }

    /// Who launched `name`, as long as that is written down.
    pub(crate) fn launcher_of(
        directory: &Path,
        name: &SandboxName,
    ) -> Result<Option<Process>, Error> {
        match Record::read(&record::path(directory, name)) {
            Ok(record) => Ok(Some(record.launcher)),
            Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what dead launchers left.
    pub(crate) fn tidy(&self, go_on: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let exclusive = self.lock(go_on)?;
        self.sweep(&exclusive).map(drop)
    }

    /// The record of `name`, if its launcher lives or its sandbox does.
    pub(crate) fn find(directory: &Path, name: &SandboxName) -> Result<Option<Record>, Error> {
        let path = record::path(directory, name);
        match Record::read(&path) {
            Ok(record) => {
                let counts = record.sandbox_lives()? || record.launcher_lives()?;
                Ok(counts.then_some(record))
            }
            Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // Before the first launch the usual one is not there. Another
                // is mistyped.
                if directory != Path::new(DEFAULT) && !directory.is_dir() {
                    return Err(Error::NoState(directory.to_owned()));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The records of all that lives.
    pub(crate) fn living(directory: &Path) -> Result<Vec<Record>, Error> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at("listing", directory))?,
        };
        let mut living = Vec::new();
        for entry in entries {
            let path = entry.map_err(at("listing", directory))?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            match Record::read(&path) {
                Ok(record) if record.sandbox_lives()? || record.launcher_lives()? => {
                    living.push(record);
                }
                Ok(_) => {}
                // It went away meanwhile.
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(living)
    }

    /// The record of the sandbox whose process 1 is `pid`, if there is one.
    pub(crate) fn find_process(directory: &Path, pid: i32) -> Result<Option<Record>, Error> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(at("listing", directory))?,
        };
        for entry in entries {
            let path = entry.map_err(at("listing", directory))?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            match Record::read(&path) {
                Ok(record) if record.is_of(pid) && record.sandbox_lives()? => {
                    return Ok(Some(record));
                }
                // One that went away meanwhile, or is damaged, says nothing
                // of this process.
                Ok(_) | Err(Error::Path { .. } | Error::Torn { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes `name` and a range of ids: `wanted`, or a free one of the pool.
    /// Where the cgroup will be is written down before it is made: whoever
    /// starts next, in whatever cgroup, finds it.
    pub(crate) fn register(
        self,
        exclusive: Exclusive,
        name: &SandboxName,
        wanted: Option<IdRange>,
        pool: &Free,
        hierarchies: &Hierarchies,
    ) -> Result<Registration, Error> {
        let living = self.sweep(&exclusive)?;
        if let Some(record) = living.iter().find(|record| record.name == *name) {
            return Err(Error::NameTaken {
                name: name.clone(),
                launcher: record.launcher.pid,
            });
        }
        let in_use = |range: &IdRange| living.iter().any(|record| record.ids == *range);
        let (ids, range) = match wanted {
            Some(range) if in_use(&range) => return Err(Error::IdsTaken(range)),
            Some(range) => (range, self.take(range)?.ok_or(Error::IdsTaken(range))?),
            None => self.take_free(pool, in_use)?,
        };
        let written = Record::new(name.clone(), ids, Cgroup::places(hierarchies, name))
            .and_then(|record| record.write(&self.directory).map(|()| record));
        match written {
            // Made only now: dropping one takes the lock that is held here.
            Ok(record) => Ok(Registration {
                state: self,
                record,
                ids,
                _range: range,
                is_over: false,
            }),
            Err(error) => {
                // The next start sweeps what stays.
                match self.forget(name, ids, &exclusive) {
                    Ok(()) | Err(_) => {}
                }
                Err(error)
            }
        }
    }

    /// Removes what is written down and locked for `name`.
    fn forget(
        &self,
        name: &SandboxName,
        ids: IdRange,
        _exclusive: &Exclusive,
    ) -> Result<(), Error> {
        remove(&Self::exec_path(&self.directory, name))?;
        remove(&record::path(&self.directory, name))?;
        remove(&self.range_path(ids))
    }

    fn take_free(
        &self,
        pool: &Free,
        in_use: impl Fn(&IdRange) -> bool,
    ) -> Result<(IdRange, Flock<File>), Error> {
        for range in pool.ranges().filter(|range| !in_use(range)) {
            if let Some(lock) = self.take(range)? {
                return Ok((range, lock));
            }
        }
        Err(Error::PoolExhausted)
    }

    /// The lock of `range`, unless somebody has it.
    fn take(&self, range: IdRange) -> Result<Option<Flock<File>>, Error> {
        let path = self.range_path(range);
        match Flock::lock(open_lock(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(at("locking", path)(errno.into())),
        }
    }

    fn range_path(&self, range: IdRange) -> PathBuf {
        self.directory.join("ids").join(range.first().to_string())
    }

    /// Waits for the lock as long as `go_on` gives no error. A call that
    /// waits by itself would hear no signal.
    pub(crate) fn lock(
        &self,
        mut go_on: impl FnMut() -> Result<(), Error>,
    ) -> Result<Exclusive, Error> {
        let path = self.directory.join("lock");
        let mut file = open_lock(&path)?;
        let mut pause = LOCK_PAUSE_MIN;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Exclusive(lock)),
                Err((back, Errno::EINTR | Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(at("locking", path)(errno.into())),
            }
            go_on()?;
            thread::sleep(pause);
            pause = LOCK_PAUSE_MAX.min(pause * 2);
        }
    }

    /// Removes what dead launchers left; gives the records of the living.
    fn sweep(&self, _exclusive: &Exclusive) -> Result<Vec<Record>, Error> {
        let failed = || at("listing", self.directory.as_path());
        let mut living = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let path = entry.path();
            // Not made by this program, whatever its name.
            if entry.file_type().map_err(failed())?.is_dir() {
                continue;
            }
            if path.extension().is_some_and(|end| end == "part") {
                remove(&path)?;
            }
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let record = Record::read(&path)?;
            if record.launcher_lives()? {
                living.push(record);
            } else {
                self.bury(&record)?;
                remove(&path)?;
            }
        }
        Ok(living)
    }

    /// Ends what is left of a sandbox whose launcher died, and removes it.
    fn bury(&self, record: &Record) -> Result<(), Error> {
        if record.is_of_this_boot()? {
            if let Some(process) = &record.sandbox {
                process
                    .kill()
                    .map_err(call("ending a sandbox that lost its launcher"))?;
            }
            let remains = |source| Error::Remains {
                name: record.name.clone(),
                source,
            };
            match Cgroup::take_over_noted(&record.name, &record.cgroups) {
                Ok(mut cgroup) => cgroup
                    .kill()
                    .and_then(|()| cgroup.remove())
                    .map_err(remains)?,
                Err(CgroupError::Absent { .. }) => {}
                Err(error) => return Err(remains(error)),
            }
        }
        remove(&Self::exec_path(&self.directory, &record.name))?;
        remove(&self.range_path(record.ids))
    }
}

impl Registration {
    /// The range of ids.
    pub(crate) fn ids(&self) -> IdRange {
        self.ids
    }

    /// The socket on which its init will listen.
    pub(crate) fn exec_listener(&self) -> Result<ExecListener, Error> {
        let path = State::exec_path(&self.state.directory, &self.record.name);
        ExecListener::bind(&path).map_err(Error::ExecListener)
    }

    /// Writes down the sandbox itself, before it runs anything foreign.
    pub(crate) fn note(&mut self, held: &Held) -> Result<(), Error> {
        let process = Process::find(held.pid().as_raw());
        self.record.sandbox = Some(process.map_err(call("reading the start time"))?);
        self.record.self_reported = held
            .posture()
            .facts()
            .filter(|fact| fact.known() == Knowledge::SelfReported)
            .map(|fact| (fact.field().name().to_owned(), fact.value().to_string()))
            .collect();
        self.record.cgroups = held.prepared().cgroup.membership();
        self.record.write(&self.state.directory)
    }

    /// Gives name and ids back. Nothing of the sandbox is left by now.
    /// Waits for the lock as [`State::lock`] does; the next start gives back
    /// what this one did not.
    pub(crate) fn finish(mut self, go_on: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        self.remove(go_on)
    }

    fn remove(&mut self, go_on: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        if self.is_over {
            return Ok(());
        }
        self.is_over = true;
        let exclusive = self.state.lock(go_on)?;
        self.state.forget(&self.record.name, self.ids, &exclusive)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The error that made us drop it is the one to tell of; the next
        // start sweeps what stays.
        let end = Instant::now() + LOCK_TIMEOUT;
        let path = self.state.directory.join("lock");
        let in_time = || {
            let is_in_time = Instant::now() < end;
            is_in_time.then_some(()).ok_or(Error::Locked(path.clone()))
        };
        match self.remove(in_time) {
            Ok(()) | Err(_) => {}
        }
    }
}

fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(at("opening", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", path)(error)),
        _ => Ok(()),
    }
}
