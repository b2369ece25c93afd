//! `--listen`: the host listens, the sandbox gets a socket of its own network.

use std::io::{self, PipeReader, PipeWriter};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use cloison_launcher::relay;

use crate::error::{Error, call};
use crate::report::notice;
use crate::run::errno;

/// Sockets of the host's network: no sandbox ever gets one.
#[derive(Debug)]
pub(crate) struct Listeners(Vec<TcpListener>);

/// What is to be relayed where.
#[derive(Debug, Default)]
pub(crate) struct Relays(Vec<Relay>);

/// One of them: from the host's socket to an address in a network.
#[derive(Debug)]
struct Relay {
    outside: TcpListener,
    inside: SocketAddr,
    network: OwnedFd,
}

/// Relays that run; they end when this does.
#[derive(Debug)]
pub(crate) struct Relaying {
    stop: PipeWriter,
    threads: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Listens at `addresses`.
    pub(crate) fn open(addresses: &[SocketAddr]) -> Result<Self, Error> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let failed = |source| Error::Listen {
                address: *address,
                source,
            };
            let listener = TcpListener::bind(address).map_err(failed)?;
            if address.port() == 0 {
                let address = listener.local_addr().map_err(failed)?;
                notice(&format!("listening on {address}"));
            }
            listeners.push(listener);
        }
        Ok(Self(listeners))
    }

    /// Makes a socket for each port in `network`, on the same port.
    pub(crate) fn enter(self, network: BorrowedFd<'_>) -> Result<(Vec<OwnedFd>, Relays), Error> {
        let mut sockets = Vec::with_capacity(self.0.len());
        let mut relays = Vec::with_capacity(self.0.len());
        for outside in self.0 {
            let port = outside.local_addr().map_or(0, |address| address.port());
            let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            // Two addresses of one port have one server.
            if !relays.iter().any(|relay: &Relay| relay.inside == inside) {
                let socket =
                    relay::listen_inside(network, inside).map_err(|source| Error::Listen {
                        address: inside,
                        source,
                    })?;
                sockets.push(socket.into());
            }
            let network = network
                .try_clone_to_owned()
                .map_err(|error| call("duplicating a namespace")(errno(&error)))?;
            relays.push(Relay {
                outside,
                inside,
                network,
            });
        }
        Ok((sockets, Relays(relays)))
    }
}

impl Relays {
    /// Starts them, each in a thread that lives in the sandbox's network.
    pub(crate) fn start(self) -> Result<Relaying, Error> {
        let failed = |doing| move |error: io::Error| call(doing)(errno(&error));
        let (until, stop) = io::pipe().map_err(failed("making a pipe"))?;
        let mut threads = Vec::with_capacity(self.0.len());
        for relay in self.0 {
            let until = until.try_clone().map_err(failed("duplicating a pipe"))?;
            let running = thread::Builder::new()
                .spawn(move || relay_until(&relay, &until))
                .map_err(failed("starting a thread"))?;
            threads.push(running);
        }
        Ok(Relaying { stop, threads })
    }
}

fn relay_until(relay: &Relay, until: &PipeReader) {
    let Relay {
        outside,
        inside,
        network,
    } = relay;
    let relayed = relay::join_network(network.as_fd())
        .and_then(|()| relay::run(outside, *inside, until.as_fd()));
    if let Err(error) = relayed {
        notice(&format!("the relay to {inside} inside ended: {error}"));
    }
}

impl Relaying {
    /// Accepts no more; waits until what the server wrote has arrived, for
    /// as long as a relay gives it.
    pub(crate) fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            // One that panicked has nothing more to bring.
            match thread.join() {
                Ok(()) | Err(_) => {}
            }
        }
    }
}
