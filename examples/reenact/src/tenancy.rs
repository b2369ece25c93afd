//! One tenant while it runs: its tree, its server, its relay, its key.

use std::io::{self, PipeWriter};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde::Serialize;

use crate::error::ReenactError;
use crate::ground::{self, Tree};
use crate::key::TenantKey;
use crate::measure::Subject;
use crate::relay;

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

    /// Where its server is reached from outside.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is measured of it, with its folder on the ground.
    pub(crate) fn subject<'a>(&'a self, served: &'a Path) -> Subject<'a> {
        Subject {
            name: self.name,
            served,
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
        }
    }

    /// Freezes it, where there is something to freeze it by, and says how it
    /// is then.
    pub(crate) fn freeze(&mut self) -> Condition {
        match &mut self.server {
            Server::Ordinary(_) => self.condition(),
        }
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        match &mut self.server {
            Server::Ordinary(child) => {
                // One that cannot be ended or waited for goes with the stage.
                if child.kill().is_ok() {
                    child.wait().ok();
                }
            }
        }
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
