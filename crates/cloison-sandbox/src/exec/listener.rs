//! The socket on which an init listens: made by the host, at a path of the
//! host that the sandbox does not see.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{ExecError, prepare};
use crate::spawner::set_deadline;

/// How many may wait for an init that is busy.
const BACKLOG: i32 = 16;

/// A socket on which the init of a sandbox will listen.
///
/// It is put into [`Prepared::exec`] before the launch and used again at each
/// restart. Its path goes away when it is dropped, but for one whose sandbox
/// runs: then another process finds it by its path.
///
/// [`Prepared::exec`]: crate::Prepared::exec
#[derive(Debug)]
pub struct ExecListener {
    socket: OwnedFd,
    directory: OwnedFd,
    path: PathBuf,
    stays: bool,
}

impl ExecListener {
    /// Listens at `path`, in a directory that only its owner, this user, may
    /// enter: who can connect can start commands in the sandbox.
    ///
    /// # Errors
    /// [`ExecError::OpenDirectory`], [`ExecError::Listen`]: `EADDRINUSE` when
    /// the path is taken.
    ///
    /// # Source
    /// unix(7), `SOCK_SEQPACKET`
    pub fn bind(path: &Path) -> Result<Self, ExecError> {
        let failed = |errno| ExecError::Listen {
            path: path.to_owned(),
            errno,
        };
        let (directory, name) = split(path).map_err(failed)?;
        let status = fstat(&directory).map_err(failed)?;
        if status.st_uid != nix::unistd::geteuid().as_raw() || status.st_mode & 0o077 != 0 {
            let parent = path.parent().unwrap_or(Path::new(".")).to_owned();
            return Err(ExecError::OpenDirectory(parent));
        }
        let socket = new_socket(SockFlag::SOCK_NONBLOCK).map_err(failed)?;
        let address = address(&directory, name).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let listener = Self {
            socket,
            directory,
            path: path.to_owned(),
            stays: false,
        };
        let backlog = Backlog::new(BACKLOG).map_err(failed)?;
        listen(&listener.socket, backlog).map_err(failed)?;
        Ok(listener)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A sandbox runs that listens on it.
    pub(crate) fn leave(&mut self) {
        self.stays = true;
    }

    /// That sandbox has ended.
    pub(crate) fn take_back(&mut self) {
        self.stays = false;
    }
}

impl AsFd for ExecListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ExecListener {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        if let Some(name) = self.path.file_name() {
            // Nobody to tell; a path that stays refuses the next one.
            let _removed = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// A connection to whoever listens at `path`. Nobody waits for ever on it.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, ExecError> {
    let failed = |errno| ExecError::Connect {
        path: path.to_owned(),
        errno,
    };
    let (directory, name) = split(path).map_err(failed)?;
    let socket = new_socket(SockFlag::empty()).map_err(prepare("a socket"))?;
    set_deadline(&socket).map_err(prepare("a socket"))?;
    let address = address(&directory, name).map_err(failed)?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(socket),
        Err(Errno::EAGAIN) => Err(ExecError::Deadline),
        Err(errno) => Err(failed(errno)),
    }
}

fn new_socket(flags: SockFlag) -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        flags | SockFlag::SOCK_CLOEXEC,
        None,
    )
}

fn split(path: &Path) -> Result<(OwnedFd, &OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok((open(parent, flags, Mode::empty())?, name))
}

/// By the directory's descriptor: an address has room for 107 bytes, and a
/// state directory may lie deep.
fn address(directory: &OwnedFd, name: &OsStr) -> Result<UnixAddr, Errno> {
    let path = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    UnixAddr::new(&path)
}
