//! The caller's side of the spawner.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cloison_linux::message::{Answer, Place};
use cloison_linux::{PROGRAM, host};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::proc::fields::{decimal, lines};
use crate::steps::Sending;

/// How long the spawner, or a child, may take to answer and to take a request.
const ANSWER_DEADLINE_S: i64 = 10;

/// How often, and how far apart, a spawner that should end is looked at.
const END_LOOKS_MAX: u32 = 500;
const END_PAUSE: Duration = Duration::from_millis(1);

/// Why no child was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The spawner could not be started.
    #[error("the spawner could not be started: {0}")]
    Start(Errno),
    /// The spawner does not answer: it is stopped, or the host is far too
    /// busy.
    #[error(
        "the spawner did not answer within {} s: is it stopped?",
        ANSWER_DEADLINE_S
    )]
    Silent,
    /// The spawner ended before it answered, or could not answer. A spawner
    /// that has ended is replaced at the next launch.
    #[error("the spawner ended before it answered, or could not answer")]
    Gone,
    /// The plan is larger than a spawner takes: command and environment
    /// together may have about 120 KiB.
    #[error("command and environment are too large for one launch")]
    TooLarge,
    /// The spawner watches as many children as it can.
    #[error("the spawner watches as many sandboxes as it can: {0}")]
    Full(Errno),
    /// The process could not be made.
    #[error("the process could not be made: {0}")]
    Clone(Errno),
    /// The two sides do not understand each other.
    #[error("the spawner refused the request: {0}")]
    Protocol(Errno),
}

/// A process that a spawner made.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Where the status arrives; `None` when the caller is the parent.
    pub(crate) status: Option<OwnedFd>,
    /// The other end of the child's report.
    pub(crate) report: OwnedFd,
    /// What becomes of it when this is dropped.
    pub(crate) on_drop: OnDrop,
}

/// What becomes of a process when its handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// It lives on.
    Leave,
    /// It is ended, and is gone when the drop returns.
    End,
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Leave {
            return;
        }
        let pidfd = self.pidfd.as_fd();
        if host::send_signal(pidfd, Signal::SIGKILL as i32).is_ok() {
            let mut gone = [PollFd::new(pidfd, PollFlags::POLLIN)];
            // Nothing can be done about one that does not end: the next
            // start finds its cgroup and says so.
            let _ended = poll(&mut gone, PollTimeout::from(2000u16));
        }
        if self.status.is_none() {
            // The caller is the parent. An error: somebody else reaped it.
            let _reaped = waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED);
        }
    }
}

/// A running spawner.
#[derive(Debug)]
struct Spawner {
    socket: OwnedFd,
    process: Mutex<Child>,
    /// The process that started it: after a fork the copy's is another.
    owner: u32,
    /// Whether it has said how it got ready.
    ready: OnceLock<Result<(), SpawnError>>,
    /// The seccomp filters that it has of its caller, and so has all it makes.
    filters: u32,
}

/// The one global of this library: the descriptor of the spawner. It is
/// opened anew when the spawner has died and after a fork of the caller.
static SPAWNER: Mutex<Option<Arc<Spawner>>> = Mutex::new(None);

pub(crate) fn errno(errno: cloison_linux::sys::Errno) -> Errno {
    Errno::from_raw(errno.0)
}

/// The number of an error that the standard library gives for a call.
pub(crate) fn io_errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// A pair of sockets, ours and the other's. Nobody waits for ever at ours: the
/// other side may be stopped.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    set_deadline(&ours)?;
    Ok((ours, theirs))
}

/// Lets nobody wait for ever at `socket`.
pub(crate) fn set_deadline(socket: &OwnedFd) -> Result<(), Errno> {
    let deadline = TimeVal::seconds(ANSWER_DEADLINE_S);
    setsockopt(socket, sockopt::ReceiveTimeout, &deadline)?;
    setsockopt(socket, sockopt::SendTimeout, &deadline)
}

/// A sealed, anonymous copy of the static program, which only a root whom
/// the sandbox does not map may read.
///
/// It is made anew each time: a shared one would be an inode that tenants
/// share.
pub(crate) fn program(mode: u32) -> Result<OwnedFd, Errno> {
    let file = std::fs::File::from(host::executable_memfd(c"cloison").map_err(errno)?);
    let io = |error| io_errno(&error);
    (&file).write_all(PROGRAM).map_err(io)?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(io)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The same file at a descriptor that is none of a process's three streams.
fn above_streams(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    // The standard library never gives a copy one of these.
    file.try_clone().map_err(|error| io_errno(&error))
}

impl Spawner {
    fn start() -> Result<Self, SpawnError> {
        let (ours, theirs) = pair().map_err(SpawnError::Start)?;
        let filters = own_filters().map_err(SpawnError::Start)?;
        // The caller's 0, 1 and 2 may be closed: what stands there is replaced
        // before the program is executed.
        let program = program(0o111)
            .and_then(|program| above_streams(&program))
            .map_err(SpawnError::Start)?;
        let path = OsString::from(format!("/proc/self/fd/{}", program.as_raw_fd()));
        let process = Command::new(path)
            .arg0("cloison-spawner")
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| SpawnError::Start(io_errno(&error)))?;
        Ok(Self {
            socket: ours,
            process: Mutex::new(process),
            owner: std::process::id(),
            ready: OnceLock::new(),
            filters,
        })
    }

    /// Waits until it is ready.
    fn wait(&self) -> Result<(), SpawnError> {
        *self
            .ready
            .get_or_init(|| match host::receive_answer(self.socket.as_fd()) {
                Ok(Some((answer, _))) if answer.kind == Answer::READY => Ok(()),
                Ok(Some((answer, _))) => Err(SpawnError::Start(Errno::from_raw(answer.code))),
                Ok(None) => Err(SpawnError::Gone),
                Err(error) => Err(match errno(error) {
                    Errno::EAGAIN => SpawnError::Silent,
                    errno => SpawnError::Start(errno),
                }),
            })
    }

    /// Ends it and reaps it, so that no zombie stays. It ends by itself once it
    /// hears nobody, unless it is stopped: it is not waited for long.
    fn reap(&self) {
        if self.owner != std::process::id() {
            return;
        }
        // An error: it is not connected, since it has ended.
        let _ended = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..END_LOOKS_MAX {
            match process.try_wait() {
                Ok(None) => std::thread::sleep(END_PAUSE),
                // An error means that somebody else in this process has reaped
                // it.
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

/// How many seccomp filters the calling thread has: what it makes inherits
/// them.
pub(crate) fn own_filters() -> Result<u32, Errno> {
    let status = std::fs::read("/proc/thread-self/status").map_err(|error| io_errno(&error))?;
    // Before 5.9 there is no such line; nor is it looked for in the child.
    Ok(lines(&status)
        .find_map(|line| line.strip_prefix(b"Seccomp_filters:"))
        .and_then(|rest| decimal(rest.trim_ascii()))
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0))
}

/// The spawner of this process, ready; the one that `dead` names is replaced.
fn current(dead: Option<&Arc<Spawner>>) -> Result<Arc<Spawner>, SpawnError> {
    let spawner = started(dead)?;
    spawner.wait()?;
    Ok(spawner)
}

/// The same, perhaps not yet ready.
fn started(dead: Option<&Arc<Spawner>>) -> Result<Arc<Spawner>, SpawnError> {
    let mut global = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*global
        && spawner.owner == std::process::id()
        && !dead.is_some_and(|dead| Arc::ptr_eq(dead, spawner))
        && !matches!(spawner.ready.get(), Some(Err(_)))
    {
        return Ok(Arc::clone(spawner));
    }
    if let Some(spawner) = &*global {
        spawner.reap();
    }
    let spawner = Arc::new(Spawner::start()?);
    *global = Some(Arc::clone(&spawner));
    Ok(spawner)
}

/// Starts this process's spawner now, if none runs, and does not wait until it
/// is ready: then the first launch has not to wait for it either.
///
/// # Errors
/// [`SpawnError::Start`].
pub fn start_spawner() -> Result<(), SpawnError> {
    started(None).map(|_| ())
}

/// The process id of this process's spawner, if one runs: for tests that
/// end it.
#[doc(hidden)]
#[must_use]
pub fn spawner_pid() -> Option<u32> {
    let global = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let spawner = global.as_ref()?;
    let process = spawner
        .process
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    Some(process.id())
}

/// A request that the spawner has, and has not yet answered.
#[derive(Debug)]
pub(crate) struct Asked {
    status: OwnedFd,
    report: OwnedFd,
    filters: u32,
}

/// Asks the spawner for a child. Until [`Asked::made`] the caller can do
/// something else.
pub(crate) fn ask(sending: &Sending<'_>) -> Result<Asked, SpawnError> {
    if sending.block.len() * 8 > cloison_linux::steps::IMAGE_BYTES_MAX {
        return Err(SpawnError::TooLarge);
    }
    let (report, childs_report) = pair().map_err(SpawnError::Protocol)?;
    let (status, spawners_status) = pair().map_err(SpawnError::Protocol)?;
    let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(sending.descriptors.len() + 2);
    descriptors.push(childs_report.as_fd());
    descriptors.push(spawners_status.as_fd());
    descriptors.extend_from_slice(&sending.descriptors);

    let mut spawner = current(None)?;
    let send = |spawner: &Spawner| {
        host::send_request(spawner.socket.as_fd(), sending.block, &descriptors).map_err(errno)
    };
    match send(&spawner) {
        Ok(()) => {}
        Err(Errno::EPIPE | Errno::ECONNRESET) => {
            // It had ended before it took anything: ask another.
            spawner = current(Some(&spawner))?;
            send(&spawner).map_err(|_| SpawnError::Gone)?;
        }
        Err(Errno::EAGAIN) => return Err(SpawnError::Silent),
        Err(errno) => return Err(SpawnError::Protocol(errno)),
    }
    Ok(Asked {
        status,
        report,
        filters: spawner.filters,
    })
}

impl Asked {
    /// The seccomp filters that the child inherits.
    pub(crate) fn filters(&self) -> u32 {
        self.filters
    }

    /// Where the child will report, and can be sent to.
    pub(crate) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// The child, once it is made.
    pub(crate) fn made(self) -> Result<Spawned, SpawnError> {
        let Self { status, report, .. } = self;
        match host::receive_answer(status.as_fd()) {
            Ok(Some((answer, Some(pidfd)))) if answer.kind == Answer::MADE => Ok(Spawned {
                pid: answer.pid,
                pidfd,
                status: Some(status),
                report,
                on_drop: OnDrop::Leave,
            }),
            Ok(Some((answer, _))) if answer.kind == Answer::REFUSED => Err(refused(&answer)),
            Ok(None) => Err(SpawnError::Gone),
            Ok(Some(_)) => Err(SpawnError::Protocol(Errno::EPROTO)),
            Err(error) => Err(match errno(error) {
                Errno::EAGAIN => SpawnError::Silent,
                errno => SpawnError::Protocol(errno),
            }),
        }
    }
}

fn refused(answer: &Answer) -> SpawnError {
    let errno = Errno::from_raw(answer.code);
    if answer.detail == Place::Clone as i32 {
        SpawnError::Clone(errno)
    } else if answer.detail == Place::Table as i32 || answer.detail == Place::Watch as i32 {
        SpawnError::Full(errno)
    } else {
        SpawnError::Protocol(errno)
    }
}

/// Makes a child of the caller itself.
pub(crate) fn spawn_directly(sending: &Sending<'_>) -> Result<Spawned, SpawnError> {
    let (report, childs_report) = pair().map_err(SpawnError::Protocol)?;
    let made =
        host::make_child_directly(sending.block, &sending.descriptors, childs_report.as_fd());
    match made {
        Ok((pid, pidfd)) => Ok(Spawned {
            pid,
            pidfd,
            status: None,
            report,
            on_drop: OnDrop::Leave,
        }),
        Err(error) => Err(SpawnError::Clone(errno(error))),
    }
}
