//! One tenant while it runs: its tree, its server, its relay, its key.

use std::io::{self, PipeWriter};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use cloison_sandbox::Sandbox;
use serde::Serialize;

use crate::error::ReenactError;
use crate::ground::{self, Tree};
use crate::key::TenantKey;
use crate::measure::Subject;
use crate::walls::{self, Enclosed, Walls};
use cloison_launcher::relay;

/// The programs of a tenant, seen from its root.
const SERVER: &str = "/bin/canary-serve";
const CLERK: &str = "/bin/canary-clerk";
/// The one user of all tenants where there are no walls.
const ORDINARY_USER: u32 = 65_000;

/// How a tenant's server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// It runs.
    Running,
    /// It is frozen: none of its processes does anything.
    Frozen,
    /// It has ended.
    Ended,
}

/// A tenant that was started.
pub(crate) struct Tenancy {
    pub(crate) name: &'static str,
    pub(crate) tree: Tree,
    server: Server,
    key: TenantKey,
    address: SocketAddr,
    /// Its relay ends when this does.
    _relay: PipeWriter,
}

enum Server {
    /// A process like any other.
    Ordinary(Child),
    /// A sandbox of its own.
    Enclosed(Box<Sandbox>),
}

impl Tenancy {
    /// Starts a tenant without walls: a process of the one user, in folders
    /// of that user, on the host's own network. `starter` hands it the socket.
    pub(crate) fn start_ordinary(
        name: &'static str,
        program: &[u8],
        starter: &Path,
        hostile: bool,
    ) -> Result<Self, ReenactError> {
        let tree = ground::furnish_tenant(name, program, ORDINARY_USER, hostile)?;
        let key = TenantKey::add(name, ORDINARY_USER)?;
        let started = |source| ReenactError::Start {
            tenant: name,
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(started)?;
        let inside = listener.local_addr().map_err(started)?;
        let child = Command::new(starter)
            .arg("ordinary")
            .arg(tree.root.join("bin/canary-serve"))
            .arg("serve")
            .arg(tree.served_on_ground())
            .arg(tree.root.join("bin/canary-clerk"))
            .env_clear()
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .spawn()
            .map_err(started)?;
        let (address, stop) = start_relay(inside, None).map_err(|source| ReenactError::Relay {
            tenant: name,
            source,
        })?;
        Ok(Self {
            name,
            tree,
            server: Server::Ordinary(child),
            key,
            address,
            _relay: stop,
        })
    }

    /// Starts a tenant in a sandbox of its own, with ids of its own.
    pub(crate) fn start_enclosed(
        name: &'static str,
        place: u32,
        program: &[u8],
        walls: &mut Walls,
        hostile: bool,
    ) -> Result<Self, ReenactError> {
        let ids = walls::ids(place)?;
        let tree = ground::furnish_tenant(name, program, ids.first(), hostile)?;
        let key = TenantKey::add(name, ids.first())?;
        let command = [SERVER, "serve", tree.served, CLERK];
        let Enclosed { sandbox, network } = walls.enclose(name, ids, &tree.root, &command)?;
        let relay = start_relay(walls::INSIDE, Some(network));
        let (address, stop) = relay.map_err(|source| ReenactError::Relay {
            tenant: name,
            source,
        })?;
        Ok(Self {
            name,
            tree,
            server: Server::Enclosed(Box::new(sandbox)),
            key,
            address,
            _relay: stop,
        })
    }

    /// Where its server is reached from outside.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is measured of it.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            name: self.name,
            folder: &self.tree.folder,
            address: self.address,
            key: &self.key,
        }
    }

    /// How its server is now.
    pub(crate) fn condition(&mut self) -> Condition {
        match &mut self.server {
            Server::Ordinary(child) => match child.try_wait() {
                Ok(None) => Condition::Running,
                Ok(Some(_)) | Err(_) => Condition::Ended,
            },
            Server::Enclosed(sandbox) => match sandbox.try_wait() {
                Ok(Some(_)) | Err(_) => Condition::Ended,
                Ok(None) => match sandbox.prepared().cgroup.is_frozen() {
                    Ok(true) => Condition::Frozen,
                    Ok(false) | Err(_) => Condition::Running,
                },
            },
        }
    }

    /// Freezes it, where there is something to freeze it by.
    pub(crate) fn freeze(&self) -> Result<(), ReenactError> {
        match &self.server {
            Server::Ordinary(_) => Ok(()),
            Server::Enclosed(sandbox) => {
                let frozen = sandbox.prepared().cgroup.freeze();
                frozen.map_err(|error| self.failed(error.into()))
            }
        }
    }

    /// Ends it and takes away what was made for it.
    pub(crate) fn end(self) -> Result<(), ReenactError> {
        let tenant = self.name;
        match self.server {
            Server::Ordinary(mut child) => {
                let ended = child.kill().and_then(|()| child.wait());
                ended
                    .map(drop)
                    .map_err(|source| ReenactError::Start { tenant, source })
            }
            Server::Enclosed(sandbox) => sandbox
                .remove()
                .map(drop)
                .map_err(|source| ReenactError::Enclose { tenant, source }),
        }
    }

    fn failed(&self, source: cloison_sandbox::Error) -> ReenactError {
        let tenant = self.name;
        ReenactError::Enclose { tenant, source }
    }
}

/// Accepts outside on a port of its own and relays to `inside`, in the
/// namespace `network` or here, until the returned pipe is dropped.
fn start_relay(
    inside: SocketAddr,
    network: Option<OwnedFd>,
) -> io::Result<(SocketAddr, PipeWriter)> {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = outside.local_addr()?;
    let (stop, keep) = io::pipe()?;
    // A relay that ends early is seen as a service that does not answer.
    thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || {
            if let Some(network) = network {
                relay::join_network(network.as_fd())?;
            }
            relay::run(&outside, inside, stop.as_fd())
        })?;
    Ok((address, keep))
}
