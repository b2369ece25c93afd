//! The spawner: a small process that makes children and outlives none of
//! its caller's wishes.
//!
//! Single-threaded, a few pages large, not dumpable, in a mount namespace of
//! one 4 KiB tmpfs, bare but for a place to mount on: a child's copy of its memory and of its mounts
//! costs next to nothing, however large the caller and the host's mount
//! table are. It is the parent of what it makes, because an exec sets the
//! exit signal back to SIGCHLD whatever clone3(2) was given: only a parent
//! that nobody else waits in has the status for certain.

use core::ptr::addr_of_mut;

use crate::clone::{Made, make_child};
use crate::message::{Answer, CHILDREN_MAX, Place, SPAWNER_SOCKET};
use crate::socket::{Rights, receive, send};
use crate::steps::{IMAGE_BYTES_MAX, Image};
use crate::sys::{Errno, Result, by_value, check, close, exit, nr, raw};

const CLOEXEC: u64 = 0o2_000_000;
/// The mark of the spawner's own socket among the watched descriptors.
const REQUESTS: u64 = u64::MAX;
/// EPOLLIN.
const READABLE: u32 = 1;
/// `EPOLLIN | EPOLLONESHOT`.
const READABLE_ONCE: u32 = 1 | 1 << 30;

/// A child that is watched.
#[derive(Clone, Copy)]
struct Watched {
    pid: i32,
    /// 0: the place is free.
    pidfd: i32,
    /// Where its status goes.
    status: i32,
}

struct Memory {
    image: [u64; IMAGE_BYTES_MAX / 8],
    watched: [Watched; CHILDREN_MAX],
}

static mut MEMORY: Memory = Memory {
    image: [0; IMAGE_BYTES_MAX / 8],
    watched: [Watched {
        pid: 0,
        pidfd: 0,
        status: 0,
    }; CHILDREN_MAX],
};

/// struct epoll_event: packed on this architecture.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}

/// Serves requests until the caller is gone.
///
/// # Safety
/// Called once, by a process with one thread.
pub unsafe fn serve() -> ! {
    let memory = addr_of_mut!(MEMORY);
    // SAFETY: the only reference ever made: this function runs once and does
    // not return.
    let memory = unsafe { &mut *memory };
    let mut answer = Answer::default();
    let watch = match prepare() {
        Ok(watch) => {
            answer.kind = Answer::READY;
            watch
        }
        Err(errno) => {
            answer.kind = Answer::REFUSED;
            answer.code = errno.0;
            answer.detail = Place::MountNamespace as i32;
            -1
        }
    };
    let is_heard = tell(SPAWNER_SOCKET, &answer, -1);
    if watch < 0 || !is_heard {
        exit(1);
    }
    loop {
        match next(watch) {
            Ok(REQUESTS) => take_request(memory, watch),
            Ok(place) => reap(memory, watch, place as usize),
            Err(Errno::EINTR) => {}
            Err(_) => exit(1),
        }
    }
}

/// Answers; whether that was possible. Where it was not, whoever waits reads
/// end of file as soon as our end of the socket is closed.
fn tell(socket: i32, answer: &Answer, descriptor: i32) -> bool {
    loop {
        match send(socket, &answer.bytes(), descriptor) {
            Err(Errno::EINTR) => {}
            sent => return sent.is_ok(),
        }
    }
}

/// Makes itself small and private; returns the epoll descriptor.
fn prepare() -> Result<i32> {
    reset_signals()?;
    by_value(nr::PRCTL, [4, 0, 0, 0, 0, 0])?; // PR_SET_DUMPABLE
    // A spawner that already leads a session keeps it.
    let _leads = by_value(nr::SETSID, [0; 6]);
    let last = u64::from(u32::MAX);
    by_value(nr::CLOSE_RANGE, [3, last, 0, 0, 0, 0])?;
    raise_descriptor_limit()?;
    enter_small_mount_namespace()?;
    let watch = by_value(nr::EPOLL_CREATE1, [CLOEXEC, 0, 0, 0, 0, 0])? as i32;
    watch_descriptor(watch, SPAWNER_SOCKET, READABLE, REQUESTS)?;
    Ok(watch)
}

fn reset_signals() -> Result<()> {
    let default: [u64; 4] = [0; 4];
    let at = default.as_ptr() as u64;
    let mut signal = 1;
    while signal <= 64 {
        if signal != 9 && signal != 19 {
            // SAFETY: a live struct sigaction of zeros: the default.
            check(unsafe { raw(nr::RT_SIGACTION, [signal, at, 0, 8, 0, 0]) })?;
        }
        signal += 1;
    }
    // SAFETY: a live, empty set.
    check(unsafe { raw(nr::RT_SIGPROCMASK, [2, at, 0, 8, 0, 0]) })?;
    Ok(())
}

/// Two descriptors are held for each child: allow as many as may be had.
fn raise_descriptor_limit() -> Result<()> {
    const RLIMIT_NOFILE: u64 = 7;
    let mut limit: [u64; 2] = [0; 2];
    let at = limit.as_mut_ptr() as u64;
    // SAFETY: a live struct rlimit64 to write.
    check(unsafe { raw(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, at, 0, 0]) })?;
    let [_, hard] = limit;
    let wanted: [u64; 2] = [hard, hard];
    let at = wanted.as_ptr() as u64;
    // SAFETY: a live struct rlimit64 to read.
    check(unsafe { raw(nr::PRLIMIT64, [0, RLIMIT_NOFILE, at, 0, 0, 0]) })?;
    Ok(())
}

fn enter_small_mount_namespace() -> Result<()> {
    const CLONE_NEWNS: u64 = 0x2_0000;
    /// `MS_REC | MS_PRIVATE`.
    const PRIVATE: u64 = 0x4000 | 0x4_0000;
    /// nosuid, nodev, noexec.
    const ATTRIBUTES: u64 = 0x2 | 0x4 | 0x8;
    by_value(nr::UNSHARE, [CLONE_NEWNS, 0, 0, 0, 0, 0])?;
    let root = c"/".as_ptr() as u64;
    let here = c".".as_ptr() as u64;
    let empty = c"".as_ptr() as u64;
    const AT_EMPTY_PATH: u64 = 0x1000;
    let at_fdcwd = -100_i64 as u64;
    let call = |number, arguments| {
        // SAFETY: each address below is that of a constant string, or of a
        // live local of the type that the call's manual names.
        check(unsafe { raw(number, arguments) })
    };
    call(nr::MOUNT, [0, root, 0, PRIVATE, 0, 0])?;
    let context = call(nr::FSOPEN, [c"tmpfs".as_ptr() as u64, 1, 0, 0, 0, 0])? as u64;
    let size = c"size".as_ptr() as u64;
    call(
        nr::FSCONFIG,
        [context, 1, size, c"4k".as_ptr() as u64, 0, 0],
    )?;
    call(nr::FSCONFIG, [context, 6, 0, 0, 0, 0])?;
    let mount = call(nr::FSMOUNT, [context, 1, ATTRIBUTES, 0, 0, 0])? as u64;
    // One place to mount on, for a child's mount that has to stand somewhere;
    // then nothing more is ever made in it.
    let place = c"proc".as_ptr() as u64;
    call(nr::MKDIRAT, [mount, place, 0o555, 0, 0, 0])?;
    let read_only: [u64; 4] = [1, 0, 0, 0];
    let attributes = read_only.as_ptr() as u64;
    call(
        nr::MOUNT_SETATTR,
        [mount, empty, AT_EMPTY_PATH, attributes, 32, 0],
    )?;
    call(nr::MOVE_MOUNT, [mount, empty, at_fdcwd, root, 4, 0])?;
    by_value(nr::FCHDIR, [mount, 0, 0, 0, 0, 0])?;
    call(nr::PIVOT_ROOT, [here, here, 0, 0, 0, 0])?;
    call(nr::UMOUNT2, [here, 2, 0, 0, 0, 0])?;
    call(nr::CHDIR, [root, 0, 0, 0, 0, 0])?;
    close(mount as i32);
    close(context as i32);
    Ok(())
}

fn watch_descriptor(watch: i32, descriptor: i32, events: u32, mark: u64) -> Result<()> {
    let event = Event { events, data: mark };
    let at = &raw const event as u64;
    let add = 1;
    // SAFETY: a live event to read.
    check(unsafe {
        raw(
            nr::EPOLL_CTL,
            [watch as u64, add, descriptor as u64, at, 0, 0],
        )
    })?;
    Ok(())
}

/// Waits for the next thing to do.
fn next(watch: i32) -> Result<u64> {
    let mut event = Event { events: 0, data: 0 };
    let at = &raw mut event as u64;
    let forever = -1_i64 as u64;
    // SAFETY: room for the one event that is asked for.
    check(unsafe { raw(nr::EPOLL_WAIT, [watch as u64, at, 1, forever, 0, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let event = unsafe { core::ptr::read_volatile(&raw const event) };
    Ok(event.data)
}

fn take_request(memory: &mut Memory, watch: i32) {
    let mut rights = Rights::new();
    let received = match receive(SPAWNER_SOCKET, &mut memory.image, &mut rights) {
        Ok(received) => received,
        Err(Errno::EINTR) => return,
        Err(_) => exit(1),
    };
    if received.bytes == 0 {
        // The caller is gone. What it held reads end of file; what it
        // started lives on.
        exit(0);
    }
    let all = rights
        .descriptors
        .get(..received.descriptors)
        .unwrap_or(&[]);
    let &[report, status, ref rest @ ..] = all else {
        close_all(all);
        return;
    };
    let words = received.bytes / 8;
    let kept = if received.cut {
        refuse(status, Errno::EPROTO, Place::Request)
    } else {
        launch(memory, watch, words, rest, (report, status))
    };
    if let Some(used) = memory.image.get_mut(..words) {
        // An environment may hold secrets: it stays no longer than needed.
        used.fill(0);
    }
    close(report);
    close_all(rest);
    if !kept {
        close(status);
    }
}

/// Makes the child; returns whether it is watched now.
fn launch(
    memory: &mut Memory,
    watch: i32,
    words: usize,
    descriptors: &[i32],
    (report, status): (i32, i32),
) -> bool {
    let Some(place) = memory.watched.iter().position(|w| w.pidfd == 0) else {
        return refuse(status, Errno::EAGAIN, Place::Table);
    };
    let image = memory
        .image
        .get(..words)
        .and_then(|words| Image::check(words, descriptors.len()).ok());
    let Some(image) = image else {
        return refuse(status, Errno::EPROTO, Place::Request);
    };
    let made = match make_child(&image, descriptors, report) {
        Ok(made) => made,
        Err(errno) => return refuse(status, errno, Place::Clone),
    };
    // Before anybody is told: one that cannot be watched is not made.
    if let Err(errno) = watch_descriptor(watch, made.pidfd, READABLE_ONCE, place as u64) {
        end(made);
        return refuse(status, errno, Place::Watch);
    }
    let answer = Answer {
        kind: Answer::MADE,
        pid: made.pid,
        code: 0,
        detail: 0,
    };
    if !tell(status, &answer, made.pidfd) {
        unwatch(watch, made.pidfd);
        end(made);
        return false;
    }
    if let Some(watched) = memory.watched.get_mut(place) {
        *watched = Watched {
            pid: made.pid,
            pidfd: made.pidfd,
            status,
        };
    }
    true
}

/// Ends a child that nobody was told of.
fn end(made: Made) {
    const SIGKILL: u64 = 9;
    let pidfd = made.pidfd as u64;
    // It is ours and nobody has waited for it: it is there for both.
    let _told = by_value(nr::PIDFD_SEND_SIGNAL, [pidfd, SIGKILL, 0, 0, 0, 0]);
    let _reaped = wait(made.pidfd, 0);
    close(made.pidfd);
}

/// Others may hold the same open pidfd, so closing ours would leave it
/// watched.
fn unwatch(watch: i32, pidfd: i32) {
    const EPOLL_CTL_DEL: u64 = 2;
    // It told of its end, and does so only once.
    let _unwatched = by_value(
        nr::EPOLL_CTL,
        [watch as u64, EPOLL_CTL_DEL, pidfd as u64, 0, 0, 0],
    );
}

fn refuse(status: i32, errno: Errno, place: Place) -> bool {
    let answer = Answer {
        kind: Answer::REFUSED,
        pid: 0,
        code: errno.0,
        detail: place as i32,
    };
    // Where it is not heard, end of file is.
    let _heard = tell(status, &answer, -1);
    false
}

fn reap(memory: &mut Memory, watch: i32, place: usize) {
    let Some(watched) = memory.watched.get_mut(place) else {
        return;
    };
    if watched.pidfd == 0 {
        return;
    }
    // First only looked at: taking it away takes the kernel longer, and nobody
    // has to wait for that.
    if let Ok((code, detail)) = wait(watched.pidfd, WNOWAIT) {
        let answer = Answer {
            kind: Answer::ENDED,
            pid: watched.pid,
            code,
            detail,
        };
        // Whoever does not hear it asks the pidfd.
        let _heard = tell(watched.status, &answer, -1);
        // It has ended, so this does not wait.
        let _reaped = wait(watched.pidfd, 0);
    }
    unwatch(watch, watched.pidfd);
    close(watched.pidfd);
    close(watched.status);
    watched.pidfd = 0;
}

/// Leaves the ended child to be waited for again.
const WNOWAIT: u64 = 0x0100_0000;

/// Waits for a child to end: how (`si_code`), and its code or signal.
fn wait(pidfd: i32, options: u64) -> Result<(i32, i32)> {
    const P_PIDFD: u64 = 3;
    /// `WEXITED | __WALL`.
    const ENDED: u64 = 4 | 0x4000_0000;
    // siginfo_t: 128 bytes; code at 8, status at 24.
    let mut info: [i32; 32] = [0; 32];
    let at = info.as_mut_ptr() as u64;
    let options = ENDED | options;
    loop {
        // SAFETY: a live buffer as large as siginfo_t.
        match check(unsafe { raw(nr::WAITID, [P_PIDFD, pidfd as u64, at, options, 0, 0]) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    let word = |at: usize| info.get(at).copied().unwrap_or(0);
    Ok((word(2), word(6)))
}

fn close_all(descriptors: &[i32]) {
    for &descriptor in descriptors {
        close(descriptor);
    }
}
