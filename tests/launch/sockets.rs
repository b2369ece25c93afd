//! Sockets that a caller hands in: of which network they are.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use cloison_sandbox::{Error, ExitStatus, Io, NetworkNamespace, Plan, Prepared, Refused, Streams};
use cloison_tests::Outcome;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::ground::{kernel, spec, waivers};

const LISTENING: [&str; 3] = [
    "/usr/bin/sh",
    "-c",
    "test \"$LISTEN_FDS\" = 1 && test -S /proc/self/fd/3",
];

fn plan(prepared: Prepared, io: Io) -> Result<Plan, Error> {
    Plan::new(
        &spec("sockets", &LISTENING),
        kernel(),
        &waivers(),
        prepared,
        io,
    )
}

fn prepared() -> Prepared {
    let network = NetworkNamespace::create().unwrap();
    Prepared::with_network(&spec("sockets", &LISTENING), network).unwrap()
}

/// What `make` makes in a thread that has joined `network`.
fn made_in<T: Send>(network: BorrowedFd<'_>, make: fn() -> T) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
                make()
            })
            .join()
            .unwrap()
    })
}

fn listener() -> OwnedFd {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

fn of_family(family: AddressFamily) -> OwnedFd {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

fn handing_in(socket: OwnedFd) -> Io {
    Io {
        sockets: vec![socket],
        ..Io::null().unwrap()
    }
}

/// The host's, a neighbour's, and each kind of socket but a unix one.
pub(crate) fn of_another_network() -> Outcome {
    let neighbour = NetworkNamespace::create().unwrap();
    let foreign = [
        listener(),
        made_in(neighbour.as_fd(), listener),
        of_family(AddressFamily::Inet6),
        of_family(AddressFamily::Netlink),
        of_family(AddressFamily::Packet),
    ];
    for (at, socket) in foreign.into_iter().enumerate() {
        match plan(prepared(), handing_in(socket)) {
            Err(Error::Refused(Refused::ForeignSocket(3))) => {}
            other => return Outcome::Failed(format!("the socket {at}: {:?}", other.err())),
        }
    }
    // Nothing can be of a network that comes with the clone.
    let unborn = Prepared::new(&spec("sockets", &LISTENING)).unwrap();
    match plan(unborn, handing_in(listener())) {
        Err(Error::Refused(Refused::ForeignSocket(3))) => {}
        other => return Outcome::Failed(format!("before the clone: {:?}", other.err())),
    }
    let Io { streams, sockets } = Io::null().unwrap();
    let Streams::Descriptors { stdin, stderr, .. } = streams else {
        return Outcome::Failed("Io::null hands in no files".to_owned());
    };
    let streams = Streams::Descriptors {
        stdin,
        stdout: listener(),
        stderr,
    };
    match plan(prepared(), Io { streams, sockets }) {
        Err(Error::Refused(Refused::ForeignSocket(1))) => Outcome::Passed,
        other => Outcome::Failed(format!("as standard output: {:?}", other.err())),
    }
}

/// One of its own network, and a unix socket of the caller's, start.
pub(crate) fn of_its_own() -> Outcome {
    for is_unix in [false, true] {
        let prepared = prepared();
        let socket = if is_unix {
            UnixStream::pair().unwrap().0.into()
        } else {
            made_in(prepared.network.as_ref().unwrap().as_fd(), listener)
        };
        let ended = plan(prepared, handing_in(socket))
            .and_then(|plan| plan.hold()?.start())
            .and_then(|mut sandbox| {
                let ended = sandbox.wait()?;
                sandbox.remove()?;
                Ok(ended)
            });
        match ended {
            Ok(ExitStatus::Exited(0)) => {}
            other => return Outcome::Failed(format!("unix: {is_unix}: {other:?}")),
        }
    }
    Outcome::Passed
}
