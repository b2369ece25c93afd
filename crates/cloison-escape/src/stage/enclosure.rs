//! The outer process: makes the stage, watches it, removes it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Uid;

use super::namespaces::{Machine, Namespace, NamespaceIds};
use super::outer_cgroup::{OuterCgroup, remove_stale};
use super::refusal::{Refusal, memory_of_machine_bytes};
use super::{ROLE, ROLE_FIRST, StageError, call, step};

const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
const END_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const COPY_BYTES: usize = 1 << 16;

/// What bounds a stage. A limit of `None` makes a place that refuses to be a
/// stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, of all its processes together.
    pub memory_bytes_max: Option<u64>,
    /// Swap beside it.
    pub swap_bytes_max: u64,
    /// Processes and threads.
    pub processes_max: Option<u64>,
    /// Processor time: 100 is one processor.
    pub cpu_percent_max: Option<u32>,
    /// How long it may last, in whole seconds.
    pub wall_clock_s_max: Option<u64>,
}

impl Default for Limits {
    /// Half of the machine's memory and at most 4 GiB, no swap, 4096 processes, nine
    /// tenths of its processors, 15 minutes.
    fn default() -> Self {
        const MOST_BYTES: u64 = 4 << 30;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let half = memory_of_machine_bytes().map_or(MOST_BYTES, |bytes| bytes / 2);
        Self {
            memory_bytes_max: Some(half.min(MOST_BYTES)),
            swap_bytes_max: 0,
            processes_max: Some(4096),
            cpu_percent_max: u32::try_from(processors * 90).ok(),
            wall_clock_s_max: Some(15 * 60),
        }
    }
}

/// A stage to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclosure {
    /// What bounds it.
    pub limits: Limits,
    /// The namespaces of its own: all six, or it refuses to be a stage.
    pub namespaces: BTreeSet<Namespace>,
}

impl Default for Enclosure {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            namespaces: Namespace::ALL.into(),
        }
    }
}

impl Enclosure {
    /// Runs `program`, which must call [`super::enter`], on a stage, and
    /// returns its exit code: 128 and the signal's number if it, or this
    /// process, was ended by a signal. Its input is empty; its output is
    /// relayed, so that it holds no terminal of the machine. Nothing of the
    /// stage is left when this returns.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// [`StageError`]: nothing of the stage is left either, unless it says
    /// that a cgroup could not be removed.
    pub fn run(&self, program: &Path, arguments: &[OsString]) -> Result<u8, StageError> {
        if !Uid::effective().is_root() {
            return Err(StageError::NotRoot);
        }
        remove_stale()?;
        let watched: SigSet = [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ]
        .into_iter()
        .collect();
        let before = watched
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(call("blocking signals"))?;
        let mut group = OuterCgroup::default();
        let ran = self.run_watched(program, arguments, &watched, &mut group);
        let removed = group.remove();
        before
            .thread_set_mask()
            .map_err(call("restoring signals"))?;
        let code = ran?;
        removed?;
        Ok(code)
    }

    fn run_watched(
        &self,
        program: &Path,
        arguments: &[OsString],
        watched: &SigSet,
        group: &mut OuterCgroup,
    ) -> Result<u8, StageError> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(watched, flags).map_err(call("signalfd"))?;
        group.make(&self.limits)?;
        let (control, theirs) = UnixStream::pair().map_err(step("socketpair"))?;
        let mut child = self.start(program, arguments, theirs.into())?;
        let ran = self
            .set_up(&control, &child, group)
            .and_then(|()| self.watch(&mut child, &signals));
        // Whatever happened, nothing outlives this: process 1 takes all others
        // of its pid namespace with it.
        let status = end(&mut child, group)?;
        relay_rest(&mut child)?;
        drop(control);
        match ran {
            Ok(None) => Ok(exit_code(status)),
            Ok(Some(signal)) => Ok(128 + signal),
            // It said itself on its error output why it gave up.
            Err(StageError::OutOfTurn) if status.code().is_some_and(|code| code != 0) => {
                Ok(exit_code(status))
            }
            Err(error) => Err(error),
        }
    }

    fn start(
        &self,
        program: &Path,
        arguments: &[OsString],
        control: OwnedFd,
    ) -> Result<Child, StageError> {
        let own = File::open("/proc/self/ns/pid").map_err(step("opening the pid namespace"))?;
        let separate = self.namespaces.contains(&Namespace::Pid);
        if separate {
            unshare(CloneFlags::CLONE_NEWPID).map_err(call("making a pid namespace"))?;
        }
        let child = Command::new(program)
            .args(arguments)
            .env(ROLE, ROLE_FIRST)
            .stdin(control)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        if separate {
            setns(&own, CloneFlags::CLONE_NEWPID).map_err(call("leaving the pid namespace"))?;
        }
        child.map_err(|source| StageError::Start {
            program: PathBuf::from(program),
            source,
        })
    }

    /// Brings the first process to where it may go on by itself.
    fn set_up(
        &self,
        control: &UnixStream,
        child: &Child,
        group: &OuterCgroup,
    ) -> Result<(), StageError> {
        control
            .set_read_timeout(Some(SETUP_TIMEOUT))
            .map_err(step("setting a timeout"))?;
        group.place(child.id())?;
        // The pid namespace came with the start, the others it makes now: the
        // root of a cgroup namespace is where its maker is.
        let names: Vec<&str> = self
            .namespaces
            .iter()
            .filter(|namespace| **namespace != Namespace::Pid)
            .map(|namespace| namespace.name())
            .collect();
        say(control, &names.join(" "))?;
        let mut answer = String::new();
        BufReader::new(control.take(64))
            .read_line(&mut answer)
            .map_err(|_| StageError::OutOfTurn)?;
        if answer != "unshared\n" {
            return Err(StageError::OutOfTurn);
        }
        let machine = Machine::read().map_err(unreadable)?;
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        let theirs = NamespaceIds::read(&process).map_err(unreadable)?;
        if let Some(namespace) = machine.shares(&theirs) {
            return Err(Refusal::SharedNamespace(namespace).into());
        }
        let seconds = self.limits.wall_clock_s_max.unwrap_or(0);
        say(control, &format!("{seconds} {machine}"))
    }

    /// Relays what the stage writes until it ends; returns the signal that
    /// asks this process to end, if one came first.
    fn watch(&self, child: &mut Child, signals: &SignalFd) -> Result<Option<u8>, StageError> {
        let deadline = self
            .limits
            .wall_clock_s_max
            .map(|seconds| (Instant::now() + Duration::from_secs(seconds), seconds));
        loop {
            let timeout = match deadline {
                None => PollTimeout::NONE,
                Some((end, seconds)) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(StageError::TimeOver { seconds });
                    }
                    // Rounded up, so that the last turn is not a busy one.
                    PollTimeout::try_from(left + Duration::from_millis(1))
                        .unwrap_or(PollTimeout::MAX)
                }
            };
            relay(child, Some(signals), timeout)?;
            while let Some(info) = signals.read_signal().map_err(call("reading a signal"))? {
                let number = u8::try_from(info.ssi_signo).unwrap_or(0);
                if i32::from(number) != Signal::SIGCHLD as i32 {
                    return Ok(Some(number));
                }
            }
            if child
                .try_wait()
                .map_err(step("waiting for the stage"))?
                .is_some()
            {
                return Ok(None);
            }
        }
    }
}

/// Ends the first process and waits for it, which waits for all others: also
/// for those in a frozen group.
fn end(child: &mut Child, group: &OuterCgroup) -> Result<ExitStatus, StageError> {
    let deadline = Instant::now() + END_TIMEOUT;
    child.kill().map_err(step("ending the stage"))?;
    loop {
        if let Some(status) = child.try_wait().map_err(step("waiting for the stage"))? {
            return Ok(status);
        }
        group.end_processes()?;
        if Instant::now() > deadline {
            let source = io::ErrorKind::TimedOut.into();
            return Err(step("ending the stage")(source));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Copies what can be copied now, after waiting for something to happen.
/// Returns whether there can be more.
fn relay(
    child: &mut Child,
    signals: Option<&SignalFd>,
    timeout: PollTimeout,
) -> Result<bool, StageError> {
    let mut waiting = Vec::new();
    let (out, err) = (child.stdout.is_some(), child.stderr.is_some());
    if let Some(stdout) = &child.stdout {
        waiting.push(PollFd::new(stdout.as_fd(), PollFlags::POLLIN));
    }
    if let Some(stderr) = &child.stderr {
        waiting.push(PollFd::new(stderr.as_fd(), PollFlags::POLLIN));
    }
    if let Some(signals) = signals {
        waiting.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(call("poll")(errno)),
    }
    let ready: Vec<bool> = waiting.iter().map(|fd| fd.any() == Some(true)).collect();
    drop(waiting);
    let mut ready = ready.into_iter();
    if out && ready.next() == Some(true) && copy(child.stdout.as_mut(), io::stdout())? {
        child.stdout = None;
    }
    if err && ready.next() == Some(true) && copy(child.stderr.as_mut(), io::stderr())? {
        child.stderr = None;
    }
    Ok(child.stdout.is_some() || child.stderr.is_some())
}

/// Copies once; true at the end of the input.
fn copy(from: Option<&mut impl Read>, mut to: impl Write) -> Result<bool, StageError> {
    let Some(from) = from else { return Ok(true) };
    let mut buffer = vec![0; COPY_BYTES];
    let length = from
        .read(&mut buffer)
        .map_err(step("reading the stage's output"))?;
    let bytes = buffer.get(..length).unwrap_or_default();
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .map_err(step("relaying the stage's output"))?;
    Ok(length == 0)
}

/// Copies what is left of a stage that has ended. A process that is frozen
/// may still hold the pipes, so this has an end.
fn relay_rest(child: &mut Child) -> Result<(), StageError> {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while Instant::now() < deadline && relay(child, None, PollTimeout::from(100_u8))? {}
    Ok(())
}

fn say(mut control: &UnixStream, line: &str) -> Result<(), StageError> {
    writeln!(control, "{line}").map_err(|_| StageError::OutOfTurn)
}

fn unreadable(source: io::Error) -> Refusal {
    Refusal::Unreadable {
        what: "a namespace",
        source,
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}
