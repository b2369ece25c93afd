//! B01: a process that is not of the sandbox.

use crate::arguments::Arguments;
use crate::processes::Target;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, int, nr};

const SIGUSR1: usize = 10;
/// How far the scan for numbers goes: that of a host that has just started.
const PIDS_SCANNED: i32 = 4096;
/// Below this a number could be one of the sandbox's own processes, and a
/// signal would hit the wrong one.
const VICTIM_PID_MIN: i32 = 10_000;

/// Signals, inspects and changes the process `victim` (its number as the
/// host knows it), whose memory at `address` holds `token`, and looks for
/// any process that is not its own.
pub(crate) fn b01(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let target = Target {
        pid: arguments.number("victim")?,
        address: arguments.number("address")?,
    };
    let token = arguments.text("token")?;
    if target.pid < VICTIM_PID_MIN {
        return Err(CouldNotTry(format!(
            "the victim's number {} could be one of the sandbox's own",
            target.pid
        )));
    }
    report.way("kill", || {
        Verdict::of("kill", kill(target.pid, SIGUSR1), "signalled")
    });
    report.way("tgkill", || {
        // SAFETY: tgkill takes no pointer.
        let sent = unsafe { sys::call(nr::TGKILL, [int(target.pid), int(target.pid), SIGUSR1]) };
        Verdict::of("tgkill", sent, "signalled")
    });
    report.way("rt_sigqueueinfo", || queue(target.pid));
    report.way("pidfd_send_signal", || signal_by_pidfd(target.pid));
    // This one, its parent (the init, or the launcher's spawner that waits
    // for it) and process 1 are not outside.
    let own = [1, sys::own_pid(), parent_pid()];
    report.way("scan", || scan(&own));
    target.inspect(Some(token), report);
    target.set_back(report);
    Ok(())
}

fn kill(pid: i32, signal: usize) -> Answer {
    // SAFETY: kill takes no pointer; the number is the canary's, or the
    // signal is 0, which only asks.
    unsafe { sys::call(nr::KILL, [int(pid), signal]) }
}

fn queue(pid: i32) -> Verdict {
    const SI_QUEUE: i32 = -1;
    let mut information = [0_i32; 32];
    information[0] = i32::try_from(SIGUSR1).unwrap_or(0);
    information[2] = SI_QUEUE;
    let at = (&raw const information).expose_provenance();
    // SAFETY: the call reads 128 bytes, the array's size.
    let sent = unsafe { sys::call(nr::RT_SIGQUEUEINFO, [int(pid), SIGUSR1, at]) };
    Verdict::of("rt_sigqueueinfo", sent, "signalled")
}

fn signal_by_pidfd(pid: i32) -> Verdict {
    // SAFETY: pidfd_open takes no pointer.
    let pidfd = match unsafe { sys::call(nr::PIDFD_OPEN, [int(pid), 0]) } {
        Ok(pidfd) => pidfd,
        Err(errno) => return Verdict::stopped("pidfd_open", errno),
    };
    // SAFETY: the information's pointer is null.
    let sent = unsafe { sys::call(nr::PIDFD_SEND_SIGNAL, [pidfd, SIGUSR1, 0, 0]) };
    Verdict::of("pidfd_send_signal", sent, "signalled")
}

/// Asks for each number but `own` whether it may be signalled.
fn scan(own: &[i32]) -> Verdict {
    let own_pid = sys::own_pid();
    let is_own = |pid: &i32| *pid == own_pid || own.contains(pid);
    let mut seen = 0_usize;
    for pid in (1..=PIDS_SCANNED).filter(|pid| !is_own(pid)) {
        match kill(pid, 0) {
            Ok(_) => return Verdict::Through(format!("process {pid} may be signalled")),
            Err(sys::ESRCH) => {}
            Err(_) => seen += 1,
        }
    }
    Verdict::Stopped(format!(
        "kill: none of {PIDS_SCANNED} may be signalled, {seen} are there"
    ))
}

fn parent_pid() -> i32 {
    i32::try_from(std::os::unix::process::parent_id()).unwrap_or(0)
}
