//! A06, C08, C11: device nodes, odd families of sockets, odd requests.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::arguments::{Arguments, c_string};
use crate::kernel_calls::{HIGH_HALF, handed_out, reached};
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, EAFNOSUPPORT, EFAULT, EPROTONOSUPPORT, Errno, int, name, nr};

const MKNOD: usize = 133;
const MKNODAT: usize = 259;
const AT_FDCWD: i32 = -100;
const CHARACTER: usize = 0o020_666;
const BLOCK: usize = 0o060_666;
/// `/dev/null`, as node and as device.
const NULL: usize = 0x103;

/// Makes nodes, and opens the one that can do no harm.
pub(crate) fn a06(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (way, mode) in [("character", CHARACTER), ("block", BLOCK)] {
        report.way(way, || {
            Verdict::of("mknod", make(way, mode, false), "a node was made")
        });
        let at = format!("{way}-at");
        report.way(&at, || {
            Verdict::of("mknodat", make(&at, mode, true), "a node was made")
        });
        let high = format!("{way}-high-half");
        report.way(&high, || {
            let made = make(&high, mode | HIGH_HALF, false);
            Verdict::of("mknod", made, "a node was made")
        });
    }
    report.way("open", || {
        if let Err(errno) = make("open", CHARACTER, false) {
            return Verdict::stopped("mknod", errno);
        }
        match clear_nodev() {
            Ok(_) => match File::open("/tmp/node-open") {
                Ok(file) => {
                    std::mem::forget(file);
                    Verdict::Through("a node of its own is open".to_owned())
                }
                Err(error) => Verdict::refused("open", &error),
            },
            Err(errno) => Verdict::stopped("mount_setattr", errno),
        }
    });
    Ok(())
}

fn make(way: &str, mode: usize, at: bool) -> Answer {
    let path = c_string(&format!("/tmp/node-{way}"));
    if at {
        // SAFETY: the call reads a path, a C string.
        unsafe { sys::call(MKNODAT, [int(AT_FDCWD), name(&path), mode, NULL]) }
    } else {
        // SAFETY: the call reads a path, a C string.
        unsafe { sys::call(MKNOD, [name(&path), mode, NULL]) }
    }
}

/// struct mount_attr: set, clear, propagation, user namespace.
fn clear_nodev() -> Answer {
    const NODEV: u64 = 4;
    let attributes: [u64; 4] = [0, NODEV, 0, 0];
    let at = (&raw const attributes).expose_provenance();
    // SAFETY: the call reads a C string and the structure, whose size is passed.
    unsafe {
        let all = [
            int(AT_FDCWD),
            name(c"/tmp"),
            0,
            at,
            size_of_val(&attributes),
        ];
        sys::call(nr::MOUNT_SETATTR, all)
    }
}

const STREAM: usize = 1;
const DATAGRAM: usize = 2;
const RAW: usize = 3;

/// Family, type and protocol, by the name of the way.
const SOCKETS: [(&str, usize, usize, usize); 14] = [
    ("vsock", 40, STREAM, 0),
    ("vsock-high-half", 40 | HIGH_HALF, STREAM, 0),
    ("packet", 17, RAW, 0),
    ("packet-high-half", 17 | HIGH_HALF, RAW, 0),
    ("xdp", 44, RAW, 0),
    ("raw", 2, RAW, 1),
    ("multipath-tcp", 2, STREAM, 262),
    ("multipath-tcp-high-half", 2, STREAM, 262 | HIGH_HALF),
    ("netfilter", 16, RAW, 12),
    ("generic-netlink", 16, RAW, 16),
    ("algorithms", 38, 5, 0),
    ("can", 29, RAW, 1),
    ("tipc", 30, DATAGRAM, 0),
    ("sctp", 2, STREAM, 132),
];

/// Asks for a socket of each family. None is bound or connected.
pub(crate) fn c08(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (way, family, kind, protocol) in SOCKETS {
        report.way(way, || socket(family, kind, protocol));
    }
    Ok(())
}

fn socket(family: usize, kind: usize, protocol: usize) -> Verdict {
    // SAFETY: socket takes no pointer.
    match unsafe { sys::call(nr::SOCKET, [family, kind, protocol]) } {
        Err(errno @ (EAFNOSUPPORT | EPROTONOSUPPORT | Errno(94))) => {
            Verdict::Absent(format!("socket {errno}"))
        }
        answer => handed_out("socket", answer),
    }
}

/// Requests on a file of its own.
pub(crate) fn c11(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const FIBMAP: usize = 1;
    const GET_FLAGS: usize = 0x8008_6601;
    const SET_FLAGS: usize = 0x4008_6602;
    const IMMUTABLE: u32 = 0x10;
    let path = Path::new("/tmp/requests");
    let file = File::create(path).map_err(|error| CouldNotTry(format!("/tmp: {error}")))?;
    let request = |request: usize, at: usize| {
        // SAFETY: null, or the address of an int on the caller's frame.
        unsafe { sys::call(nr::IOCTL, [int(file.as_raw_fd()), request, at]) }
    };
    report.way("block-map", || {
        reached("ioctl FIBMAP", request(FIBMAP, 0), &[EFAULT])
    });
    report.way("immutable", || {
        let mut flags = 0_u64;
        let at = (&raw mut flags).expose_provenance();
        if let Err(errno) = request(GET_FLAGS, at) {
            return Verdict::stopped("ioctl FS_IOC_GETFLAGS", errno);
        }
        flags |= u64::from(IMMUTABLE);
        let at = (&raw mut flags).expose_provenance();
        let set = request(SET_FLAGS, at);
        Verdict::of("ioctl FS_IOC_SETFLAGS", set, "a file is immutable")
    });
    Ok(())
}
