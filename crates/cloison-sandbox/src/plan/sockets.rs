//! Sockets that are handed in: of the sandbox's own network, or refused.
//!
//! A socket belongs to the network namespace that it was made in, wherever it
//! goes. One of the host's, handed in, can be disconnected and connected to
//! whatever listens there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::host;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use nix::sys::stat::{SFlag, fstat};

use super::{Io, Streams};
use crate::error::{Error, Refused};
use crate::spawner::errno;

/// Refuses a socket that was not made in `network`; every one where the
/// network is still to come. Unix sockets may be the caller's: they reach
/// nobody but their other side.
///
/// # Errors
/// [`Refused::ForeignSocket`], [`Error::Prepare`].
pub(super) fn check(io: &Io, network: Option<BorrowedFd<'_>>) -> Result<(), Error> {
    check_all(&io.streams, &io.sockets, network)
}

/// The same of streams alone.
pub(crate) fn check_streams(
    streams: &Streams,
    network: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    check_all(streams, &[], network)
}

fn check_all(
    streams: &Streams,
    sockets: &[OwnedFd],
    network: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let streams = match streams {
        Streams::Descriptors {
            stdin,
            stdout,
            stderr,
        } => [Some(stdin), Some(stdout), Some(stderr)],
        Streams::Terminal => [None; 3],
    };
    let all = streams.into_iter().chain(sockets.iter().map(Some));
    for (number, descriptor) in (0..).zip(all) {
        let Some(descriptor) = descriptor else {
            continue;
        };
        let is_foreign = is_foreign(descriptor.as_fd(), network)
            .map_err(|errno| Error::prepare("the check of a descriptor's network", errno))?;
        if is_foreign {
            return Err(Refused::ForeignSocket(number).into());
        }
    }
    Ok(())
}

fn is_foreign(descriptor: BorrowedFd<'_>, network: Option<BorrowedFd<'_>>) -> Result<bool, Errno> {
    let kind = SFlag::from_bits_truncate(fstat(descriptor)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK || is_unix(descriptor) {
        return Ok(false);
    }
    let Some(network) = network else {
        return Ok(true);
    };
    let theirs = match host::network_of_socket(descriptor).map_err(errno) {
        Ok(theirs) => theirs,
        // The caller has no power over its network; over his own he has.
        Err(Errno::EPERM) => return Ok(true),
        Err(errno) => return Err(errno),
    };
    let (theirs, own) = (fstat(&theirs)?, fstat(network)?);
    Ok((theirs.st_dev, theirs.st_ino) != (own.st_dev, own.st_ino))
}

/// A family that has no names, or none that we know, is not this one.
fn is_unix(socket: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    getsockname::<SockaddrStorage>(socket.as_raw_fd())
        .is_ok_and(|name| name.family() == Some(AddressFamily::Unix))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Not a network namespace at all, so that every socket is of another.
    fn elsewhere() -> File {
        File::open("/proc/self/ns/uts").unwrap()
    }

    fn with(sockets: Vec<OwnedFd>) -> Result<(), Error> {
        let io = Io {
            sockets,
            ..Io::null().unwrap()
        };
        check(&io, Some(elsewhere().as_fd()))
    }

    #[test]
    fn sockets_of_another_network_are_refused_by_their_number() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [OwnedFd::from(tcp), OwnedFd::from(udp)] {
            let file = OwnedFd::from(elsewhere());
            let refused = with(vec![file, socket]);
            assert!(
                matches!(refused, Err(Error::Refused(Refused::ForeignSocket(4)))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_foreign_socket_is_refused_as_a_stream_too() {
        let Io { streams, .. } = Io::null().unwrap();
        let Streams::Descriptors { stdin, stderr, .. } = streams else {
            unreachable!("Io::null hands in three files");
        };
        let stdout = TcpListener::bind("127.0.0.1:0").unwrap().into();
        let io = Io {
            streams: Streams::Descriptors {
                stdin,
                stdout,
                stderr,
            },
            sockets: Vec::new(),
        };
        let refused = check(&io, Some(elsewhere().as_fd()));
        assert!(
            matches!(refused, Err(Error::Refused(Refused::ForeignSocket(1)))),
            "{refused:?}"
        );
    }

    #[test]
    fn files_pipes_and_unix_sockets_are_of_no_network() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        with(vec![elsewhere().into(), reader.into(), unix.into()]).unwrap();
    }
}
