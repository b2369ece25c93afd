//! N05: the network's own interfaces, as root of one's network namespace.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};

use crate::arguments::Arguments;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const AF_INET: usize = 2;
const AF_INET6: usize = 10;
const AF_NETLINK: usize = 16;
const AF_PACKET: usize = 17;
const AF_XDP: usize = 44;
const SOCK_DGRAM: usize = 2;
const SOCK_RAW: usize = 3;
const IPPROTO_ICMP: usize = 1;
const IPPROTO_ICMPV6: usize = 58;
const IPPROTO_RAW: usize = 255;

const NETLINK_ROUTE: usize = 0;
const NETLINK_XFRM: usize = 6;
const NETLINK_NETFILTER: usize = 12;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const ANSWER_TIMEOUT_MS: i32 = 2_000;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const XFRM_MSG_GETSADINFO: u16 = 0x23;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFT_MSG_NEWTABLE: u16 = 10 << 8;
const IPSET_CMD_PROTOCOL: u16 = (6 << 8) | 1;

/// Asks the kernel to change links, queues, rules and transformations, and
/// for the sockets that see every packet. What it makes it removes.
pub(crate) fn n05(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for kind in ["dummy", "veth", "bridge"] {
        report.way(&format!("link-{kind}"), || link(kind));
    }
    report.way("tc-qdisc", queue);
    report.way("nft-batch", nft_batch);
    report.way("ipset", ipset);
    report.way("xfrm", xfrm);
    report.way("link-flags-by-ioctl", flags_by_ioctl);
    let sockets = [
        ("packet-raw", AF_PACKET, SOCK_RAW, 0x0300),
        ("packet-datagram", AF_PACKET, SOCK_DGRAM, 0x0300),
        ("raw-icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP),
        ("raw-ip", AF_INET, SOCK_RAW, IPPROTO_RAW),
        ("raw-icmp6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
        ("xdp", AF_XDP, SOCK_RAW, 0),
    ];
    for (name, family, kind, protocol) in sockets {
        report.way(name, || match socket(family, kind, protocol) {
            Ok(_) => Verdict::Through("a socket was handed out".to_owned()),
            Err(errno) => no_socket(errno),
        });
    }
    Ok(())
}

fn socket(family: usize, kind: usize, protocol: usize) -> Answer {
    // SAFETY: socket takes no pointer.
    unsafe { sys::call(nr::SOCKET, [family, kind, protocol]) }
}

fn no_socket(errno: Errno) -> Verdict {
    match errno {
        sys::EAFNOSUPPORT | sys::EPROTONOSUPPORT => Verdict::Absent(format!("socket {errno}")),
        _ => Verdict::stopped("socket", errno),
    }
}

/// Any answer but a refusal of permission: the request was worked on.
fn judge(answer: Result<(), Errno>) -> Verdict {
    match answer {
        Ok(()) => Verdict::Through("done".to_owned()),
        Err(errno @ (sys::EPERM | sys::EACCES)) => Verdict::stopped("netlink", errno),
        Err(errno) => Verdict::Through(format!("the request was worked on ({errno})")),
    }
}

/// A link of the kind, and its removal.
fn link(kind: &str) -> Verdict {
    let netlink = match Netlink::open(NETLINK_ROUTE) {
        Ok(netlink) => netlink,
        Err(verdict) => return verdict,
    };
    let header = [0_u8; 16];
    let name = attribute(3, b"cloison0\0");
    let kind = attribute(18, &attribute(1, kind.as_bytes()));
    let body = [header.as_slice(), &name, &kind].concat();
    let made = netlink.ask(&[message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body)]);
    let verdict = judge(made);
    if made.is_ok() {
        report::hold();
        let body = [header.as_slice(), &name].concat();
        if let Err(errno) = netlink.ask(&[message(RTM_DELLINK, 0, &body)]) {
            return Verdict::Through(format!("made, and not removed: {errno}"));
        }
    }
    verdict
}

/// A queue on the loopback, and its removal.
fn queue() -> Verdict {
    let netlink = match Netlink::open(NETLINK_ROUTE) {
        Ok(netlink) => netlink,
        Err(verdict) => return verdict,
    };
    // struct tcmsg: family and padding, link 1, handle 1:0, root, no info.
    let words = [0_u32, 1, 0x1_0000, 0xffff_ffff, 0];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.extend(attribute(1, b"pfifo\0"));
    let made = netlink.ask(&[message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &body)]);
    let verdict = judge(made);
    if made.is_ok() {
        report::hold();
        let head = body.get(..20).unwrap_or_default();
        if let Err(errno) = netlink.ask(&[message(RTM_DELQDISC, 0, head)]) {
            return Verdict::Through(format!("made, and not removed: {errno}"));
        }
    }
    verdict
}

/// A new table in a batch without an end: the kernel works through it, and
/// then drops all of it.
fn nft_batch() -> Verdict {
    let netlink = match Netlink::open(NETLINK_NETFILTER) {
        Ok(netlink) => netlink,
        Err(verdict) => return verdict,
    };
    // struct nfgenmsg: family, version, subsystem in network order.
    let begin = message(NFNL_MSG_BATCH_BEGIN, 0, &[0, 0, 0, 10]);
    let body = [[1_u8, 0, 0, 0].as_slice(), &attribute(1, b"cloison\0")].concat();
    judge(netlink.ask(&[begin, message(NFT_MSG_NEWTABLE, NLM_F_CREATE, &body)]))
}

fn ipset() -> Verdict {
    let netlink = match Netlink::open(NETLINK_NETFILTER) {
        Ok(netlink) => netlink,
        Err(verdict) => return verdict,
    };
    let body = [[2_u8, 0, 0, 0].as_slice(), &attribute(1, &[7])].concat();
    judge(netlink.ask(&[message(IPSET_CMD_PROTOCOL, 0, &body)]))
}

fn xfrm() -> Verdict {
    match Netlink::open(NETLINK_XFRM) {
        Ok(netlink) => judge(netlink.ask(&[message(XFRM_MSG_GETSADINFO, 0, &[0; 4])])),
        Err(verdict) => verdict,
    }
}

/// The loopback of this network, set down for a while.
fn flags_by_ioctl() -> Verdict {
    const SIOCGIFFLAGS: usize = 0x8913;
    const SIOCSIFFLAGS: usize = 0x8914;
    let socket = match socket(AF_INET, SOCK_DGRAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return no_socket(errno),
    };
    let mut request = [0_u8; 40];
    for (place, byte) in request.iter_mut().zip(*b"lo") {
        *place = byte;
    }
    let at = (&raw mut request).expose_provenance();
    // SAFETY: the request reads and writes one `ifreq`, 40 bytes.
    if let Err(errno) = unsafe { sys::call(nr::IOCTL, [socket, SIOCGIFFLAGS, at]) } {
        return Verdict::stopped("ioctl SIOCGIFFLAGS", errno);
    }
    // The flags stand behind the name; the lowest bit of them is IFF_UP.
    if let Some(flags) = request.get_mut(16) {
        *flags ^= 1;
    }
    // SAFETY: the request reads the `ifreq` that was just written.
    let set = unsafe { sys::call(nr::IOCTL, [socket, SIOCSIFFLAGS, at]) };
    if let Err(errno) = set {
        return Verdict::stopped("ioctl SIOCSIFFLAGS", errno);
    }
    report::hold();
    if let Some(flags) = request.get_mut(16) {
        *flags ^= 1;
    }
    let at = (&raw mut request).expose_provenance();
    // SAFETY: the request reads the `ifreq` as it was read.
    let back = unsafe { sys::call(nr::IOCTL, [socket, SIOCSIFFLAGS, at]) };
    Verdict::of("ioctl SIOCSIFFLAGS", back, "lo was set down, and up again")
}

struct Netlink {
    file: File,
}

impl Netlink {
    fn open(protocol: usize) -> Result<Self, Verdict> {
        let opened = socket(AF_NETLINK, SOCK_RAW, protocol).map_err(no_socket)?;
        let fd = i32::try_from(opened).unwrap_or(-1);
        // SAFETY: socket has just made this descriptor for us alone.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self { file })
    }

    /// Sends the messages in one piece; the answer is the first error code
    /// that comes back, or success if none does.
    fn ask(&self, messages: &[Vec<u8>]) -> Result<(), Errno> {
        let bytes = messages.concat();
        let at = bytes.as_ptr().expose_provenance();
        // SAFETY: the call reads `bytes`, whose length is passed; no address.
        unsafe {
            sys::call(
                nr::SENDTO,
                [int(self.file.as_raw_fd()), at, bytes.len(), 0, 0, 0],
            )
        }?;
        let mut answer = [0_u8; 8192];
        if !sys::readable_within(&self.file, ANSWER_TIMEOUT_MS) {
            return Err(Errno(110));
        }
        let count = (&self.file)
            .read(&mut answer)
            .map_err(|error| Errno::of(&error))?;
        match answer.get(..count) {
            Some([_, _, _, _, low, high, ..])
                if u16::from_ne_bytes([*low, *high]) != NLMSG_ERROR =>
            {
                Ok(())
            }
            Some(
                [
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    a,
                    b,
                    c,
                    d,
                    ..,
                ],
            ) => match i32::from_ne_bytes([*a, *b, *c, *d]) {
                0 => Ok(()),
                negative => Err(Errno(negative.wrapping_neg())),
            },
            _ => Err(Errno(5)),
        }
    }
}

/// `struct nlmsghdr` and a body.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 16).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
