//! C04: io_uring, whose operations no filter sees.

use std::fs::File;
use std::os::fd::FromRawFd;

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, nr};

const AF_VSOCK: i32 = 40;
const SOCK_STREAM: u64 = 1;
const IORING_OP_SOCKET: u8 = 45;
const IORING_ENTER_GETEVENTS: usize = 1;
const IORING_OFF_SQES: usize = 0x1000_0000;
const IORING_REGISTER_PROBE: usize = 8;
const NO_DESCRIPTOR: usize = usize::MAX;

/// Asks for a ring and, through it, for a socket that a filter refuses as a
/// call. Ring and socket are closed unused.
pub(crate) fn c04(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    report.way("io_uring_setup", || match Ring::new() {
        Ok(ring) => {
            // It is looked at from outside, until this process ends.
            std::mem::forget(ring);
            Verdict::Through("a ring was handed out".to_owned())
        }
        Err(errno) => Verdict::stopped("io_uring_setup", errno),
    });
    report.way("socket-through-ring", || match Ring::new() {
        Ok(ring) => ring.socket(),
        Err(errno) => Verdict::stopped("io_uring_setup", errno),
    });
    report.way("io_uring_enter", || {
        // SAFETY: no descriptor and no pointer.
        reached("io_uring_enter", unsafe {
            sys::call(nr::IO_URING_ENTER, [NO_DESCRIPTOR, 0, 0, 0, 0, 0])
        })
    });
    report.way("io_uring_register", || {
        // SAFETY: no descriptor and no pointer.
        reached("io_uring_register", unsafe {
            sys::call(
                nr::IO_URING_REGISTER,
                [NO_DESCRIPTOR, IORING_REGISTER_PROBE, 0, 0],
            )
        })
    });
    Ok(())
}

/// Without a descriptor the answer of the call itself is EBADF or EINVAL.
fn reached(call: &str, answer: Answer) -> Verdict {
    match answer {
        Ok(_) => Verdict::Through(format!("{call} answered")),
        Err(errno @ (sys::EBADF | sys::Errno(22))) => {
            Verdict::Through(format!("{call} was reached ({errno})"))
        }
        Err(errno) => Verdict::stopped(call, errno),
    }
}

/// `struct io_uring_params`, with the two tables of offsets.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq_offsets: [u32; 10],
    cq_offsets: [u32; 10],
}

/// Where in `sq_offsets` and `cq_offsets` the fields stand.
const TAIL: usize = 1;
const SQ_ARRAY: usize = 6;
const CQ_ENTRIES: usize = 5;

struct Ring {
    file: File,
    parameters: Parameters,
}

impl Ring {
    fn new() -> Result<Self, sys::Errno> {
        let mut parameters = Parameters::default();
        let at = (&raw mut parameters).expose_provenance();
        // SAFETY: the call reads and writes one `io_uring_params`, 120 bytes.
        let made = unsafe { sys::call(nr::IO_URING_SETUP, [1, at]) }?;
        let made = i32::try_from(made).map_err(|_| sys::EBADF)?;
        // SAFETY: the call has just made this descriptor for us alone.
        let file = unsafe { File::from_raw_fd(made) };
        Ok(Self { file, parameters })
    }

    /// One submission: `socket(AF_VSOCK, SOCK_STREAM, 0)`.
    fn socket(&self) -> Verdict {
        let (rings, entries) = match (self.map(0), self.map(IORING_OFF_SQES)) {
            (Ok(rings), Ok(entries)) => (rings, entries),
            (Err(errno), _) | (_, Err(errno)) => return Verdict::stopped("mmap", errno),
        };
        let [first, second] = [AF_VSOCK as u32 as u64, SOCK_STREAM];
        // An entry is 64 bytes: opcode, flags, priority, fd, off, addr, len.
        put(entries, 0, u64::from(IORING_OP_SOCKET) | (first << 32));
        put(entries, 8, second);
        let offset = |table: &[u32; 10], field: usize| {
            table.get(field).copied().unwrap_or_default() as usize
        };
        put32(rings, offset(&self.parameters.sq_offsets, SQ_ARRAY), 0);
        put32(rings, offset(&self.parameters.sq_offsets, TAIL), 1);
        use std::os::fd::AsRawFd;
        let ring = sys::int(self.file.as_raw_fd());
        // SAFETY: one entry is submitted and awaited; no signal mask.
        let entered = unsafe {
            sys::call(
                nr::IO_URING_ENTER,
                [ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0],
            )
        };
        if let Err(errno) = entered {
            return Verdict::stopped("io_uring_enter", errno);
        }
        // A completion is 16 bytes: user data, result, flags.
        let result = get32(rings, offset(&self.parameters.cq_offsets, CQ_ENTRIES) + 8);
        match sys::decode(result as i32 as isize) {
            Ok(fd) => Verdict::Through(format!("a vsock came out of the ring, descriptor {fd}")),
            Err(errno) => Verdict::stopped("socket through the ring", errno),
        }
    }

    fn map(&self, offset: usize) -> Answer {
        use std::os::fd::AsRawFd;
        const PROT_READ_WRITE: usize = 3;
        const MAP_SHARED_POPULATE: usize = 0x8001;
        let ring = sys::int(self.file.as_raw_fd());
        let length = 4096;
        // SAFETY: a new mapping, wherever the kernel puts it.
        unsafe {
            sys::call(
                nr::MMAP,
                [
                    0,
                    length,
                    PROT_READ_WRITE,
                    MAP_SHARED_POPULATE,
                    ring,
                    offset,
                ],
            )
        }
    }
}

fn place<T>(base: usize, offset: usize) -> *mut T {
    std::ptr::with_exposed_provenance_mut(base.wrapping_add(offset))
}

fn put(base: usize, offset: usize, value: u64) {
    // SAFETY: an offset within the page that `map` has just made.
    unsafe { place::<u64>(base, offset).write_volatile(value) }
}

fn put32(base: usize, offset: usize, value: u32) {
    // SAFETY: an offset that the kernel named, within the page of the ring.
    unsafe { place::<u32>(base, offset).write_volatile(value) }
}

fn get32(base: usize, offset: usize) -> u32 {
    // SAFETY: an offset that the kernel named, within the page of the ring.
    unsafe { place::<u32>(base, offset).read_volatile() }
}
