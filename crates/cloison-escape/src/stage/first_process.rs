//! Process 1 of the stage: furnishes it, starts the tests, reaps, ends.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, close, dup2_stdin, sethostname, setsid};

use super::devices;
use super::hierarchies::{Hierarchy, Kind, LIMITING};
use super::namespaces::{Machine, Namespace, of_first_process};
use super::outer_cgroup::thaw;
use super::refusal::verify_namespaces;
use super::rtnetlink::Rtnetlink;
use super::{EXIT_TIME_OVER, MACHINE, ROLE, ROLE_INSIDE, StageError, call, step};

const HOST_NAME: &str = "cloison-stage";
/// The group of the stage's processes where one that holds processes cannot
/// give controllers to groups beneath it.
const LEAF: &str = "stage";
/// The outer process ends the stage when its time is over, and says so. This
/// much later the stage ends itself.
const GRACE: Duration = Duration::from_secs(3);

/// The part of process 1 of a stage.
#[derive(Debug)]
pub struct FirstProcess(());

impl FirstProcess {
    pub(super) const fn new() -> Self {
        Self(())
    }

    /// Plays it, and returns the exit code of the program on the stage. The
    /// process must exit then: it takes what is left on the stage with it.
    ///
    /// # Errors
    /// [`StageError`]: the program did not start.
    pub fn run(self) -> Result<u8, StageError> {
        set_pdeathsig(Signal::SIGKILL).map_err(call("tying the stage to the outer process"))?;
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let control = UnixStream::from(stdin.map_err(step("duplicating the control socket"))?);
        close_others(&control)?;
        // Without a controlling terminal no process here can write into it.
        setsid().map_err(call("setsid"))?;
        let null = File::open("/dev/null").map_err(step("opening /dev/null"))?;
        dup2_stdin(&null).map_err(call("replacing the input"))?;
        drop(null);

        let mut lines = BufReader::new(&control).lines();
        // An outer process that died before it was tied to us ends here.
        let mut next = || {
            lines
                .next()
                .and_then(Result::ok)
                .ok_or(StageError::OutOfTurn)
        };
        let flags = parse_namespaces(&next()?)?;
        // From inside a cgroup namespace the machine's mounts have no root.
        let hierarchies = Hierarchy::read_all().map_err(StageError::CgroupsUnreadable)?;
        unshare(flags).map_err(call("making the namespaces"))?;
        writeln!(&control, "unshared").map_err(|_| StageError::OutOfTurn)?;
        let (seconds, machine) = parse_permission(&next()?)?;
        verify_what_is_seen(&machine)?;

        furnish(&hierarchies)?;
        let timer = arm(seconds)?;
        let watched: SigSet = Signal::SIGCHLD.into();
        watched.thread_block().map_err(call("blocking signals"))?;
        let signals =
            SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .map_err(call("signalfd"))?;
        let program = start(&machine)?;
        let ended = reap(program, &control, &signals, timer.as_ref());
        end_the_rest(&hierarchies)?;
        ended
    }
}

/// Closes what the outer process did not mean to hand over.
fn close_others(control: &UnixStream) -> Result<(), StageError> {
    let open = "listing descriptors";
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(step(open))? {
        let name = entry.map_err(step(open))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers {
        if number <= 2 || number == control.as_raw_fd() {
            continue;
        }
        match close(number) {
            // The list's own descriptor is closed by now.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(call("closing a descriptor")(errno)),
        }
    }
    Ok(())
}

fn parse_namespaces(line: &str) -> Result<CloneFlags, StageError> {
    line.split_whitespace()
        .map(|name| name.parse::<Namespace>().map(Namespace::flag))
        .collect::<Result<CloneFlags, _>>()
        .map_err(|_| StageError::OutOfTurn)
}

fn parse_permission(line: &str) -> Result<(u64, Machine), StageError> {
    let (seconds, machine) = line.split_once(' ').ok_or(StageError::OutOfTurn)?;
    Ok((
        seconds.parse().map_err(|_| StageError::OutOfTurn)?,
        machine.parse().map_err(|_| StageError::OutOfTurn)?,
    ))
}

/// Compares the namespaces once more before anything is mounted: with what
/// was said, and with what the machine's proc, still mounted, shows.
fn verify_what_is_seen(machine: &Machine) -> Result<(), StageError> {
    verify_namespaces(machine)?;
    let first_process =
        of_first_process().map_err(step("reading the namespaces of the machine's process 1"))?;
    verify_namespaces(&Machine {
        first_process,
        outer: first_process,
    })?;
    Ok(())
}

/// Mounts what a host has of its own, and names the stage.
fn furnish(hierarchies: &[Hierarchy]) -> Result<(), StageError> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(call("making all mounts private"))?;
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let strict = harmless | MsFlags::MS_NOEXEC;
    // What lies below is detached, not covered: an umount must not bring the
    // machine's proc back.
    renew("/proc", "proc", strict, None)?;
    renew("/sys", "sysfs", strict, None)?;
    renew("/tmp", "tmpfs", harmless, Some("mode=1777"))?;
    renew("/run", "tmpfs", harmless, Some("mode=755"))?;
    devices::furnish()?;
    for hierarchy in hierarchies {
        mount_hierarchy(hierarchy, strict)?;
    }
    sethostname(HOST_NAME).map_err(call("naming the stage"))?;
    Rtnetlink::open()
        .and_then(|rtnetlink| rtnetlink.bring_up(1))
        .map_err(step("bringing lo up"))
}

/// Mounts anew what is mounted there, all that lies beneath it gone.
pub(super) fn renew(
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), StageError> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(call("detaching a mount of the machine")(errno)),
        }
    }
    mount(Some(kind), target, Some(kind), flags, data).map_err(call(target))
}

/// Mounts a hierarchy where it was. Its root is now the outer cgroup.
fn mount_hierarchy(hierarchy: &Hierarchy, flags: MsFlags) -> Result<(), StageError> {
    let target = &hierarchy.mount_point;
    let top = Path::new("/sys/fs/cgroup");
    if target.parent() == Some(top) && !is_mount_of_ours(top)? {
        let mode = Some("mode=755");
        mount(Some("tmpfs"), top, Some("tmpfs"), flags, mode).map_err(call("/sys/fs/cgroup"))?;
    }
    if !target.exists() {
        fs::create_dir_all(target).map_err(step("making a mount point for cgroups"))?;
    }
    let (kind, data) = hierarchy.mount_arguments();
    mount(Some(kind), target, Some(kind), flags, data.as_deref())
        .map_err(call("mounting a cgroup hierarchy"))?;
    if hierarchy.kind == Kind::V2 {
        delegate(target)?;
    }
    Ok(())
}

fn is_mount_of_ours(top: &Path) -> Result<bool, StageError> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(step("reading the mounts"))?;
    let name = top.to_string_lossy();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(name.as_ref())))
}

/// Makes the root of a v2 hierarchy one that gives its controllers on, where
/// it has those that matter.
fn delegate(root: &Path) -> Result<(), StageError> {
    let available = fs::read_to_string(root.join("cgroup.controllers"))
        .map_err(step("reading the controllers"))?;
    let available: Vec<&str> = available.split_whitespace().collect();
    if !LIMITING.iter().any(|name| available.contains(name)) {
        return Ok(());
    }
    let leaf = root.join(LEAF);
    fs::create_dir(&leaf).map_err(step("making a leaf cgroup"))?;
    fs::write(leaf.join("cgroup.procs"), "0").map_err(step("moving to the leaf cgroup"))?;
    for controller in available {
        fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .map_err(step("giving the controllers on"))?;
    }
    Ok(())
}

/// Starts the timer that a process on the stage can see; 0 starts none.
fn arm(seconds: u64) -> Result<Option<TimerFd>, StageError> {
    if seconds == 0 {
        return Ok(None);
    }
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)
        .map_err(call("timerfd_create"))?;
    let end = TimeSpec::from_duration(Duration::from_secs(seconds) + GRACE);
    timer
        .set(Expiration::OneShot(end), TimerSetTimeFlags::empty())
        .map_err(call("timerfd_settime"))?;
    Ok(Some(timer))
}

fn start(machine: &Machine) -> Result<i32, StageError> {
    let program = "/proc/self/exe";
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.into());
    let child = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(ROLE, ROLE_INSIDE)
        .env(MACHINE, machine.to_string())
        .spawn()
        .map_err(|source| StageError::Start {
            program: program.into(),
            source,
        })?;
    Ok(child.id().cast_signed())
}

/// Reaps all that end; returns when the program does.
fn reap(
    program: i32,
    control: &UnixStream,
    signals: &SignalFd,
    timer: Option<&TimerFd>,
) -> Result<u8, StageError> {
    loop {
        let mut waiting = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
        ];
        waiting.extend(timer.map(|timer| PollFd::new(timer.as_fd(), PollFlags::POLLIN)));
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(call("poll")(errno)),
        }
        let happened = |place: usize| waiting.get(place).and_then(PollFd::any) == Some(true);
        if happened(1) {
            return Err(StageError::OutOfTurn);
        }
        if happened(2) {
            return Ok(EXIT_TIME_OVER);
        }
        while signals
            .read_signal()
            .map_err(call("reading a signal"))?
            .is_some()
        {}
        if let Some(code) = reap_all(program)? {
            return Ok(code);
        }
    }
}

/// Kills what the program left, and thaws it: the kernel, which waits for all of
/// it when this process ends, would wait for ever for what is frozen.
fn end_the_rest(hierarchies: &[Hierarchy]) -> Result<(), StageError> {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        // Nothing is left.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(call("ending what is left")(errno)),
    }
    for hierarchy in hierarchies {
        thaw(&hierarchy.mount_point)?;
    }
    Ok(())
}

fn reap_all(program: i32) -> Result<Option<u8>, StageError> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
            Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == program => {
                code = Some(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == program => {
                code = Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(_) => {}
            Err(errno) => return Err(call("waitpid")(errno)),
        }
    }
}
