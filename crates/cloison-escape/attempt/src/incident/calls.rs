//! The few calls of the re-enactment that std lacks. The only file of it that
//! is unsafe; what it hands out is safe to use.

use std::ffi::CStr;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};

use crate::sys;

/// What a call gave, or the error number it set.
pub(super) type Answer = Result<i64, i32>;

pub(super) const EINTR: i32 = 4;
const NR_POLL: i64 = 7;
const NR_SHMGET: i64 = 29;
const NR_SHMAT: i64 = 30;
const NR_SHMCTL: i64 = 31;
const NR_DUP3: i64 = 292;
const NR_WAIT4: i64 = 61;
const NR_KILL: i64 = 62;
const NR_SEMGET: i64 = 64;
const NR_SEMCTL: i64 = 66;
const NR_SHMDT: i64 = 67;
const NR_MSGGET: i64 = 68;
const NR_MSGSND: i64 = 69;
const NR_MSGRCV: i64 = 70;
const NR_MSGCTL: i64 = 71;
const NR_FCHDIR: i64 = 81;
const NR_PTRACE: i64 = 101;
const NR_MOUNT: i64 = 165;
const NR_UMOUNT2: i64 = 166;
const NR_MQ_OPEN: i64 = 240;
const NR_MQ_TIMEDSEND: i64 = 242;
const NR_MQ_TIMEDRECEIVE: i64 = 243;
const NR_KEYCTL: i64 = 250;
const NR_UNSHARE: i64 = 272;
const NR_SETNS: i64 = 308;
const NR_PROCESS_VM_READV: i64 = 310;
const NR_PROCESS_VM_WRITEV: i64 = 311;
const NR_FSOPEN: i64 = 430;
const NR_PIDFD_OPEN: i64 = 434;
const NR_PIDFD_GETFD: i64 = 438;
const NR_MOUNT_SETATTR: i64 = 442;

const IPC_CREAT: i64 = 0o1000;
const IPC_NOWAIT: i64 = 0o4000;
const IPC_PRIVATE: i64 = 0;

/// A system call. Every address among `words` is of something that outlives
/// the call and is as large as the call's manual page says: each wrapper
/// below passes its own locals and arguments, and nothing else.
fn raw(number: i64, words: [i64; 6]) -> Answer {
    let words = words.map(|word| word as usize);
    // SAFETY: the wrappers in this file, the only callers, keep the condition
    // above.
    let answer = unsafe { sys::call(number as usize, words) };
    answer
        .map(|value| value as i64)
        .map_err(|sys::Errno(number)| number)
}

fn at(bytes: &[u8]) -> i64 {
    bytes.as_ptr() as i64
}

fn at_mut(bytes: &mut [u8]) -> i64 {
    bytes.as_mut_ptr() as i64
}

/// `text` is a C string: its address.
fn string(text: &CStr) -> i64 {
    text.as_ptr() as i64
}

// Processes.

/// Waits for `pid`, a child or a process being traced.
pub(super) fn wait(pid: i32) -> Answer {
    const WALL: i64 = 0x4000_0000;
    loop {
        let waited = raw(NR_WAIT4, [pid.into(), 0, WALL, 0, 0, 0]);
        if waited != Err(EINTR) {
            return waited;
        }
    }
}

/// Sends `signal`; 0 asks whether it could.
pub(super) fn kill(pid: i32, signal: i32) -> Answer {
    raw(NR_KILL, [pid.into(), signal.into(), 0, 0, 0, 0])
}

/// ptrace(2) with requests that take neither address nor data.
pub(super) fn ptrace(request: i64, pid: i32) -> Answer {
    raw(NR_PTRACE, [request, pid.into(), 0, 0, 0, 0])
}

pub(super) fn read_memory(pid: i32, address: u64, into: &mut [u8]) -> Answer {
    let local = [at_mut(into), into.len() as i64];
    let remote = [address as i64, into.len() as i64];
    let (local, remote) = (local.as_ptr() as i64, remote.as_ptr() as i64);
    raw(NR_PROCESS_VM_READV, [pid.into(), local, 1, remote, 1, 0])
}

pub(super) fn write_memory(pid: i32, address: u64, from: &[u8]) -> Answer {
    let local = [at(from), from.len() as i64];
    let remote = [address as i64, from.len() as i64];
    let (local, remote) = (local.as_ptr() as i64, remote.as_ptr() as i64);
    raw(NR_PROCESS_VM_WRITEV, [pid.into(), local, 1, remote, 1, 0])
}

pub(super) fn pidfd_open(pid: i32) -> Answer {
    raw(NR_PIDFD_OPEN, [pid.into(), 0, 0, 0, 0, 0])
}

pub(super) fn pidfd_getfd(pidfd: i64, descriptor: i64) -> Answer {
    raw(NR_PIDFD_GETFD, [pidfd, descriptor, 0, 0, 0, 0])
}

// Descriptors.

/// Puts what `from` names at the number `to`, open across exec.
pub(super) fn duplicate_to(from: RawFd, to: RawFd) -> Answer {
    raw(NR_DUP3, [from.into(), to.into(), 0, 0, 0, 0])
}

/// The listening socket that was handed in as descriptor 3.
pub(super) fn listener_handed_in() -> TcpListener {
    // SAFETY: by the protocol of LISTEN_FDS, which the caller checked,
    // descriptor 3 is open and this program's own; it is taken once.
    unsafe { TcpListener::from_raw_fd(3) }
}

pub(super) fn fchdir(descriptor: RawFd) -> Answer {
    raw(NR_FCHDIR, [descriptor.into(), 0, 0, 0, 0, 0])
}

/// Waits until one of `descriptors` can be read, or the time is over; says
/// which can.
pub(super) fn readable<const N: usize>(
    descriptors: [RawFd; N],
    timeout_ms: i32,
) -> Result<[bool; N], i32> {
    const POLLIN: u64 = 1;
    // struct pollfd, little-endian: descriptor, events, events that came.
    let mut polled = descriptors.map(|fd| (POLLIN << 32) | u64::from(fd as u32));
    let words = polled.as_mut_ptr() as i64;
    raw(NR_POLL, [words, N as i64, timeout_ms.into(), 0, 0, 0])?;
    Ok(polled.map(|entry| entry >> 48 != 0))
}

// System V objects.

/// A shared memory segment, attached while this lives.
pub(super) struct Segment {
    address: *mut u8,
    bytes: usize,
}

impl Segment {
    /// Makes a new one of `bytes` bytes for the own user only.
    pub(super) fn create(bytes: usize) -> Result<Self, i32> {
        let flags = IPC_CREAT | 0o600;
        let id = raw(NR_SHMGET, [IPC_PRIVATE, bytes as i64, flags, 0, 0, 0])?;
        let segment = Self::attach(id, bytes)?;
        // IPC_RMID would hide it from the attacker: it lives until its
        // ipc namespace ends.
        Ok(segment)
    }

    /// Attaches the first `bytes` bytes of the segment `id`.
    pub(super) fn attach(id: i64, bytes: usize) -> Result<Self, i32> {
        let address = raw(NR_SHMAT, [id, 0, 0, 0, 0, 0])? as *mut u8;
        Ok(Self { address, bytes })
    }

    pub(super) fn read(&self) -> Vec<u8> {
        let byte = |offset| {
            // SAFETY: `offset` is below the segment's length, see `attach`.
            let from = unsafe { self.address.add(offset) };
            // SAFETY: attached until drop; others may write it, so volatile.
            unsafe { from.read_volatile() }
        };
        (0..self.bytes).map(byte).collect()
    }

    pub(super) fn write(&mut self, content: &[u8]) {
        for (offset, byte) in content.iter().take(self.bytes).enumerate() {
            // SAFETY: `offset` is below the segment's length, see `attach`.
            let to = unsafe { self.address.add(offset) };
            // SAFETY: attached for writing until drop.
            unsafe { to.write_volatile(*byte) }
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A segment that cannot be detached goes with the process.
        let _detached = raw(NR_SHMDT, [self.address as i64, 0, 0, 0, 0, 0]);
    }
}

/// The id of the shared memory segment at place `index` of the kernel's
/// table, and its size in bytes.
pub(super) fn segment_at(index: i64) -> Result<(i64, usize), i32> {
    const SHM_STAT: i64 = 13;
    // struct shmid_ds: the size follows struct ipc_perm of 48 bytes.
    let mut stat = [0_u64; 16];
    let id = raw(
        NR_SHMCTL,
        [index, SHM_STAT, stat.as_mut_ptr() as i64, 0, 0, 0],
    )?;
    Ok((id, usize::try_from(stat[6]).unwrap_or(0)))
}

/// A new semaphore of the own user with `value`.
pub(super) fn create_semaphore(value: i64) -> Answer {
    let id = raw(NR_SEMGET, [IPC_PRIVATE, 1, IPC_CREAT | 0o600, 0, 0, 0])?;
    set_semaphore(id, value)?;
    Ok(id)
}

pub(super) fn semaphore(id: i64) -> Answer {
    const GETVAL: i64 = 12;
    raw(NR_SEMCTL, [id, 0, GETVAL, 0, 0, 0])
}

pub(super) fn set_semaphore(id: i64, value: i64) -> Answer {
    const SETVAL: i64 = 16;
    raw(NR_SEMCTL, [id, 0, SETVAL, value, 0, 0])
}

/// The id of the semaphore set at place `index` of the kernel's table.
pub(super) fn semaphore_at(index: i64) -> Answer {
    const SEM_STAT: i64 = 18;
    let mut stat = [0_u64; 16];
    let address = stat.as_mut_ptr() as i64;
    raw(NR_SEMCTL, [index, 0, SEM_STAT, address, 0, 0])
}

/// The bytes of a message: its type, then its text.
const MESSAGE_BYTES: usize = 256;

/// A new message queue of the own user that holds one message.
pub(super) fn create_messages(text: &[u8]) -> Answer {
    let id = raw(NR_MSGGET, [IPC_PRIVATE, IPC_CREAT | 0o600, 0, 0, 0, 0])?;
    let mut message = [0_u8; 8 + MESSAGE_BYTES];
    for (to, from) in message
        .iter_mut()
        .zip(1_u64.to_le_bytes().iter().chain(text))
    {
        *to = *from;
    }
    let length = text.len().min(MESSAGE_BYTES) as i64;
    raw(NR_MSGSND, [id, at(&message), length, IPC_NOWAIT, 0, 0])?;
    Ok(id)
}

/// The first message of the queue `id`, which stays there.
///
/// # Kernel
/// `CONFIG_CHECKPOINT_RESTORE`, for `MSG_COPY`.
pub(super) fn peek_message(id: i64) -> Result<Vec<u8>, i32> {
    const MSG_COPY: i64 = 0o40_000;
    receive_message(id, MSG_COPY | IPC_NOWAIT)
}

/// Takes the first message of the queue `id`.
pub(super) fn take_message(id: i64) -> Result<Vec<u8>, i32> {
    receive_message(id, IPC_NOWAIT)
}

fn receive_message(id: i64, flags: i64) -> Result<Vec<u8>, i32> {
    let mut message = [0_u8; 8 + MESSAGE_BYTES];
    let address = at_mut(&mut message);
    let length = raw(NR_MSGRCV, [id, address, MESSAGE_BYTES as i64, 0, flags, 0])?;
    let text = message.iter().skip(8).take(length as usize);
    Ok(text.copied().collect())
}

/// The id of the message queue at place `index` of the kernel's table.
pub(super) fn messages_at(index: i64) -> Answer {
    const MSG_STAT: i64 = 11;
    let mut stat = [0_u64; 16];
    let address = stat.as_mut_ptr() as i64;
    raw(NR_MSGCTL, [index, MSG_STAT, address, 0, 0, 0])
}

// POSIX message queues.

const O_RDWR: i64 = 2;
const O_NONBLOCK: i64 = 0o4000;

/// A new queue called `name` (no slash, as the kernel wants it) that holds
/// one message.
pub(super) fn create_queue(name: &CStr, text: &[u8]) -> Answer {
    const O_CREAT_EXCL: i64 = 0o300;
    // struct mq_attr: flags, messages at most, bytes of one, messages now.
    let attributes: [u64; 8] = [0, 2, MESSAGE_BYTES as u64, 0, 0, 0, 0, 0];
    let flags = O_RDWR | O_NONBLOCK | O_CREAT_EXCL;
    let attributes = attributes.as_ptr() as i64;
    let queue = raw(NR_MQ_OPEN, [string(name), flags, 0o600, attributes, 0, 0])?;
    send_to_queue(queue, text)?;
    Ok(queue)
}

pub(super) fn open_queue(name: &CStr) -> Answer {
    raw(NR_MQ_OPEN, [string(name), O_RDWR | O_NONBLOCK, 0, 0, 0, 0])
}

pub(super) fn send_to_queue(queue: i64, text: &[u8]) -> Answer {
    raw(
        NR_MQ_TIMEDSEND,
        [queue, at(text), text.len() as i64, 0, 0, 0],
    )
}

pub(super) fn receive_from_queue(queue: i64) -> Result<Vec<u8>, i32> {
    let mut text = vec![0_u8; MESSAGE_BYTES];
    let address = at_mut(&mut text);
    let length = raw(
        NR_MQ_TIMEDRECEIVE,
        [queue, address, MESSAGE_BYTES as i64, 0, 0, 0],
    )?;
    text.truncate(usize::try_from(length).unwrap_or(0));
    Ok(text)
}

// Keys.

/// What the key `serial` is called: type, owner, rights and description.
pub(super) fn describe_key(serial: i64) -> Result<Vec<u8>, i32> {
    const DESCRIBE: i64 = 6;
    key_text(DESCRIBE, serial)
}

pub(super) fn read_key(serial: i64) -> Result<Vec<u8>, i32> {
    const READ: i64 = 11;
    key_text(READ, serial)
}

fn key_text(operation: i64, serial: i64) -> Result<Vec<u8>, i32> {
    let mut text = vec![0_u8; 512];
    let address = at_mut(&mut text);
    let length = raw(NR_KEYCTL, [operation, serial, address, 512, 0, 0])?;
    text.truncate(usize::try_from(length).unwrap_or(0));
    Ok(text)
}

pub(super) fn update_key(serial: i64, payload: &[u8]) -> Answer {
    const UPDATE: i64 = 2;
    let length = payload.len() as i64;
    raw(NR_KEYCTL, [UPDATE, serial, at(payload), length, 0, 0])
}

// Mounts and namespaces.

/// mount(2) without data.
pub(super) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: i64) -> Answer {
    let words = [string(source), string(target), string(kind), flags, 0, 0];
    raw(NR_MOUNT, words)
}

pub(super) fn unmount(target: &CStr) -> Answer {
    const MNT_DETACH: i64 = 2;
    raw(NR_UMOUNT2, [string(target), MNT_DETACH, 0, 0, 0, 0])
}

pub(super) fn fsopen(kind: &CStr) -> Answer {
    raw(NR_FSOPEN, [string(kind), 0, 0, 0, 0, 0])
}

/// Asks for the mount at `target` to become writable.
pub(super) fn clear_read_only(target: &CStr) -> Answer {
    const AT_FDCWD: i64 = -100;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    // struct mount_attr: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [0, MOUNT_ATTR_RDONLY, 0, 0];
    let (target, attributes) = (string(target), attributes.as_ptr() as i64);
    raw(NR_MOUNT_SETATTR, [AT_FDCWD, target, 0, attributes, 32, 0])
}

pub(super) fn unshare(flags: i64) -> Answer {
    raw(NR_UNSHARE, [flags, 0, 0, 0, 0, 0])
}

pub(super) fn setns(descriptor: RawFd) -> Answer {
    raw(NR_SETNS, [descriptor.into(), 0, 0, 0, 0, 0])
}
