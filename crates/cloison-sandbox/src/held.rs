//! A sandbox with every layer on, before its command is executed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::host;
use cloison_linux::steps::Report;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::error::Error;
use crate::plan::{Plan, Prepared, describe};
use crate::posture::{Posture, SelfReport, Vantage};
use crate::sandbox::Sandbox;
use crate::spawner::{OnDrop, Spawned, errno};
use crate::steps::StepList;

/// How long a child may take to get ready.
const READY_DEADLINE_MS: i64 = 10_000;

/// A sandbox with every layer on and its command not yet executed.
///
/// Holding one tells you that its posture was read back and is what the plan
/// expected. It ends in [`Held::start`]; dropping it undoes all.
#[derive(Debug)]
pub struct Held {
    // The first field: dropping it ends the process, which must be gone
    // before `prepared` can remove its cgroup.
    spawned: Spawned,
    list: StepList,
    expected: Posture,
    posture: Posture,
    report: SelfReport,
    prepared: Prepared,
    terminal: Option<OwnedFd>,
    credentials: OwnedFd,
    has_init: bool,
    /// What takes time to let go of: see [`Observer::mount_namespace`].
    unhurried: Vec<OwnedFd>,
}

impl Held {
    /// Waits for the child to be ready, reads it back and compares.
    pub(crate) fn check(plan: Plan, mut spawned: Spawned) -> Result<Self, Error> {
        // From here on a failure ends it.
        spawned.on_drop = OnDrop::End;
        let mut held = Self {
            spawned,
            list: plan.list,
            expected: plan.expected,
            posture: Posture::new(),
            report: SelfReport::default(),
            prepared: plan.prepared,
            terminal: plan.terminal,
            credentials: plan.credentials,
            has_init: plan.has_init,
            unhurried: Vec::with_capacity(2),
        };
        held.read_back()?;
        Ok(held)
    }

    /// What encloses it, as it was read back.
    #[must_use]
    pub fn posture(&self) -> &Posture {
        &self.posture
    }

    /// Its process id in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.spawned.pid)
    }

    /// What was made for it beforehand.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The writable side of its `/run/credentials`: the sandbox has a
    /// read-only one.
    #[must_use]
    pub fn credentials(&self) -> BorrowedFd<'_> {
        self.credentials.as_fd()
    }

    /// The other side of its terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Lets it execute its command.
    ///
    /// # Errors
    /// [`Error::Step`] when the command could not be executed (with an init
    /// that is only told by the exit code 126 or 127), [`Error::Died`],
    /// [`Error::Deadline`]. All is undone.
    pub fn start(mut self) -> Result<Sandbox, Error> {
        match nix::unistd::write(&self.spawned.report, b"1") {
            Ok(_) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Died),
            Err(errno) => return Err(self.failed(errno)),
        }
        // Meanwhile: some of these are the last hold on a mount of the staged
        // namespace, which takes time to let go.
        self.list.close_descriptors();
        // End of file: the socket went away with the exec.
        if self.receive()?.is_some() {
            return Err(Error::Died);
        }
        self.spawned.on_drop = OnDrop::Leave;
        self.unhurried.push(self.credentials);
        Ok(Sandbox::started(
            self.spawned,
            self.expected,
            self.report,
            self.prepared,
            self.has_init,
            self.unhurried,
        ))
    }

    fn read_back(&mut self) -> Result<(), Error> {
        let deadline = TimeVal::milliseconds(READY_DEADLINE_MS);
        setsockopt(&self.spawned.report, sockopt::ReceiveTimeout, &deadline)
            .map_err(|errno| self.failed(errno))?;
        // While the child is busy with its steps.
        let observer = Observer::new(self.spawned.pid)?;
        self.unhurried
            .extend(observer.mount_namespace(self.spawned.pid));
        let report = self.receive()?.ok_or(Error::Died)?;
        self.unhurried
            .extend(observer.mount_namespace(self.spawned.pid));
        self.report = self_report(&report);
        self.posture = observer.read(&self.spawned, Some(&self.report))?;
        let differences = self.posture.differences(&self.expected);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(Error::PostureDiffers(differences))
        }
    }

    fn receive(&self) -> Result<Option<Report>, Error> {
        match host::receive_report(self.spawned.report.as_fd()) {
            Ok(Some(report)) if report.kind == Report::FAILED => Err(self.step_failed(&report)),
            Ok(report) => Ok(report),
            Err(error) => match errno(error) {
                Errno::EAGAIN => Err(Error::Deadline),
                errno => Err(self.failed(errno)),
            },
        }
    }

    fn step_failed(&self, report: &Report) -> Error {
        let step = usize::try_from(report.step)
            .ok()
            .and_then(|at| self.list.steps().get(at));
        Error::Step {
            layer: step.and_then(|step| step.layer),
            step: step.map_or("an unknown step", |step| describe(step.op)),
            errno: Errno::from_raw(report.errno),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Process {
            pid: self.spawned.pid,
            errno,
        }
    }
}

/// Who reads what encloses a process: the caller, by its proc.
pub(crate) struct Observer {
    proc: OwnedFd,
    vantage: Vantage,
}

impl Observer {
    /// Looks at the caller itself, to tell the process `pid` from it later.
    pub(crate) fn new(pid: i32) -> Result<Self, Error> {
        let unreadable = |errno| Error::Unreadable { pid, errno };
        let proc = open(
            "/proc",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(unreadable)?;
        // The caller's keyring is not asked for: asking would give the calling
        // thread one, and the child reports only a keyring that it has made.
        let vantage = Vantage::of_caller(&proc).map_err(unreadable)?;
        Ok(Self { proc, vantage })
    }

    /// The mount namespace that a process is in now: the staged one before it
    /// is held, its own afterwards.
    ///
    /// When the last hold on one ends, the kernel takes its mounts apart and
    /// waits for a grace period before the process goes on, or before its
    /// parent hears of its end. While somebody else holds it, it does not.
    /// So none at all is no error: that is only slower.
    fn mount_namespace(&self, pid: i32) -> Option<OwnedFd> {
        openat(
            &self.proc,
            format!("{pid}/ns/mnt").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .ok()
    }

    /// Reads what encloses a process that we have a pidfd of.
    pub(crate) fn read(
        &self,
        spawned: &Spawned,
        report: Option<&SelfReport>,
    ) -> Result<Posture, Error> {
        let pid = Pid::from_raw(spawned.pid);
        let posture =
            Posture::read(&self.proc, pid, &self.vantage, report).map_err(|_| Error::Died)?;
        // The process still lives, so the number was its own all the time.
        host::send_signal(spawned.pidfd.as_fd(), 0).map_err(|_| Error::Died)?;
        Ok(posture)
    }
}

fn self_report(report: &Report) -> SelfReport {
    SelfReport {
        nested_namespaces: Some([report.nested_namespaces; 4]),
        securebits: Some(report.securebits),
        keyring: Some(report.keyring),
        make_node: Some(report.make_node),
        bind_tcp: Some(report.bind_tcp),
        connect_abstract: Some(report.connect_abstract),
        dumpable: Some(i64::from(report.dumpable)),
        memory_policy: Some(report.memory_policy),
        io_priority: Some(report.io_priority),
        core_cookie: Some(report.core_cookie),
        store_bypass: Some(report.store_bypass),
        indirect_branch: Some(report.indirect_branch),
        death_signal: Some(report.death_signal),
        subreaper: Some(report.subreaper),
    }
}
