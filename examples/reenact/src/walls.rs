//! What tenants are enclosed in: one sandbox each, with every layer of the
//! profile `app` that this host can give.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cloison_sandbox::{
    Access, IdRange, Io, Kernel, Layer, LayerVerdict, NetworkPool, Plan, Prepared, Root, Sandbox,
    SandboxName, Spec, Waivers,
};

use crate::error::ReenactError;
use crate::outcome::Waived;
use crate::tenants;
use cloison_launcher::relay;

/// The first id of the pool that hosts hand out by default.
const ID_POOL_FIRST: u32 = 1_879_048_192;
/// Where each server listens, in a network of its own.
pub(crate) const INSIDE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

/// What all launches share.
pub(crate) struct Walls {
    kernel: Kernel,
    waivers: Waivers,
    networks: NetworkPool,
}

/// A server in its sandbox.
pub(crate) struct Enclosed {
    pub(crate) sandbox: Sandbox,
    /// Its network namespace, for the relay.
    pub(crate) network: OwnedFd,
}

impl Walls {
    /// Asks the kernel what it can do, and makes the networks.
    pub(crate) fn raise() -> Result<Self, ReenactError> {
        let kernel = Kernel::probe().map_err(ReenactError::Kernel)?;
        let waivers = waive_what_is_missing(&kernel);
        let mut networks = NetworkPool::new();
        let made = networks.fill(tenants::COUNT);
        made.map_err(|error| ReenactError::Walls(error.into()))?;
        Ok(Self {
            kernel,
            waivers,
            networks,
        })
    }

    /// The layers that this host goes without, each with its reason.
    pub(crate) fn waived(&self) -> Vec<Waived> {
        let all = self.waivers.iter();
        all.map(|(layer, reason)| Waived {
            layer,
            reason: reason.to_owned(),
        })
        .collect()
    }

    /// Starts the server of `tenant` in the sandbox that is its own: held
    /// first, with every layer read back.
    pub(crate) fn enclose(
        &mut self,
        tenant: &'static str,
        ids: IdRange,
        root: &Path,
        command: &[&str],
    ) -> Result<Enclosed, ReenactError> {
        let failed = |source: cloison_sandbox::Error| ReenactError::Enclose { tenant, source };
        let spec = spec(tenant, ids, root, command)?;
        let network = self.networks.take().map_err(|error| failed(error.into()))?;
        let for_relay = network.as_fd().try_clone_to_owned();
        let for_relay = for_relay.map_err(|source| ReenactError::Relay { tenant, source })?;
        let listener = relay::listen_inside(network.as_fd(), INSIDE)
            .map_err(|source| ReenactError::Relay { tenant, source })?;
        let prepared = Prepared::with_network(&spec, network).map_err(failed)?;
        let mut io = Io::null().map_err(failed)?;
        io.sockets.push(listener.into());
        let plan = Plan::new(&spec, &self.kernel, &self.waivers, prepared, io).map_err(failed)?;
        let sandbox = plan.hold().and_then(cloison_sandbox::Held::start);
        Ok(Enclosed {
            sandbox: sandbox.map_err(failed)?,
            network: for_relay,
        })
    }
}

/// The ids of the tenant at `place`.
pub(crate) fn ids(place: u32) -> Result<IdRange, ReenactError> {
    let first = ID_POOL_FIRST + place * IdRange::COUNT;
    IdRange::new(first).map_err(ReenactError::Ids)
}

/// Waives what may be waived and cannot be had here: the result says so.
fn waive_what_is_missing(kernel: &Kernel) -> Waivers {
    let mut waivers = Waivers::none();
    for layer in Layer::ALL.into_iter().filter(|layer| layer.is_waivable()) {
        if let LayerVerdict::Unavailable(missing) = kernel.verdict(layer, &Waivers::none()) {
            // One that is refused leaves the layer wanted: nothing starts.
            waivers.waive(layer, missing.absence.to_string()).ok();
        }
    }
    waivers
}

fn spec(
    tenant: &'static str,
    ids: IdRange,
    root: &Path,
    command: &[&str],
) -> Result<Spec, ReenactError> {
    Ok(Spec {
        name: SandboxName::new(tenant).map_err(ReenactError::Name)?,
        profile: Default::default(),
        ids: Some(ids),
        root: Root::Directory {
            path: root.to_owned(),
            access: Access::ReadWrite,
        },
        command: command.iter().map(ToString::to_string).collect(),
        environment: BTreeMap::new(),
        working_directory: PathBuf::from("/"),
        // Root inside: what an intruder has who got as far as he can.
        user: 0,
        group: 0,
        init: Default::default(),
        proc: Default::default(),
        sysfs: Default::default(),
        tcp: Default::default(),
        capabilities: Default::default(),
        mounts: Vec::new(),
        tmpfs: Default::default(),
        limits: Default::default(),
        cgroup: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::ids;
    use crate::tenants;

    #[test]
    fn no_two_tenants_share_an_id() -> Result<(), crate::error::ReenactError> {
        let mut firsts = std::collections::BTreeSet::new();
        for place in 0..tenants::COUNT as u32 {
            firsts.insert(ids(place)?.first());
        }
        assert_eq!(firsts.len(), tenants::COUNT);
        Ok(())
    }
}
