//! N02, N04 and N06: sockets that transform what is spliced into them, odd
//! corners of sockets, programs on sockets. A descriptor, or an option that
//! was reached, is the success; no data goes anywhere but to oneself.

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const SENDMMSG: usize = 307;
const RECVFROM: usize = 45;
const SOCKETPAIR: usize = 53;

const AF_UNIX: usize = 1;
const AF_INET: usize = 2;
const AF_INET6: usize = 10;
const AF_RXRPC: usize = 33;
const AF_ALG: usize = 38;
const SOCK_STREAM: usize = 1;
const SOCK_DGRAM: usize = 2;
const SOCK_SEQPACKET: usize = 5;
const SOL_SOCKET: usize = 1;
const IPPROTO_UDP: usize = 17;
const MSG_OOB: usize = 1;
const HIGH_HALF: usize = 0x1_0000_0000;
const EOPNOTSUPP: Errno = Errno(95);

fn socket(family: usize, kind: usize) -> Result<usize, Verdict> {
    // SAFETY: socket takes no pointer.
    match unsafe { sys::call(nr::SOCKET, [family, kind, 0]) } {
        Ok(socket) => Ok(socket),
        Err(errno @ sys::EAFNOSUPPORT) => Err(Verdict::Absent(format!("socket {errno}"))),
        Err(errno) => Err(Verdict::stopped("socket", errno)),
    }
}

/// Any answer but a refusal of permission: the option was reached.
fn option(socket: usize, level: usize, option: usize, value: &[u8]) -> Verdict {
    let at = value.as_ptr().expose_provenance();
    // SAFETY: the call reads `value`, whose length is passed.
    let set = unsafe { sys::call(nr::SETSOCKOPT, [socket, level, option, at, value.len()]) };
    match set {
        Ok(_) => Verdict::Through("the option was set".to_owned()),
        Err(errno @ (sys::EPERM | sys::EACCES | sys::ENOSYS)) => {
            Verdict::stopped("setsockopt", errno)
        }
        Err(errno) => Verdict::Through(format!("the option was reached ({errno})")),
    }
}

/// Sockets that a page of a read-only file could be spliced into, to be
/// changed where it lies.
pub(crate) fn n02(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const UDP_ENCAP: usize = 100;
    const ESP_IN_UDP: u32 = 2;
    const L2TP_IN_UDP: u32 = 3;
    report.way("alg-socket", || {
        socket(AF_ALG, SOCK_SEQPACKET).map_or_else(
            |verdict| verdict,
            |_| Verdict::Through("a socket of the crypto interface".to_owned()),
        )
    });
    report.way("rxrpc-socket", || {
        socket(AF_RXRPC, SOCK_DGRAM).map_or_else(
            |verdict| verdict,
            |_| Verdict::Through("a socket of RxRPC".to_owned()),
        )
    });
    for (name, family) in [("udp4", AF_INET), ("udp6", AF_INET6)] {
        for (kind, number) in [("esp", ESP_IN_UDP), ("l2tp", L2TP_IN_UDP)] {
            for (half, level, which) in [
                ("", IPPROTO_UDP, UDP_ENCAP),
                ("-high-half-level", IPPROTO_UDP | HIGH_HALF, UDP_ENCAP),
                ("-high-half-option", IPPROTO_UDP, UDP_ENCAP | HIGH_HALF),
            ] {
                report.way(&format!("{name}-{kind}{half}"), || {
                    match socket(family, SOCK_DGRAM) {
                        Ok(socket) => option(socket, level, which, &number.to_ne_bytes()),
                        Err(verdict) => verdict,
                    }
                });
            }
        }
    }
    Ok(())
}

/// Out-of-band bytes between two ends of one's own, and source lists.
pub(crate) fn n04(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (half, flags) in [("", MSG_OOB), ("-high-half", MSG_OOB | HIGH_HALF)] {
        report.way(&format!("sendto{half}"), || {
            out_of_band("sendto", |end| {
                let byte = b"!".as_ptr().expose_provenance();
                // SAFETY: the call reads one byte.
                unsafe { sys::call(nr::SENDTO, [int(end), byte, 1, flags, 0, 0]) }
            })
        });
        for (name, number) in [("sendmsg", nr::SENDMSG), ("sendmmsg", SENDMMSG)] {
            report.way(&format!("{name}{half}"), || {
                out_of_band(name, |end| send_message(number, end, flags))
            });
        }
    }
    const IPPROTO_IP: usize = 0;
    const IPPROTO_IPV6: usize = 41;
    let options = [
        ("unblock", 37),
        ("block", 38),
        ("add", 39),
        ("drop", 40),
        ("filter", 41),
        ("block-protocol-free", 43),
        ("join-protocol-free", 46),
        ("filter-protocol-free", 48),
    ];
    for (name, number) in options {
        report.way(&format!("source-{name}"), || {
            source_list(AF_INET, IPPROTO_IP, number)
        });
        if number >= 43 {
            report.way(&format!("source6-{name}"), || {
                source_list(AF_INET6, IPPROTO_IPV6, number)
            });
        }
    }
    Ok(())
}

fn send_message(number: usize, end: i32, flags: usize) -> Answer {
    let piece = [b"!".as_ptr().expose_provenance(), 1];
    // struct mmsghdr: a struct msghdr (no name, one piece, no control), and
    // room for how much was sent.
    let message = [
        0,
        0,
        piece.as_ptr().expose_provenance(),
        1,
        0,
        0,
        0,
        0_usize,
    ];
    let at = message.as_ptr().expose_provenance();
    let arguments = if number == SENDMMSG {
        [int(end), at, 1, flags]
    } else {
        [int(end), at, flags, 0]
    };
    // SAFETY: the call reads the structure and one piece of one byte; a
    // count is written into the structure's last word, which nobody reads.
    unsafe { sys::call(number, arguments) }
}

/// Sends to the other end of a pair and takes the byte out of band.
fn out_of_band(call: &str, send: impl FnOnce(i32) -> Answer) -> Verdict {
    let mut ends = [0_i32; 2];
    let at = ends.as_mut_ptr().expose_provenance();
    // SAFETY: the call writes two ints, which are on this frame.
    let made = unsafe { sys::call(SOCKETPAIR, [AF_UNIX, SOCK_STREAM, 0, at]) };
    if let Err(errno) = made {
        return Verdict::Untried(format!("socketpair {errno}"));
    }
    let [end, other] = ends;
    match send(end) {
        Ok(_) => {}
        Err(errno @ EOPNOTSUPP) => return Verdict::Absent(format!("{call} {errno}")),
        Err(errno) => return Verdict::stopped(call, errno),
    }
    let mut byte = 0_u8;
    let at = (&raw mut byte).expose_provenance();
    // SAFETY: the call writes one byte, which is on this frame.
    let taken = unsafe { sys::call(RECVFROM, [int(other), at, 1, MSG_OOB, 0, 0]) };
    match (taken, byte) {
        (Ok(1), b'!') => Verdict::Through("a byte went out of band".to_owned()),
        (taken, _) => Verdict::Untried(format!("sent, and taken as {taken:?}")),
    }
}

/// A structure of zeros is one too short for some of these: the kernel says
/// so, behind the filter.
fn source_list(family: usize, level: usize, number: usize) -> Verdict {
    match socket(family, SOCK_DGRAM) {
        Ok(socket) => option(socket, level, number, &[0; 264]),
        Err(verdict) => verdict,
    }
}

/// Programs on a socket.
pub(crate) fn n06(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const ATTACH_FILTER: usize = 26;
    const ATTACH_BPF: usize = 50;
    const ATTACH_REUSEPORT_CBPF: usize = 51;
    const ATTACH_REUSEPORT_EBPF: usize = 52;
    // One instruction that drops: struct sock_fprog names it.
    let instruction = [0x0000_0000_0000_0006_u64];
    let program = [1, instruction.as_ptr().expose_provenance()];
    let program: Vec<u8> = program.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let none = (-1_i32).to_ne_bytes();
    let options: [(&str, usize, &[u8]); 4] = [
        ("filter", ATTACH_FILTER, &program),
        ("bpf", ATTACH_BPF, &none),
        ("reuseport-filter", ATTACH_REUSEPORT_CBPF, &program),
        ("reuseport-bpf", ATTACH_REUSEPORT_EBPF, &none),
    ];
    for (name, number, value) in options {
        for (half, level, number) in [
            ("", SOL_SOCKET, number),
            ("-high-half-level", SOL_SOCKET | HIGH_HALF, number),
            ("-high-half-option", SOL_SOCKET, number | HIGH_HALF),
        ] {
            report.way(&format!("{name}{half}"), || {
                match socket(AF_INET, SOCK_DGRAM) {
                    Ok(socket) => option(socket, level, number, value),
                    Err(verdict) => verdict,
                }
            });
        }
    }
    std::hint::black_box(&instruction);
    Ok(())
}
