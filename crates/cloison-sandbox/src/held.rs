//! A sandbox with every layer on, before its command is executed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cloison_linux::host;
use cloison_linux::steps::{Op, Report};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::NetworkNamespace;
use crate::error::Error;
use crate::layers::rlimits;
use crate::plan::{Plan, Prepared, describe};
use crate::posture::{Posture, PostureError, Reading, SelfReport, Vantage};
use crate::sandbox::Sandbox;
use crate::spawner::{OnDrop, Spawned, errno};
use crate::steps::{Argument, Planned, StepList};

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
    /// The mount namespace that it was staged in and its own: see
    /// [`Observer::mount_namespace`].
    staged: Option<OwnedFd>,
    own: Option<OwnedFd>,
}

impl Held {
    /// Waits for the child to be ready, reads it back and compares.
    pub(crate) fn check(
        plan: Plan,
        mut spawned: Spawned,
        ready: Result<Ready, Error>,
    ) -> Result<Self, Error> {
        // From here on a failure ends it.
        spawned.on_drop = OnDrop::End;
        let Ready { observer, expected } = ready?;
        let staged = observer.mount_namespace(spawned.pid);
        let mut held = Self {
            spawned,
            list: plan.list,
            expected,
            posture: Posture::new(),
            report: SelfReport::default(),
            prepared: plan.prepared,
            terminal: plan.terminal,
            credentials: plan.credentials,
            has_init: plan.has_init,
            staged,
            own: None,
        };
        held.read_back(&observer)?;
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
    /// [`Error::Execute`] when the command could not be executed (with an init
    /// that is only told by the exit code 126 or 127), [`Error::Died`],
    /// [`Error::Deadline`]. All is undone.
    pub fn start(mut self) -> Result<Sandbox, Error> {
        match nix::unistd::write(&self.spawned.report, b"1") {
            Ok(_) => {}
            // It has ended, and may have said why.
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(self.failure_or(Error::Died)),
            Err(errno) => return Err(self.failed(errno)),
        }
        // While it executes: the last hold on the staged namespace takes time
        // to let go of.
        self.list.close_descriptors();
        self.staged = None;
        // End of file: the socket went away with the exec.
        if self.receive()?.is_some() {
            return Err(Error::Died);
        }
        self.spawned.on_drop = OnDrop::Leave;
        if let Some(listener) = &mut self.prepared.exec {
            listener.leave();
        }
        Ok(Sandbox::started(
            self.spawned,
            self.expected,
            self.report,
            self.prepared,
            self.has_init,
            self.own,
        ))
    }

    fn read_back(&mut self, observer: &Observer) -> Result<(), Error> {
        // One that failed may be gone by now: its report says why.
        let reading = observer.begin(self.spawned.pid);
        let mut report = self.receive()?.ok_or(Error::Died)?;
        let mut reading = reading?;
        self.own = observer.mount_namespace(self.spawned.pid);
        // While the last steps run.
        reading.enclosure(observer.vantage());
        // That it is in this cgroup, the enclosure shows.
        reading.limits(Some(&self.prepared.cgroup));
        if report.kind == Report::ENCLOSED {
            report = self.receive()?.ok_or(Error::Died)?;
        }
        self.report = self_report(&report);
        let finished = observer.finish(reading, &self.spawned, Some(&self.report));
        self.posture = finished.map_err(|error| self.failure_or(error))?;
        let differences = self.posture.differences(&self.expected);
        if !differences.is_empty() {
            return Err(self.failure_or(Error::PostureDiffers(differences)));
        }
        if self.prepared.network.is_none() {
            self.prepared.network = Some(observer.network(&self.spawned)?);
        }
        Ok(())
    }

    /// One that failed meanwhile is not what it was: what it says of that is
    /// the better error.
    fn failure_or(&self, error: Error) -> Error {
        let mut told = [PollFd::new(self.spawned.report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut told, PollTimeout::ZERO) {
            Ok(1..) => match self.receive() {
                Err(failure @ (Error::Step { .. } | Error::Execute(_))) => failure,
                _ => error,
            },
            _ => error,
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
        if step.is_some_and(|step| matches!(step.op, Op::Execute | Op::ExecuteKept)) {
            return Error::Execute(Errno::from_raw(report.errno));
        }
        if let Some(target) = step.and_then(|step| self.list.asked_target(step)) {
            return Error::MountPoint {
                target: Path::new("/").join(target),
                errno: Errno::from_raw(report.errno),
            };
        }
        let doing = |step: &Planned| match (step.op, step.arguments) {
            (Op::SetLimit, [Argument::Number(resource), ..]) => rlimits::doing(resource),
            (op, _) => describe(op),
        };
        Error::Step {
            layer: step.and_then(|step| step.layer),
            step: step.map_or("an unknown step", doing),
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

/// What a plan gets ready while its child is made.
pub(crate) struct Ready {
    pub(crate) observer: Observer,
    pub(crate) expected: Posture,
}

/// Who reads what encloses a process: the caller, by its proc.
pub(crate) struct Observer {
    proc: OwnedFd,
    vantage: Vantage,
}

impl Observer {
    /// Looks at the caller itself, to tell a sandbox from it later.
    pub(crate) fn new() -> Result<Self, Error> {
        let unreadable = |errno| Error::prepare("a look at the caller's own /proc", errno);
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

    /// What a sandbox must not share.
    pub(crate) fn vantage(&self) -> &Vantage {
        &self.vantage
    }

    /// The mount namespace that a process is in now: the staged one before it
    /// is held, its own afterwards.
    ///
    /// When the last hold on one ends, the kernel takes its mounts apart and
    /// waits for a grace period before the process goes on, or before its
    /// parent hears of its end. While somebody else holds it, it does not.
    /// So none at all is no error: that is only slower.
    fn mount_namespace(&self, pid: i32) -> Option<OwnedFd> {
        self.namespace(pid, "mnt").ok()
    }

    fn namespace(&self, pid: i32, kind: &str) -> Result<OwnedFd, Errno> {
        openat(
            &self.proc,
            format!("{pid}/ns/{kind}").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }

    /// The network namespace that a process of ours was born in.
    fn network(&self, spawned: &Spawned) -> Result<NetworkNamespace, Error> {
        let pid = spawned.pid;
        let network = self
            .namespace(pid, "net")
            .map_err(|errno| Error::Unreadable { pid, errno })?;
        // It still lives, so the number was its own.
        host::send_signal(spawned.pidfd.as_fd(), 0).map_err(|_| Error::Died)?;
        Ok(NetworkNamespace::of(network))
    }

    /// Begins to look at a process.
    fn begin(&self, pid: i32) -> Result<Reading, Error> {
        Reading::begin(&self.proc, Pid::from_raw(pid)).map_err(|error| match error {
            PostureError::Gone(_) => Error::Died,
            PostureError::Refused { source, .. } => Error::Unreadable { pid, errno: source },
        })
    }

    /// Reads the rest of a process that we have a pidfd of.
    fn finish(
        &self,
        reading: Reading,
        spawned: &Spawned,
        report: Option<&SelfReport>,
    ) -> Result<Posture, Error> {
        let posture = reading.finish(&self.vantage, report);
        // The process still lives, so the number was its own all the time.
        host::send_signal(spawned.pidfd.as_fd(), 0).map_err(|_| Error::Died)?;
        Ok(posture)
    }

    /// Reads what encloses a process that we have a pidfd of.
    pub(crate) fn read(
        &self,
        spawned: &Spawned,
        report: Option<&SelfReport>,
    ) -> Result<Posture, Error> {
        let mut reading = self.begin(spawned.pid)?;
        reading.enclosure(&self.vantage);
        reading.limits(None);
        self.finish(reading, spawned, report)
    }
}

fn self_report(report: &Report) -> SelfReport {
    SelfReport {
        nested_refused: Some(report.nested_refused),
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
