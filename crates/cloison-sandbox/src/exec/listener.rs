//! The socket on which an init listens: made by the host, at a path of the
//! host that the sandbox does not see.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{ExecError, prepare};
use crate::spawner::set_deadline;
use crate::turn;

/// How many may wait for an init that is busy.
const BACKLOG: i32 = 16;

/// How long others may have the directory for themselves.
const TURN_DEADLINE: Duration = Duration::from_secs(1);

/// A socket on which the init of a sandbox will listen.
///
/// It is put into [`Prepared::exec`] before the launch and used again at each
/// restart. As long as the sandbox runs its init alone has the socket, so that
/// whoever asks learns at once when that has ended; the next launch makes
/// another at the same path, on which nothing waits that was asked before. Its
/// path goes away when this is dropped, but for one whose sandbox runs: then
/// another process finds it by its path.
///
/// [`Prepared::exec`]: crate::Prepared::exec
#[derive(Debug)]
pub struct ExecListener {
    /// `None`: a sandbox has it, or had.
    socket: Option<OwnedFd>,
    directory: OwnedFd,
    path: PathBuf,
    stays: bool,
}

impl ExecListener {
    /// Listens at `path`, in a directory that only its owner, this user, may
    /// enter: who can connect can start commands in the sandbox. A socket on
    /// which nobody listens any more, which a caller left that died, is
    /// replaced.
    ///
    /// # Errors
    /// [`ExecError::OpenDirectory`], [`ExecError::Listen`]: `EADDRINUSE` when
    /// the path is taken, `EWOULDBLOCK` when somebody has locked the directory
    /// for a second.
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
        let socket = listen_at(&directory, name).map_err(failed)?;
        Ok(Self {
            socket: Some(socket),
            directory,
            path: path.to_owned(),
            stays: false,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens anew if a sandbox has had the socket.
    pub(crate) fn renew(&mut self) -> Result<(), Errno> {
        if self.socket.is_none() {
            let name = self.path.file_name().ok_or(Errno::EINVAL)?;
            self.socket = Some(listen_at(&self.directory, name)?);
        }
        Ok(())
    }

    /// The socket, before a sandbox runs.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// A sandbox runs that listens on it.
    pub(crate) fn leave(&mut self) {
        self.socket = None;
        self.stays = true;
    }

    /// That sandbox has ended.
    pub(crate) fn take_back(&mut self) {
        self.stays = false;
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

/// A socket that listens there. Whoever makes one has the directory for himself
/// meanwhile: what does not listen yet is not taken for one that is left.
fn listen_at(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let _turn = turn::take(directory, TURN_DEADLINE)?;
    let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
    let address = address(directory, name)?;
    let remove = || unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
    match bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) if is_left(directory, name, &address)? => {
            remove()?;
            bind(socket.as_raw_fd(), &address)?;
        }
        bound => bound?,
    }
    match Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog)) {
        Ok(()) => Ok(socket),
        Err(errno) => {
            remove()?;
            Err(errno)
        }
    }
}

/// Whether a socket is there on which nobody listens any more.
fn is_left(directory: &OwnedFd, name: &OsStr, address: &UnixAddr) -> Result<bool, Errno> {
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Ok(false);
    }
    let asking = new_socket(SockFlag::SOCK_NONBLOCK)?;
    let asked = nix::sys::socket::connect(asking.as_raw_fd(), address);
    Ok(asked == Err(Errno::ECONNREFUSED))
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
