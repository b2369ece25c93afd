//! Namespaces that the host makes beforehand and keeps: user and network.

mod id_mapping;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::host;
use cloison_linux::steps::{Op, Report};
use cloison_linux::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::spawner::{Asked, SpawnError, Spawned, ask, errno};
use crate::steps::{Sending, StepList};
use crate::{IdRange, Limits, proc_path};

pub use id_mapping::IdMapping;
pub(crate) use id_mapping::PendingIdMapping;

const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// The kinds of namespace that a sandbox's root may not make, by the name of
/// their limit.
///
/// Else a root inside makes a network namespace of his own and is
/// `CAP_NET_ADMIN` there.
const FORBIDDEN: [&str; 4] = ["user", "net", "pid", "time"];

/// Why a namespace could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The process that it is made with could not be made.
    #[error("no namespace was made")]
    Spawn(#[from] SpawnError),
    /// A step of making it failed.
    #[error("{step}: {errno}")]
    Step {
        /// What was being done.
        step: NamespaceStep,
        /// Why it failed.
        errno: Errno,
    },
}

/// A step of making a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceStep {
    /// Its `/proc` entry was opened.
    #[error("opening the namespace's /proc entry")]
    Open,
    /// Its ids were mapped.
    #[error("writing the map of ids")]
    Map,
    /// Its limits were set.
    #[error("setting the limits on namespaces in /proc/sys/user")]
    Limits,
    /// Its `lo` was set up.
    #[error("setting lo up")]
    Loopback,
}

impl NamespaceStep {
    fn failed(self) -> impl FnOnce(Errno) -> NamespaceError {
        move |errno| NamespaceError::Step { step: self, errno }
    }
}

/// A user namespace of the host's making: one range of ids, written once,
/// and no right to make further user, network, pid or time namespaces.
///
/// One a server. Its ids stay taken while it is held.
#[derive(Debug)]
pub struct UserNamespace {
    descriptor: OwnedFd,
    ids: IdRange,
    inotify: InotifyLimits,
}

/// What each user of a namespace may have of inotify(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InotifyLimits {
    pub(crate) instances_max: u64,
    pub(crate) watches_max: u64,
}

impl InotifyLimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            instances_max: limits.inotify_instances_max,
            watches_max: limits.inotify_watches_max,
        }
    }
}

impl UserNamespace {
    /// Makes one for `ids`, whose users have no more of inotify(7) than `limits`
    /// says.
    ///
    /// # Errors
    /// [`NamespaceError`].
    ///
    /// # Kernel
    /// 4.9 for the limits, `CONFIG_USER_NS`; the caller is root.
    ///
    /// # Source
    /// user_namespaces(7), namespaces(7) (`/proc/sys/user`)
    pub fn create(ids: IdRange, limits: &Limits) -> Result<Self, NamespaceError> {
        Self::begin(ids, limits)?.finish()
    }

    /// Begins to make one for `ids`: the spawner is asked, and its answer not
    /// waited for.
    ///
    /// # Errors
    /// As [`UserNamespace::create`].
    pub fn begin(ids: IdRange, limits: &Limits) -> Result<PendingUserNamespace, NamespaceError> {
        let inotify = InotifyLimits::of(limits);
        let limits = open(
            "/proc/sys/user",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(NamespaceStep::Limits.failed())?;
        let mut list = StepList::new(CLONE_NEWUSER);
        let slot = list.own(limits);
        list.push(None, Op::CloseOthers, []);
        list.push(None, Op::Wait, []);
        let none = list.text("0");
        for kind in FORBIDDEN {
            let name = list.text(format!("max_{kind}_namespaces"));
            list.push(
                None,
                Op::WriteBeneath,
                [slot.into(), name.into(), none.into()],
            );
        }
        for (name, most) in [
            ("max_inotify_instances", inotify.instances_max),
            ("max_inotify_watches", inotify.watches_max),
        ] {
            let name = list.text(name);
            let most = list.text(most.to_string());
            list.push(
                None,
                Op::WriteBeneath,
                [slot.into(), name.into(), most.into()],
            );
        }
        for kind in [CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWTIME] {
            list.push(None, Op::ExpectLimit, [kind.into()]);
        }
        list.push(None, Op::Report, []);
        list.push(None, Op::Wait, []);
        let asked = ask_for(&list)?;
        Ok(PendingUserNamespace {
            asked,
            ids,
            inotify,
        })
    }

    pub(crate) fn inotify(&self) -> InotifyLimits {
        self.inotify
    }

    /// The ids it maps.
    #[must_use]
    pub fn ids(&self) -> IdRange {
        self.ids
    }
}

/// A user namespace in the making. Dropped, none is made.
#[derive(Debug)]
pub struct PendingUserNamespace {
    asked: Asked,
    ids: IdRange,
    inotify: InotifyLimits,
}

impl PendingUserNamespace {
    /// Maps the ids and limits it.
    ///
    /// # Errors
    /// As [`UserNamespace::create`].
    pub fn finish(self) -> Result<UserNamespace, NamespaceError> {
        let Self {
            asked,
            ids,
            inotify,
        } = self;
        let maker = Maker::of(asked, NamespaceStep::Limits)?;
        let map = format!("0 {} {}\n", ids.first(), IdRange::COUNT);
        maker.write("gid_map", &map)?;
        maker.write("uid_map", &map)?;
        maker.go_on()?;
        maker.expect_report(NamespaceStep::Limits)?;
        let descriptor = maker.open("ns/user")?;
        Ok(UserNamespace {
            descriptor,
            ids,
            inotify,
        })
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A network namespace that the host owns, empty but for `lo`, which is up.
#[derive(Debug)]
pub struct NetworkNamespace {
    descriptor: OwnedFd,
}

impl NetworkNamespace {
    /// Makes one.
    ///
    /// # Errors
    /// [`NamespaceError`].
    ///
    /// # Kernel
    /// `CONFIG_NET_NS`; the caller is root.
    ///
    /// # Source
    /// network_namespaces(7)
    pub fn create() -> Result<Self, NamespaceError> {
        Self::begin()?.finish()
    }

    /// Begins to make one: the spawner is asked, and its answer not waited
    /// for.
    ///
    /// # Errors
    /// As [`NetworkNamespace::create`].
    pub fn begin() -> Result<PendingNetworkNamespace, NamespaceError> {
        let mut list = StepList::new(CLONE_NEWNET);
        list.push(None, Op::CloseOthers, []);
        list.push(None, Op::SetLoopbackUp, []);
        list.push(None, Op::Report, []);
        list.push(None, Op::Wait, []);
        let asked = ask_for(&list)?;
        Ok(PendingNetworkNamespace { asked })
    }

    /// The one that a sandbox was born in.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }
}

/// A network namespace in the making. Dropped, none stays.
#[derive(Debug)]
pub struct PendingNetworkNamespace {
    asked: Asked,
}

impl PendingNetworkNamespace {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// As [`NetworkNamespace::create`].
    pub fn finish(self) -> Result<NetworkNamespace, NamespaceError> {
        let maker = Maker::of(self.asked, NamespaceStep::Loopback)?;
        maker.expect_report(NamespaceStep::Loopback)?;
        let descriptor = maker.open("ns/net")?;
        Ok(NetworkNamespace { descriptor })
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Network namespaces made beforehand, for whoever launches often: making
/// one takes longer than the rest of a launch.
///
/// It lives in the calling process and starts no thread: fill it when there
/// is time. A namespace that was taken never comes back: it is not handed to
/// a second server.
#[derive(Debug, Default)]
pub struct NetworkPool {
    ready: Vec<NetworkNamespace>,
}

impl NetworkPool {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes as many as are missing to `count`.
    ///
    /// # Errors
    /// [`NamespaceError`]; those made stay.
    pub fn fill(&mut self, count: usize) -> Result<(), NamespaceError> {
        while self.ready.len() < count {
            self.ready.push(NetworkNamespace::create()?);
        }
        Ok(())
    }

    /// Hands one out, made now if none is ready.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub fn take(&mut self) -> Result<NetworkNamespace, NamespaceError> {
        match self.ready.pop() {
            Some(namespace) => Ok(namespace),
            None => NetworkNamespace::create(),
        }
    }

    /// How many are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether none is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

/// Asks for a process that makes a namespace.
fn ask_for(list: &StepList) -> Result<Asked, NamespaceError> {
    let block = list.finish();
    let descriptors = list.all_owned().collect();
    Ok(ask(&Sending {
        block: &block,
        descriptors,
    })?)
}

/// The process that a namespace is made with. It ends when this is dropped.
struct Maker {
    process: Spawned,
    directory: OwnedFd,
}

impl Maker {
    /// `step`: what it does first.
    fn of(asked: Asked, step: NamespaceStep) -> Result<Self, NamespaceError> {
        let process = asked.made()?;
        match proc_path::open_directory(process.pid, process.pidfd.as_fd()) {
            Ok(directory) => Ok(Self { process, directory }),
            // It has ended, and may have said why.
            Err(Errno::ESRCH | Errno::ENOENT) => Err(failure_of(&process, step)),
            Err(errno) => Err(NamespaceStep::Open.failed()(errno)),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), NamespaceError> {
        let failed = NamespaceStep::Map;
        let file = openat(
            &self.directory,
            file,
            OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed.failed())?;
        nix::unistd::write(&file, text.as_bytes()).map_err(failed.failed())?;
        Ok(())
    }

    fn open(&self, namespace: &str) -> Result<OwnedFd, NamespaceError> {
        openat(
            &self.directory,
            namespace,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(NamespaceStep::Open.failed())
    }

    fn go_on(&self) -> Result<(), NamespaceError> {
        nix::unistd::write(&self.process.report, b"1")
            .map_err(NamespaceStep::Open.failed())
            .map(|_| ())
    }

    fn expect_report(&self, step: NamespaceStep) -> Result<(), NamespaceError> {
        receive(&self.process).map_err(step.failed())
    }
}

/// Why a process that makes a namespace has ended.
fn failure_of(process: &Spawned, step: NamespaceStep) -> NamespaceError {
    let ended = receive(process).err().unwrap_or(Errno::ESRCH);
    step.failed()(ended)
}

/// Waits for a report that all is done.
fn receive(process: &Spawned) -> Result<(), Errno> {
    match host::receive_report(process.report.as_fd()) {
        Ok(Some(report)) if report.kind == Report::HELD => Ok(()),
        Ok(Some(report)) => Err(Errno::from_raw(report.errno)),
        Ok(None) => Err(Errno::ESRCH),
        Err(sys::Errno(number)) => Err(errno(sys::Errno(number))),
    }
}
