//! What a careless caller leaves open in a sandbox: a log, and descriptors of
//! other things than files.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A log that is a file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// What stands in it.
    evidence: String,
}

impl Log {
    pub(super) fn make(directory: &Path, evidence: &str) -> io::Result<Self> {
        let log = Self {
            path: directory.join("log"),
            evidence: evidence.to_owned(),
        };
        log.set_back()?;
        fs::set_permissions(&log.path, Permissions::from_mode(0o600))?;
        Ok(log)
    }

    pub(super) fn set_back(&self) -> io::Result<()> {
        fs::write(&self.path, &self.evidence)
    }

    /// The end that a caller would hand in.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let file = File::options().append(true).open(&self.path)?;
        Ok(file.into())
    }

    pub(super) fn is_changed(&self) -> io::Result<bool> {
        Ok(fs::read(&self.path)? != self.evidence.as_bytes())
    }
}

/// Descriptors of other things than files.
#[derive(Debug)]
pub(super) struct Shared {
    /// Holds the secret.
    memory: OwnedFd,
    counter: EventFd,
    waits: Epoll,
    /// What it waits for, which only it tells.
    awaited: u64,
    events: Inotify,
    /// A file whose name is the secret.
    file: PathBuf,
}

impl Shared {
    pub(super) fn make(directory: &Path, secret: &str, awaited: u64) -> io::Result<Self> {
        let memory = memfd_create(c"canary", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::write(&memory, secret.as_bytes())?;
        let waits = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Another one than is counted with: it is always ready.
        let ready = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC)?;
        waits.add(&ready, EpollEvent::new(EpollFlags::EPOLLIN, awaited))?;
        std::mem::forget(ready);
        let watched = directory.join("watched");
        fs::create_dir(&watched)?;
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        events.add_watch(&watched, AddWatchFlags::IN_CREATE)?;
        let shared = Self {
            memory,
            counter: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            waits,
            awaited,
            events,
            file: watched.join(secret),
        };
        Ok(shared)
    }

    /// An event waits in the queue again, and nothing is counted.
    pub(super) fn set_back(&self) -> io::Result<()> {
        self.is_counted()?;
        if self.file.exists() {
            fs::remove_file(&self.file)?;
        }
        File::create(&self.file).map(drop)
    }

    pub(super) fn leaks(&self) -> io::Result<Vec<OwnedFd>> {
        [
            self.memory.as_fd(),
            self.counter.as_fd(),
            self.waits.0.as_fd(),
            self.events.as_fd(),
        ]
        .into_iter()
        .map(|shared| shared.try_clone_to_owned())
        .collect()
    }

    pub(super) fn awaited(&self) -> String {
        self.awaited.to_string()
    }

    /// Whether somebody counted since it was last asked.
    pub(super) fn is_counted(&self) -> io::Result<bool> {
        match self.counter.read() {
            Ok(count) => Ok(count > 0),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}
