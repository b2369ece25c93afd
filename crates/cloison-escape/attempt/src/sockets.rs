//! E13 and N03: a socket of another network namespace, and what TCP sockets
//! can be turned into.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

use crate::arguments::Arguments;
use crate::descriptors::open_descriptors;
use crate::files;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, int, nr};

const AF_UNIX: usize = 1;
const AF_INET: usize = 2;
const AF_INET6: usize = 10;
const SOCK_STREAM: usize = 1;
const SOL_SOCKET: usize = 1;
const SO_TYPE: usize = 3;
const SO_DOMAIN: usize = 39;
const SO_NETNS_COOKIE: usize = 71;
const IPPROTO_TCP: usize = 6;
const TCP_ULP: usize = 31;
const MSG_FASTOPEN: usize = 0x2000_0000;
const HIGH_HALF: usize = 0x1_0000_0000;

/// Turns every IP socket of another network namespace that it holds into a
/// connection to `port` on that namespace's loopback, where a neighbour
/// answers with `token`.
pub(crate) fn e13(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let port: u16 = arguments.number("port")?;
    let token = arguments.text("token")?;
    let foreign = foreign_ip_sockets();
    println!("foreign IP sockets: {foreign:?}");
    report.way("connect", || {
        on_each(&foreign, |held| held.connect(port, token))
    });
    report.way("disconnect-connect", || {
        on_each(&foreign, |held| {
            held.disconnect()
                .map_err(|errno| Verdict::stopped("connect AF_UNSPEC", errno))?;
            held.connect(port, token)
        })
    });
    report.way("disconnect-fast-open", || {
        on_each(&foreign, |held| {
            held.disconnect()
                .map_err(|errno| Verdict::stopped("connect AF_UNSPEC", errno))?;
            held.fast_open(port, token)
        })
    });
    report.way("disconnect-fast-open-message", || {
        on_each(&foreign, |held| {
            held.disconnect()
                .map_err(|errno| Verdict::stopped("connect AF_UNSPEC", errno))?;
            held.fast_open_by_message(port, token)
        })
    });
    report.way("disconnect-fast-open-connect", || {
        on_each(&foreign, |held| {
            held.disconnect()
                .map_err(|errno| Verdict::stopped("connect AF_UNSPEC", errno))?;
            held.defer_connecting()
                .map_err(|errno| Verdict::stopped("setsockopt", errno))?;
            held.connect_later(port, token)
        })
    });
    Ok(())
}

/// Asks each kind of stream socket for an upper layer protocol. On a kernel
/// that has it the answer is 0 or ENOTCONN, on one that has not ENOENT: each
/// shows that the option was reached.
pub(crate) fn n03(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (kind, family) in [("tcp4", AF_INET), ("tcp6", AF_INET6), ("unix", AF_UNIX)] {
        for protocol in ["tls", "espintcp", "smc", "mptcp"] {
            report.way(&format!("{kind}-{protocol}"), || {
                upper_layer(family, IPPROTO_TCP, TCP_ULP, protocol)
            });
        }
        report.way(&format!("{kind}-tls-high-half-level"), || {
            upper_layer(family, IPPROTO_TCP | HIGH_HALF, TCP_ULP, "tls")
        });
        report.way(&format!("{kind}-tls-high-half-option"), || {
            upper_layer(family, IPPROTO_TCP, TCP_ULP | HIGH_HALF, "tls")
        });
    }
    Ok(())
}

fn upper_layer(family: usize, level: usize, option: usize, protocol: &str) -> Verdict {
    let socket = match socket(family) {
        Ok(socket) => socket,
        Err(sys::EAFNOSUPPORT) => return Verdict::Absent("socket EAFNOSUPPORT".to_owned()),
        Err(errno) => return Verdict::stopped("socket", errno),
    };
    let value = protocol.as_ptr().expose_provenance();
    // SAFETY: the call reads `protocol`, whose length is passed.
    let set = unsafe {
        sys::call(
            nr::SETSOCKOPT,
            [socket, level, option, value, protocol.len()],
        )
    };
    match set {
        Ok(_) => Verdict::Through(format!("{protocol} was set")),
        Err(errno @ (sys::EPERM | sys::EACCES | sys::ENOSYS)) => {
            Verdict::stopped("setsockopt", errno)
        }
        Err(errno) => Verdict::Through(format!("the option was reached ({errno})")),
    }
}

fn socket(family: usize) -> Answer {
    // SAFETY: socket takes no pointer.
    unsafe { sys::call(nr::SOCKET, [family, SOCK_STREAM, 0]) }
}

/// A held IP socket that is not of this network namespace.
#[derive(Clone, Copy, Debug)]
struct Held {
    fd: i32,
    family: usize,
    stream: bool,
}

/// A socket whose namespace cannot be asked for counts as foreign.
fn foreign_ip_sockets() -> Vec<Held> {
    let own = socket(AF_INET)
        .or_else(|_| socket(AF_UNIX))
        .ok()
        .and_then(|fd| i32::try_from(fd).ok());
    let own_cookie = own.and_then(|fd| option(fd, SO_NETNS_COOKIE));
    open_descriptors()
        .into_iter()
        .filter(|fd| Some(*fd) != own)
        .filter_map(|fd| {
            let family = usize::try_from(option(fd, SO_DOMAIN)?).ok()?;
            let is_ip = family == AF_INET || family == AF_INET6;
            let cookie = option(fd, SO_NETNS_COOKIE);
            let foreign = cookie.is_none() || cookie != own_cookie;
            let stream = option(fd, SO_TYPE)? == SOCK_STREAM as u64;
            (is_ip && foreign).then_some(Held { fd, family, stream })
        })
        .collect()
}

fn option(fd: i32, name: usize) -> Option<u64> {
    let mut value = 0_u64;
    let mut length = 8_u32;
    let value_at = (&raw mut value).expose_provenance();
    let length_at = (&raw mut length).expose_provenance();
    // SAFETY: the call writes at most `length` bytes, the size of `value`.
    let got = unsafe {
        sys::call(
            nr::GETSOCKOPT,
            [int(fd), SOL_SOCKET, name, value_at, length_at],
        )
    };
    got.ok().map(|_| value)
}

fn on_each(foreign: &[Held], attempt: impl Fn(Held) -> Result<String, Verdict>) -> Verdict {
    let mut last = Verdict::Stopped("no IP socket of another network namespace is held".to_owned());
    for held in foreign {
        match attempt(*held) {
            Ok(evidence) => return Verdict::Through(evidence),
            Err(verdict) => last = verdict,
        }
    }
    last
}

impl Held {
    fn disconnect(self) -> Answer {
        let unspecified = [0_u8; 16];
        let at = unspecified.as_ptr().expose_provenance();
        // SAFETY: the call reads 16 bytes, the array's size.
        unsafe { sys::call(nr::CONNECT, [int(self.fd), at, unspecified.len()]) }
    }

    fn connect(self, port: u16, token: &str) -> Result<String, Verdict> {
        let address = self.loopback(port);
        let at = address.as_ptr().expose_provenance();
        // SAFETY: the call reads the address, whose length is passed.
        unsafe { sys::call(nr::CONNECT, [int(self.fd), at, address.len()]) }
            .map_err(|errno| Verdict::stopped("connect", errno))?;
        self.read_token(token)
    }

    /// The same by sendmsg, whose flags are another argument.
    fn fast_open_by_message(self, port: u16, token: &str) -> Result<String, Verdict> {
        let address = self.loopback(port);
        let byte = b"\n".as_ptr().expose_provenance();
        let piece = [byte, 1];
        // struct msghdr: name, its length, pieces, their count, no control.
        let message = [
            address.as_ptr().expose_provenance(),
            address.len(),
            piece.as_ptr().expose_provenance(),
            1,
            0,
            0,
            0,
        ];
        let at = message.as_ptr().expose_provenance();
        // SAFETY: the call reads the structure, one piece and the address.
        unsafe { sys::call(nr::SENDMSG, [int(self.fd), at, MSG_FASTOPEN]) }
            .map_err(|errno| Verdict::stopped("sendmsg", errno))?;
        self.read_token(token)
    }

    /// Connects by the first byte, see [`Held::defer_connecting`].
    fn connect_later(self, port: u16, token: &str) -> Result<String, Verdict> {
        let address = self.loopback(port);
        let at = address.as_ptr().expose_provenance();
        // SAFETY: the call reads the address, whose length is passed.
        unsafe { sys::call(nr::CONNECT, [int(self.fd), at, address.len()]) }
            .map_err(|errno| Verdict::stopped("connect", errno))?;
        let byte = b"\n".as_ptr().expose_provenance();
        // SAFETY: the call reads one byte.
        unsafe { sys::call(nr::SENDTO, [int(self.fd), byte, 1, 0, 0, 0]) }
            .map_err(|errno| Verdict::stopped("sendto", errno))?;
        self.read_token(token)
    }

    /// With this option connect only notes the address, and the first byte
    /// connects.
    fn defer_connecting(self) -> Answer {
        const TCP_FASTOPEN_CONNECT: usize = 30;
        let on = 1_i32;
        let at = (&raw const on).expose_provenance();
        let option = [int(self.fd), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, at, 4];
        // SAFETY: the call reads one int, which is on this frame.
        unsafe { sys::call(nr::SETSOCKOPT, option) }
    }

    fn fast_open(self, port: u16, token: &str) -> Result<String, Verdict> {
        let address = self.loopback(port);
        let at = address.as_ptr().expose_provenance();
        let byte = b"\n".as_ptr().expose_provenance();
        // SAFETY: the call reads one byte and the address, lengths passed.
        unsafe {
            sys::call(
                nr::SENDTO,
                [int(self.fd), byte, 1, MSG_FASTOPEN, at, address.len()],
            )
        }
        .map_err(|errno| Verdict::stopped("sendto", errno))?;
        self.read_token(token)
    }

    fn read_token(self, token: &str) -> Result<String, Verdict> {
        if !self.stream {
            return Ok(format!("descriptor {} is bound to the neighbour", self.fd));
        }
        // SAFETY: this way is a process of its own, where nobody else uses
        // the descriptor.
        let mut file = unsafe { File::from_raw_fd(self.fd) };
        let mut bytes = [0_u8; 256];
        match file.read(&mut bytes) {
            Ok(count) => match files::secret(bytes.get(..count).unwrap_or_default(), token) {
                Some(secret) => Ok(format!("by {} the neighbour said {secret}", self.fd)),
                None => Err(Verdict::Untried("another service answered".to_owned())),
            },
            Err(error) => Err(Verdict::refused("read", &error)),
        }
    }

    /// `struct sockaddr_in` or `sockaddr_in6` of the loopback.
    fn loopback(self, port: u16) -> Vec<u8> {
        let port = port.to_be_bytes();
        let mut address = u16::try_from(self.family)
            .unwrap_or(0)
            .to_ne_bytes()
            .to_vec();
        address.extend(port);
        if self.family == AF_INET6 {
            address.extend([0; 4]);
            address.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
            address.extend([0; 4]);
        } else {
            address.extend([127, 0, 0, 1]);
            address.extend([0; 8]);
        }
        address
    }
}
