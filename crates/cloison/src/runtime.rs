//! What runs now: one record a name, one lock a range of ids.
//!
//! Everything here changes under one lock, held for moments. A range's own
//! lock is held as long as its launcher keeps it; a sandbox that outlives its
//! launcher keeps it by its record. What died is swept at the next start, with
//! all that it left: so a range is never handed out while a process still has
//! its ids.

mod launch;
mod life;
mod process;
mod record;
mod registration;
mod running;
mod stop;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{Cgroup, CgroupError, Hierarchies, IdRange, SandboxName};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub use launch::Ground;
pub use life::{Life, MOVES, Move};
pub use process::Process;
pub use record::Record;
pub use registration::Registration;
pub use running::Running;
pub use stop::Ending;

use crate::error::{Error, at, call};

/// How long between two looks at a lock that somebody has.
const LOCK_PAUSE_MIN: Duration = Duration::from_millis(1);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(20);

/// Where records are when nothing else is said.
pub const DEFAULT: &str = "/run/cloison";

/// Where the inits of sandboxes listen.
const EXEC: &str = "exec";

/// A directory that only its owner, this user, can change.
#[derive(Debug)]
pub struct Runtime {
    directory: PathBuf,
}

/// Which ids a sandbox is to have.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// These.
    Ids(IdRange),
    /// The first of these that nobody has.
    OneOf(&'a [IdRange]),
}

/// Until when a sandbox runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Until its launcher has ended: whoever starts next ends it then.
    Launcher,
    /// Until it ends by itself or is ended.
    Itself,
}

/// The right to change what is in a [`Runtime`].
#[derive(Debug)]
pub struct RuntimeLock(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

impl Runtime {
    /// Opens `directory`, made if it is missing.
    ///
    /// # Errors
    /// [`Error::UnsafeState`] where others could change what is in it;
    /// [`Error::Path`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
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
    #[must_use]
    pub fn exec_path(directory: &Path, name: &SandboxName) -> PathBuf {
        directory.join(EXEC).join(name.as_str())
    }

    /// What is written down of `name`, whether or not it lives.
    ///
    /// # Errors
    /// [`Error::Torn`], [`Error::Path`].
    pub fn written_of(directory: &Path, name: &SandboxName) -> Result<Option<Record>, Error> {
        Record::of(directory, name)
    }

    /// Every record, by name.
    ///
    /// # Errors
    /// [`Error::Torn`], [`Error::Path`].
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let failed = || at("listing", self.directory.as_path());
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if !record::is_one(&path) {
                continue;
            }
            match Record::read(&path) {
                Ok(record) => records.push(record),
                // It went away meanwhile.
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// The same directory once more.
    fn again(&self) -> Result<Self, Error> {
        Self::open(&self.directory)
    }

    /// Waits for the lock, and not for ever.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Path`].
    pub fn lock_for(&self, patience: Duration) -> Result<RuntimeLock, Error> {
        let end = Instant::now() + patience;
        self.lock(|| {
            let is_in_time = Instant::now() < end;
            let locked = || Error::Locked(self.directory.join("lock"));
            is_in_time.then_some(()).ok_or_else(locked)
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down that this process is ending the sandbox of `record`.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`].
    pub fn note_stopping(&self, _exclusive: &RuntimeLock, record: &Record) -> Result<(), Error> {
        let mut record = record.clone();
        let own = Process::find(nix::unistd::getpid().as_raw());
        record.stopped_by = Some(own.map_err(call("reading our own start time"))?);
        record.write(&self.directory)
    }

    /// Removes what is left of a sandbox that has ended, and forgets it.
    ///
    /// # Errors
    /// [`Error::Remains`], [`Error::Path`], [`Error::System`].
    pub fn forget_ended(&self, exclusive: &RuntimeLock, record: &Record) -> Result<(), Error> {
        self.bury(record)?;
        self.forget(&record.name, record.ids, exclusive)
    }

    /// Removes what dead launchers left.
    ///
    /// # Errors
    /// [`Error::Remains`], [`Error::Torn`], [`Error::Path`]; what `go_on` gives.
    pub fn tidy<E: From<Error>>(&self, go_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let exclusive = self.lock(go_on)?;
        self.sweep(&exclusive)?;
        Ok(())
    }

    /// The record of `name`, if its launcher lives or its sandbox does.
    ///
    /// # Errors
    /// [`Error::NoState`], [`Error::Torn`], [`Error::Path`].
    pub fn find(directory: &Path, name: &SandboxName) -> Result<Option<Record>, Error> {
        if let Some(record) = Record::of(directory, name)? {
            let is_there = record.sandbox_lives()? || record.launcher_lives()?;
            return Ok(is_there.then_some(record));
        }
        // Before the first launch the usual one is not there. Another is
        // mistyped.
        if directory != Path::new(DEFAULT) && !directory.is_dir() {
            return Err(Error::NoState(directory.to_owned()));
        }
        Ok(None)
    }

    /// The record of the sandbox whose process 1 is `pid`, if there is one.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`].
    pub fn find_process(directory: &Path, pid: i32) -> Result<Option<Record>, Error> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(at("listing", directory))?,
        };
        for entry in entries {
            let path = entry.map_err(at("listing", directory))?.path();
            if !record::is_one(&path) {
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
    ///
    /// # Errors
    /// [`Error::RunsAlready`], [`Error::IdsTaken`], [`Error::RangesExhausted`];
    /// [`Error::Remains`], [`Error::Torn`], [`Error::Path`].
    pub fn register(
        self,
        exclusive: RuntimeLock,
        name: &SandboxName,
        wanted: Wanted<'_>,
        keeper: Keeper,
        hierarchies: &Hierarchies,
    ) -> Result<Registration, Error> {
        let living = self.sweep(&exclusive)?;
        if let Some(record) = Record::of(&self.directory, name)? {
            if record.counts()? {
                return Err(Error::RunsAlready {
                    name: name.clone(),
                    launcher: record.launcher.pid,
                });
            }
            // It has ended, and nobody has asked how.
            self.forget_ended(&exclusive, &record)?;
        }
        let in_use = |range: &IdRange| living.iter().any(|record| record.ids == *range);
        let (ids, range) = match wanted {
            Wanted::Ids(range) if in_use(&range) || self.is_held(range)? => {
                return Err(Error::IdsTaken(range));
            }
            Wanted::Ids(range) => (range, self.take(range)?.ok_or(Error::IdsTaken(range))?),
            Wanted::OneOf(ranges) => self.take_free(ranges, in_use)?,
        };
        let written = Record::new(
            name.clone(),
            ids,
            keeper == Keeper::Itself,
            Cgroup::places(hierarchies, name),
        )
        .and_then(|record| record.write(&self.directory).map(|()| record));
        let written = written.and_then(|record| {
            let path = self.range_path(ids);
            fs::write(&path, name.as_str()).map_err(at("writing", path))?;
            Ok(record)
        });
        match written {
            // Made only now: dropping one takes the lock that is held here.
            Ok(record) => Ok(Registration {
                runtime: self,
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
        _exclusive: &RuntimeLock,
    ) -> Result<(), Error> {
        remove(&Self::exec_path(&self.directory, name))?;
        remove(&record::path(&self.directory, name))?;
        remove(&record::settled_path(&self.directory, name))?;
        remove(&self.range_path(ids))
    }

    /// Whether a sandbox that needs nobody has `range`: the file of the range
    /// says which it would be.
    fn is_held(&self, range: IdRange) -> Result<bool, Error> {
        let path = self.range_path(range);
        let name = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            name => name.map_err(at("reading", path))?,
        };
        let Ok(name) = SandboxName::new(name) else {
            return Ok(false);
        };
        let record = Record::of(&self.directory, &name)?;
        let held = record.filter(|record| record.ids == range);
        held.map_or(Ok(false), |record| record.counts())
    }

    fn take_free(
        &self,
        ranges: &[IdRange],
        in_use: impl Fn(&IdRange) -> bool,
    ) -> Result<(IdRange, Flock<File>), Error> {
        for range in ranges.iter().copied().filter(|range| !in_use(range)) {
            if let Some(lock) = self.take(range)? {
                return Ok((range, lock));
            }
        }
        Err(Error::RangesExhausted)
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
    ///
    /// # Errors
    /// [`Error::Path`]; what `go_on` gives.
    pub fn lock<E: From<Error>>(
        &self,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<RuntimeLock, E> {
        let path = self.directory.join("lock");
        let mut file = open_lock(&path)?;
        let mut pause = LOCK_PAUSE_MIN;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(RuntimeLock(lock)),
                Err((back, Errno::EINTR | Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(at("locking", path)(errno.into()).into()),
            }
            go_on()?;
            thread::sleep(pause);
            pause = LOCK_PAUSE_MAX.min(pause * 2);
        }
    }

    /// Removes what dead launchers left; gives the records of the living among
    /// those that are not settled.
    fn sweep(&self, _exclusive: &RuntimeLock) -> Result<Vec<Record>, Error> {
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
            if path.extension().is_none_or(|end| end != record::OPEN) {
                continue;
            }
            let record = match Record::read(&path) {
                // Its launcher settled it meanwhile.
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                record => record?,
            };
            if record.stays && record.is_started {
                // Its launcher died between two words.
                record.settle(&self.directory)?;
            } else if record.counts()? {
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
