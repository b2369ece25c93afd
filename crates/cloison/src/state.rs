//! A directory of state: each file is the old one or the new one, at any moment
//! and after any power cut, and is changed under one lock.
//!
//! A file is written beside itself, flushed, renamed, and its directory flushed.
//! It carries the version of its format and the host's own id.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, at};

/// The form of the files.
const FORMAT: u32 = 1;
/// Where a host says who it is.
///
/// # Source
/// machine-id(5)
const MACHINE_ID: &str = "/etc/machine-id";
/// What a file being written is called until it is whole.
const PART: &str = ".part";
const LOCK: &str = "lock";
/// The most that a file of state may hold.
const BYTES_MAX: u64 = 64 << 20;
/// Between two looks at a lock that somebody has.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A directory that only its owner, this user, can change.
#[derive(Debug)]
pub struct StateDirectory {
    directory: OwnedFd,
    path: PathBuf,
    host: String,
}

/// The right to change what is in a [`StateDirectory`].
#[derive(Debug)]
pub struct Exclusive(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

/// What stands around the content of each file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    format: u32,
    host: String,
    content: T,
}

/// As much of it as any format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl StateDirectory {
    /// Opens `path`, made if it is missing.
    ///
    /// # Errors
    /// [`Error::UnsafeState`] where others could change what is in it;
    /// [`Error::Path`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let host = std::fs::read_to_string(MACHINE_ID).map_err(at("reading", MACHINE_ID))?;
        Self::open_of(path, host.trim_end().to_owned())
    }

    /// The same of a host of that id.
    pub(crate) fn open_of(path: &Path, host: String) -> Result<Self, Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .create(path.parent().unwrap_or(Path::new("/")))
            .map_err(at("making", path))?;
        match mkdirat(AT_FDCWD, path, Mode::S_IRWXU) {
            Ok(()) => flush_parent(path)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(at("making", path)(errno.into())),
        }
        let directory = open_directory(AT_FDCWD, path).map_err(at("opening", path))?;
        let found = fstat(&directory).map_err(|errno| at("opening", path)(errno.into()))?;
        let reason = if found.st_uid != geteuid().as_raw() {
            Some("it belongs to another user")
        } else if found.st_mode & 0o022 != 0 {
            Some("others can write in it")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Error::UnsafeState {
                path: path.to_owned(),
                reason,
            });
        }
        Ok(Self {
            directory,
            path: path.to_owned(),
            host,
        })
    }

    /// The directory `name` in it, made if it is missing: another state of the
    /// same host, with a lock of its own.
    ///
    /// # Errors
    /// As [`StateDirectory::open`].
    pub fn below(&self, name: &str) -> Result<Self, Error> {
        Self::open_of(&self.path.join(name), self.host.clone())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Waits for the right to change something, as long as `go_on` gives no
    /// error and at most `patience`. A call that waits by itself would hear no
    /// signal.
    ///
    /// # Errors
    /// [`Error::Locked`] once `patience` is over; [`Error::Path`]; what `go_on`
    /// gives.
    pub fn lock<E: From<Error>>(
        &self,
        patience: Duration,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<Exclusive, E> {
        let path = self.path.join(LOCK);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let opened = openat(&self.directory, LOCK, flags, mode_of_files());
        let mut file = File::from(opened.map_err(|errno| at("opening", &path)(errno.into()))?);
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    // Whoever had it may have died before it flushed a name:
                    // what is read from here on is what a power cut leaves.
                    self.flush()?;
                    return Ok(Exclusive(lock));
                }
                Err((back, Errno::EINTR | Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(at("locking", path)(errno.into()).into()),
            }
            go_on()?;
            if start.elapsed() >= patience {
                return Err(Error::Locked(path).into());
            }
            thread::sleep(LOCK_PAUSE);
        }
    }

    /// What the file `name` holds; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Foreign`], [`Error::Torn`], [`Error::Path`].
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(at("opening", path)(errno.into())),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(at("reading", &path))?;
        self.parse(&path, &bytes).map(Some)
    }

    fn parse<T: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<T, Error> {
        let torn = |source| Error::Torn {
            path: path.to_owned(),
            source,
        };
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| torn(Some(error)))?;
        if format > FORMAT {
            return Err(Error::Newer {
                path: path.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        let envelope: Envelope<T> =
            serde_json::from_slice(bytes).map_err(|error| torn(Some(error)))?;
        if envelope.host != self.host {
            return Err(Error::Foreign {
                path: path.to_owned(),
            });
        }
        Ok(envelope.content)
    }

    /// Writes the file `name` whole: whoever reads it, now or after a power cut,
    /// finds what was in it before or this.
    ///
    /// # Errors
    /// [`Error::Path`]; the file is the old one then, or, if flushing its
    /// directory failed, one of the two.
    pub fn write<T: Serialize>(
        &self,
        _exclusive: &Exclusive,
        name: &str,
        content: &T,
    ) -> Result<(), Error> {
        let path = self.path.join(name);
        let envelope = Envelope {
            format: FORMAT,
            host: self.host.clone(),
            content,
        };
        let bytes = serde_json::to_vec_pretty(&envelope).map_err(|error| Error::Torn {
            path: path.clone(),
            source: Some(error),
        })?;
        let part = format!("{name}{PART}");
        let written = self
            .write_part(&part, &bytes)
            .and_then(|()| renameat(&self.directory, part.as_str(), &self.directory, name));
        if let Err(errno) = written {
            // Whoever writes it next replaces what stays of it.
            match unlinkat(&self.directory, part.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(_) => {}
            }
            return Err(at("writing", path)(errno.into()));
        }
        self.flush()
    }

    fn write_part(&self, part: &str, bytes: &[u8]) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_CLOEXEC
            | OFlag::O_NOFOLLOW;
        let mut file = File::from(openat(&self.directory, part, flags, mode_of_files())?);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)))
    }

    /// Removes the file `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn remove(&self, _exclusive: &Exclusive, name: &str) -> Result<(), Error> {
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            // Whoever removed it before may have died before that was flushed.
            Ok(()) | Err(Errno::ENOENT) => self.flush(),
            Err(errno) => Err(at("removing", self.path.join(name))(errno.into())),
        }
    }

    /// Waits until what was renamed and removed is on the disk.
    fn flush(&self) -> Result<(), Error> {
        nix::unistd::fsync(&self.directory).map_err(|errno| at("writing", &self.path)(errno.into()))
    }
}

/// Waits until a directory that was made is on the disk.
fn flush_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(at("writing", parent))
}

/// Readable by its owner alone.
fn mode_of_files() -> Mode {
    Mode::S_IRUSR | Mode::S_IWUSR
}

fn open_directory(beneath: impl std::os::fd::AsFd, path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let directory = openat(beneath, path, flags, Mode::empty())?;
    debug_assert!(fstat(&directory).is_ok_and(|found| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
    }));
    Ok(directory)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A directory of its own, gone with the value.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cloison-{name}-{}", std::process::id()));
            Self(path)
        }

        fn state(&self, host: &str) -> StateDirectory {
            StateDirectory::open_of(&self.0, host.to_owned()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            match std::fs::remove_dir_all(&self.0) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn exclusive(state: &StateDirectory) -> Exclusive {
        state.lock(Duration::ZERO, || Ok::<(), Error>(())).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_removed() {
        let place = Place::new("state");
        let state = place.state("here");
        assert_eq!(state.read::<u32>("a.json").unwrap(), None);
        let lock = exclusive(&state);
        state.write(&lock, "a.json", &7).unwrap();
        assert_eq!(state.read("a.json").unwrap(), Some(7));
        state.remove(&lock, "a.json").unwrap();
        assert_eq!(state.read::<u32>("a.json").unwrap(), None);
    }

    #[test]
    fn torn_foreign_and_newer_files_are_told_apart() {
        let place = Place::new("odd");
        let state = place.state("here");
        let lock = exclusive(&state);
        place
            .state("there")
            .write(&lock, "foreign.json", &7)
            .unwrap();
        let read = |name| state.read::<u32>(name).unwrap_err();
        assert!(matches!(read("foreign.json"), Error::Foreign { .. }));
        for (text, is_newer) in [
            ("", false),
            ("{\"format\":1,\"host\":\"here\",\"cont", false),
            ("{\"format\":1,\"host\":\"here\",\"content\":\"x\"}", false),
            ("{\"format\":2,\"new\":true}", true),
        ] {
            std::fs::write(place.0.join("odd.json"), text).unwrap();
            let error = read("odd.json");
            assert_eq!(
                matches!(error, Error::Newer { found: 2, .. }),
                is_newer,
                "{text}"
            );
            assert_eq!(matches!(error, Error::Torn { .. }), !is_newer, "{text}");
        }
    }

    #[test]
    fn lock_is_had_by_one() {
        let place = Place::new("lock");
        let (one, two) = (place.state("here"), place.state("here"));
        let held = exclusive(&one);
        let refused = two.lock(Duration::from_millis(5), || Ok::<(), Error>(()));
        assert!(matches!(refused, Err(Error::Locked(_))));
        drop(held);
        exclusive(&two);
    }

    #[test]
    fn directory_that_others_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("unsafe");
        place.state("here");
        std::fs::set_permissions(&place.0, std::fs::Permissions::from_mode(0o770)).unwrap();
        let refused = StateDirectory::open_of(&place.0, "here".to_owned());
        assert!(matches!(refused, Err(Error::UnsafeState { .. })));
    }
}
