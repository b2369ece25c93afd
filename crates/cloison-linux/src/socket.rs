//! Datagrams with descriptors, without a library.

use crate::sys::{Result, check, nr, raw};

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const MSG_NOSIGNAL: u64 = 0x4000;
/// `MSG_TRUNC | MSG_CTRUNC`.
const CUT: i32 = 0x20 | 0x08;

/// The most descriptors in one datagram.
pub(crate) const RIGHTS_MAX: usize = 124;

#[repr(C)]
struct Vector {
    base: u64,
    length: u64,
}

/// struct msghdr.
#[repr(C)]
struct Head {
    name: u64,
    name_length: u64,
    vector: u64,
    vectors: u64,
    control: u64,
    control_length: u64,
    flags: i32,
    _pad: i32,
}

/// struct cmsghdr with descriptors behind it.
#[repr(C)]
pub(crate) struct Rights {
    length: u64,
    level: i32,
    kind: i32,
    /// The descriptors.
    pub(crate) descriptors: [i32; RIGHTS_MAX],
}

impl Rights {
    pub(crate) const fn new() -> Self {
        Self {
            length: 0,
            level: 0,
            kind: 0,
            descriptors: [-1; RIGHTS_MAX],
        }
    }

    /// How many descriptors arrived.
    fn count(&self) -> usize {
        if self.level == SOL_SOCKET && self.kind == SCM_RIGHTS && self.length >= 16 {
            ((self.length as usize - 16) / 4).min(RIGHTS_MAX)
        } else {
            0
        }
    }
}

/// One datagram that arrived.
pub(crate) struct Received {
    /// Bytes of it; 0 when the other end is gone.
    pub(crate) bytes: usize,
    /// Descriptors that came along.
    pub(crate) descriptors: usize,
    /// Whether something did not fit.
    pub(crate) cut: bool,
}

/// Receives into `words` and `rights`.
pub(crate) fn receive(socket: i32, words: &mut [u64], rights: &mut Rights) -> Result<Received> {
    let vector = Vector {
        base: words.as_mut_ptr() as u64,
        length: (words.len() * 8) as u64,
    };
    rights.length = 0;
    let mut head = Head {
        name: 0,
        name_length: 0,
        vector: &raw const vector as u64,
        vectors: 1,
        control: core::ptr::from_mut(rights) as u64,
        control_length: core::mem::size_of::<Rights>() as u64,
        flags: 0,
        _pad: 0,
    };
    let at = &raw mut head as u64;
    // SAFETY: the head names two live buffers with their own lengths.
    let received = unsafe {
        raw(
            nr::RECVMSG,
            [socket as u64, at, MSG_CMSG_CLOEXEC, 0, 0, 0],
        )
    };
    let bytes = check(received)? as usize;
    // SAFETY: a live local, which the kernel wrote through its address.
    let head = unsafe { core::ptr::read_volatile(&raw const head) };
    Ok(Received {
        bytes,
        descriptors: if head.control_length >= 16 {
            rights.count()
        } else {
            0
        },
        cut: head.flags & CUT != 0,
    })
}

/// Sends `bytes`, with one descriptor if it is not negative.
pub(crate) fn send(socket: i32, bytes: &[u8], descriptor: i32) -> Result<()> {
    let vector = Vector {
        base: bytes.as_ptr() as u64,
        length: bytes.len() as u64,
    };
    let mut rights = Rights::new();
    rights.length = 16 + 4;
    rights.level = SOL_SOCKET;
    rights.kind = SCM_RIGHTS;
    if let Some(first) = rights.descriptors.first_mut() {
        *first = descriptor;
    }
    let with_rights = descriptor >= 0;
    let head = Head {
        name: 0,
        name_length: 0,
        vector: &raw const vector as u64,
        vectors: 1,
        control: if with_rights { &raw const rights as u64 } else { 0 },
        control_length: if with_rights { 24 } else { 0 },
        flags: 0,
        _pad: 0,
    };
    let at = &raw const head as u64;
    // SAFETY: the head names live buffers with their own lengths.
    let sent = unsafe { raw(nr::SENDMSG, [socket as u64, at, MSG_NOSIGNAL, 0, 0, 0]) };
    check(sent).map(|_| ())
}
