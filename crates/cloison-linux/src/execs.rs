//! What the init does for `exec`: for each connection from outside it makes
//! one process, hands on signals, and tells how the process ended.
//!
//! The first datagram brings one socket, on which the new process itself reads
//! its request, so that the init touches none: a block of steps, checked like
//! that of a launch and run by the same code. What is made here has the init's
//! Landlock domain and not the command's inner one.

use core::ptr::addr_of_mut;

use crate::child::cloison_child_entry;
use crate::message::{Answer, CLD_EXITED, CLD_KILLED, EXECS_MAX, Place};
use crate::socket::{Rights, receive, send};
use crate::steps::{IMAGE_BYTES_MAX, Image};
use crate::sys::{Errno, Result, by_value, check, close, exit, nr, raw};

/// Signals, listener, and one connection for each process.
const POLLED: usize = 2 + EXECS_MAX;

const POLLIN: i16 = 1;
/// What is not watched.
const NOBODY: i32 = -1;
/// The exit code of a process whose request is none.
const EXIT_REFUSED: i32 = 125;

const SIGHUP: u64 = 1;
const SIGCHLD: u64 = 17;
const SIGCONT: u64 = 18;

/// struct pollfd.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Polled {
    descriptor: i32,
    events: i16,
    ready: i16,
}

impl Polled {
    fn of(descriptor: i32) -> Self {
        Self {
            descriptor,
            events: POLLIN,
            ready: 0,
        }
    }
}

/// A connection from outside, and the process that was made for it.
#[derive(Clone, Copy)]
struct Exec {
    /// 0: none yet.
    pid: u64,
    /// Who asked.
    connection: i32,
}

impl Exec {
    const FREE: Self = Self {
        pid: 0,
        connection: NOBODY,
    };
}

/// The listening socket, and the processes that were made by it.
pub(crate) struct Execs {
    listener: i32,
    all: [Exec; EXECS_MAX],
}

static mut REQUEST: [u64; IMAGE_BYTES_MAX / 8] = [0; IMAGE_BYTES_MAX / 8];

impl Execs {
    /// No process yet. Without a `listener` nobody may ask for one.
    pub(crate) fn new(listener: Option<i32>) -> Self {
        Self {
            listener: listener.unwrap_or(NOBODY),
            all: [Exec::FREE; EXECS_MAX],
        }
    }

    /// Waits for a signal or for something to do here; whether it was a
    /// signal. What there was to do is done.
    pub(crate) fn wait(&mut self, signals: i32) -> Result<bool> {
        let mut polled = [Polled::of(NOBODY); POLLED];
        let watched = [signals, self.listener]
            .into_iter()
            .chain(self.all.iter().map(|exec| exec.connection));
        for (place, descriptor) in polled.iter_mut().zip(watched) {
            *place = Polled::of(descriptor);
        }
        let at = polled.as_mut_ptr() as u64;
        // SAFETY: a live array with its length; no deadline.
        check(unsafe { raw(nr::POLL, [at, POLLED as u64, u64::MAX, 0, 0, 0]) })?;
        // SAFETY: a live local, which the kernel wrote through its address.
        let polled = unsafe { core::ptr::read_volatile(&raw const polled) };
        let [signal, listener, connections @ ..] = polled;
        for (exec, polled) in self.all.iter_mut().zip(connections) {
            if polled.ready != 0 {
                exec.hear();
            }
        }
        if listener.ready != 0 {
            self.accept();
        }
        Ok(signal.ready != 0)
    }

    /// Takes one connection.
    fn accept(&mut self) {
        const CLOEXEC: u64 = 0o2_000_000;
        let listener = self.listener as u64;
        let Ok(connection) = by_value(nr::ACCEPT4, [listener, 0, 0, CLOEXEC, 0, 0]) else {
            return;
        };
        let connection = connection as i32;
        let is_free = |exec: &&mut Exec| exec.pid == 0 && exec.connection == NOBODY;
        if !is_outside(connection) {
            close(connection);
        } else if let Some(free) = self.all.iter_mut().find(is_free) {
            free.connection = connection;
        } else {
            tell(connection, Answer::REFUSED, Errno::EAGAIN.0, Place::Table as i32);
            close(connection);
        }
    }

    /// Tells who asked for `pid` how it ended, if that was one of these.
    pub(crate) fn ended(&mut self, pid: u64, status: i32) {
        let Some(exec) = self.all.iter_mut().find(|exec| exec.pid == pid) else {
            return;
        };
        let signal = status & 0x7f;
        let (code, detail) = if signal == 0 {
            (CLD_EXITED, status >> 8 & 0xff)
        } else {
            (CLD_KILLED, signal)
        };
        tell(exec.connection, Answer::ENDED, code, detail);
        close(exec.connection);
        *exec = Exec::FREE;
    }
}

impl Exec {
    /// Takes what came: the socket of a process to make, or a signal to hand
    /// on. When nobody is there any more it is as when a terminal hangs up:
    /// a process that goes on all the same is nobody's, and takes no place.
    fn hear(&mut self) {
        let mut signal: [u64; 1] = [0];
        let mut rights = Rights::new();
        let received = match receive(self.connection, &mut signal, &mut rights) {
            Err(Errno::EINTR) => return,
            Ok(received) if received.bytes > 0 => received,
            _ => return self.hang_up(),
        };
        let brought = rights
            .descriptors
            .get(..received.descriptors)
            .unwrap_or(&[]);
        match (self.pid, brought) {
            (0, &[socket]) => self.make(socket),
            // What has ended needs no signal.
            (pid, []) if pid != 0 => {
                let [signal] = signal;
                let _gone = by_value(nr::KILL, [pid, signal, 0, 0, 0, 0]);
            }
            _ => {}
        }
        for &descriptor in brought {
            close(descriptor);
        }
    }

    fn make(&mut self, socket: i32) {
        // SAFETY: without CLONE_VM the child has memory of its own.
        match check(unsafe { raw(nr::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) }) {
            Ok(0) => serve(socket),
            Ok(pid) => self.pid = pid as u64,
            Err(errno) => {
                tell(self.connection, Answer::REFUSED, errno.0, Place::Clone as i32);
                close(self.connection);
                self.connection = NOBODY;
            }
        }
    }

    fn hang_up(&mut self) {
        close(self.connection);
        let Self { pid, .. } = core::mem::replace(self, Self::FREE);
        if pid != 0 {
            let group = pid.wrapping_neg();
            for signal in [SIGHUP, SIGCONT] {
                let _gone = by_value(nr::KILL, [group, signal, 0, 0, 0, 0]);
            }
        }
    }
}

/// Whether the other end lies outside this pid namespace, where numbers are
/// unknown here.
fn is_outside(connection: i32) -> bool {
    const SOL_SOCKET: u64 = 1;
    const SO_PEERCRED: u64 = 17;
    // struct ucred: process, user, group.
    let mut peer: [i32; 3] = [-1; 3];
    let mut length: u32 = 12;
    let (at, length_at) = (peer.as_mut_ptr() as u64, &raw mut length as u64);
    let connection = connection as u64;
    // SAFETY: a live structure with its live length.
    let told = check(unsafe {
        raw(
            nr::GETSOCKOPT,
            [connection, SOL_SOCKET, SO_PEERCRED, at, length_at, 0],
        )
    });
    // SAFETY: a live local, which the kernel wrote through its address.
    let [pid, ..] = unsafe { core::ptr::read_volatile(&raw const peer) };
    told.is_ok() && pid == 0
}

/// Runs what comes over `socket`, and reports there: in a process made for it.
fn serve(socket: i32) -> ! {
    let request = addr_of_mut!(REQUEST);
    // SAFETY: the only reference that this process makes: it was just made,
    // has one thread, and does not return from here.
    let request = unsafe { &mut *request };
    let mut rights = Rights::new();
    let received = loop {
        match receive(socket, request, &mut rights) {
            Err(Errno::EINTR) => {}
            Err(_) => exit(EXIT_REFUSED),
            Ok(received) => break received,
        }
    };
    let descriptors = rights
        .descriptors
        .get(..received.descriptors)
        .unwrap_or(&[]);
    let words = request.get_mut(..received.bytes / 8).unwrap_or(&mut []);
    if received.cut || Image::check(words, descriptors.len()).is_err() {
        exit(EXIT_REFUSED);
    }
    // SAFETY: the block was checked for these descriptors just above; block
    // and descriptors are this process's own, which has one thread.
    unsafe { cloison_child_entry(words.as_mut_ptr(), descriptors.as_ptr(), socket) }
}

fn tell(connection: i32, kind: u32, code: i32, detail: i32) {
    let answer = Answer {
        kind,
        pid: 0,
        code,
        detail,
    };
    /// So often in a row.
    const INTERRUPTIONS_MAX: u32 = 16;
    // Whoever is gone needs no answer. One who does not read must not hold
    // the init up: there is room for the few answers of one connection.
    for _ in 0..INTERRUPTIONS_MAX {
        if send(connection, &answer.bytes(), -1) != Err(Errno::EINTR) {
            return;
        }
    }
}
