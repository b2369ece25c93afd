//! What caller and spawner say to each other.
//!
//! A request is one datagram: a block of steps, with descriptors: the child's
//! end of the report socket, the spawner's end of the status socket, then
//! those of the block. The spawner answers on the status socket, so callers
//! in several threads need no lock: first [`Answer`] with the pidfd, later
//! [`Answer`] with the status.
//!
//! With the init of a sandbox each process has a connection of its own. Its
//! first datagram is one word with one descriptor: the socket on which the new
//! process reads its block and reports. Each later one is the number of a
//! signal to hand on. [`Answer`] says that no process was made, or how it ended.

use core::mem::size_of;

/// One datagram from the spawner.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// [`Answer::READY`], [`Answer::MADE`], [`Answer::REFUSED`] or
    /// [`Answer::ENDED`].
    pub kind: u32,
    /// The process.
    pub pid: i32,
    /// `MADE`: 0. `REFUSED`: the error number. `ENDED`: `si_code` of
    /// waitid(2).
    pub code: i32,
    /// `REFUSED`: the place (see [`Place`]). `ENDED`: `si_status`.
    pub detail: i32,
}

impl Answer {
    /// The spawner is ready for requests.
    pub const READY: u32 = 1;
    /// The child was made; its pidfd comes along.
    pub const MADE: u32 = 2;
    /// No child was made.
    pub const REFUSED: u32 = 3;
    /// The child has ended.
    pub const ENDED: u32 = 4;
    /// How many bytes it has.
    pub const BYTES: usize = size_of::<Self>();

    /// What was sent so.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut words = [0; 4];
        for (word, from) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*from);
        }
        let [kind, pid, code, detail] = words;
        Self {
            kind,
            pid: pid as i32,
            code: code as i32,
            detail: detail as i32,
        }
    }

    /// It as it is sent.
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let Self {
            kind,
            pid,
            code,
            detail,
        } = *self;
        let mut bytes = [0; Self::BYTES];
        for (place, value) in
            bytes
                .chunks_exact_mut(4)
                .zip([kind, pid as u32, code as u32, detail as u32])
        {
            for (to, from) in place.iter_mut().zip(value.to_ne_bytes()) {
                *to = from;
            }
        }
        bytes
    }
}

/// Where the spawner refused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request was malformed.
    Request = 1,
    /// It has as many children as it can watch.
    Table = 2,
    /// clone3(2) failed.
    Clone = 3,
    /// Its own small mount namespace could not be made.
    MountNamespace = 4,
    /// The child could not be watched.
    Watch = 5,
}

/// `si_code` of waitid(2) for a process that exited.
pub const CLD_EXITED: i32 = 1;
/// The same for one that a signal ended.
pub const CLD_KILLED: i32 = 2;

/// How many processes that somebody asked for an init minds at a time. One
/// that nobody waits for any more is not counted.
pub const EXECS_MAX: usize = 32;

/// The descriptor of the spawner's socket in the spawner.
pub const SPAWNER_SOCKET: i32 = 0;
/// The most children that one spawner watches.
pub const CHILDREN_MAX: usize = 8192;
