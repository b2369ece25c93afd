//! D08: the process group of whoever launched the sandbox. The signal is
//! SIGURG, which everybody ignores who does not ask for it.

use std::os::fd::AsRawFd;

use crate::arguments::Arguments;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, int, nr};

const GETPGID: usize = 121;
const WRITE: usize = 1;
const SIGURG: usize = 23;

/// Signals the group `group`, of which `victim` is: as one's own, by its
/// number, and as the one that is told of a file.
pub(crate) fn d08(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let victim: i32 = arguments.number("victim")?;
    let group: i32 = arguments.number("group")?;
    if group < 2 {
        return Err(CouldNotTry(format!("the group {group} is none")));
    }
    report.way("own-group", || signal_own_group(victim));
    report.way("by-number", || judge(kill(-group)));
    report.way("owner-of-a-file", || tell_of_a_file(group));
    Ok(())
}

fn kill(pid: i32) -> Answer {
    // SAFETY: takes no pointer; who does not handle the signal ignores it.
    unsafe { sys::call(nr::KILL, [int(pid), SIGURG]) }
}

fn group_of(pid: i32) -> Answer {
    // SAFETY: takes no pointer.
    unsafe { sys::call(GETPGID, [int(pid)]) }
}

fn signal_own_group(victim: i32) -> Verdict {
    let own = group_of(0);
    // 0: a group that began outside of the pid namespace.
    if own != Ok(0) && own != group_of(victim) {
        return Verdict::Stopped("getpgid: the victim is of another group".to_owned());
    }
    judge(kill(0))
}

/// The kernel answers with success if it signalled but one, and this process
/// may be of the group itself: only from outside it is known who heard.
fn judge(signalled: Answer) -> Verdict {
    match signalled {
        Ok(_) if report::is_seen() => Verdict::Through("its group was signalled".to_owned()),
        Ok(_) => Verdict::Stopped("kill: nobody outside heard".to_owned()),
        Err(errno) => Verdict::stopped("kill", errno),
    }
}

/// Whoever owns a file for signals hears of what arrives in it: that too is
/// seen only from outside.
fn tell_of_a_file(group: i32) -> Verdict {
    const F_SETFL: usize = 4;
    const F_SETOWN: usize = 8;
    const F_SETSIG: usize = 10;
    const O_ASYNC: usize = 0o20_000;
    let (reader, writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => return Verdict::Untried(format!("pipe: {error}")),
    };
    for (what, value) in [
        (F_SETOWN, int(-group)),
        (F_SETSIG, SIGURG),
        (F_SETFL, O_ASYNC),
    ] {
        // SAFETY: these commands take no pointer.
        if let Err(errno) = unsafe { sys::call(nr::FCNTL, [int(reader.as_raw_fd()), what, value]) }
        {
            return Verdict::stopped("fcntl", errno);
        }
    }
    let byte = b"!".as_ptr().expose_provenance();
    // SAFETY: the call reads one byte.
    let written = unsafe { sys::call(WRITE, [int(writer.as_raw_fd()), byte, 1]) };
    // The end of the pipe would be told of as well.
    // SAFETY: takes no pointer.
    let silenced = unsafe { sys::call(nr::FCNTL, [int(reader.as_raw_fd()), F_SETFL, 0]) };
    match written.and(silenced) {
        Ok(_) if report::is_seen() => Verdict::Through("its group was told".to_owned()),
        Ok(_) => Verdict::Stopped("write: nobody outside heard".to_owned()),
        Err(errno) => Verdict::Untried(format!("write: {errno}")),
    }
}
