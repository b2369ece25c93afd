//! The servers of a host's tenants: defined once, started, looked at and ended
//! by whoever comes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cloison_sandbox::{Sandbox, Spec, Streams};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::Host;
use super::registry::Tenant;
use crate::error::Error;
use crate::ids::Slot;
use crate::names::{ServerId, ServerName, TenantName};
use crate::runtime::{Ending, Ground, Life, Record, Running, Runtime};
use crate::settings::{Policy, ServerPlace, ServerSettings};

/// How long a change of what runs waits for another.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that the registry knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defined {
    /// Which ids of its tenant's block it has, as long as it is defined.
    pub slot: Slot,
    /// What it is started with.
    pub settings: ServerSettings,
}

/// A server, and what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// Which.
    pub id: ServerId,
    /// Which ids of its tenant's block it has.
    pub slot: Slot,
    /// What it is.
    pub life: Life,
    /// The number of its process 1, where there is one.
    pub pid: Option<i32>,
}

impl Host {
    /// What runs now.
    ///
    /// # Errors
    /// [`Error::UnsafeState`], [`Error::Path`].
    pub fn runtime(&self) -> Result<Runtime, Error> {
        Runtime::open(&self.runtime)
    }

    /// Writes a server down: from now on it has a slot, and can be started. One
    /// that is defined already keeps its slot; what runs runs on as it was
    /// started.
    ///
    /// # Errors
    /// All is as before then. [`Error::Policy`]: it asks for more than its
    /// tenant may have; [`Error::ServersExhausted`]; [`Error::NoTenant`],
    /// [`Error::NotPresent`]; [`Error::Locked`], [`Error::Path`], those of
    /// [`crate::StateDirectory::read`].
    pub fn define_server(&self, settings: &ServerSettings) -> Result<Defined, Error> {
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        let policy = self.policy_of(registry.find(&settings.id.tenant)?).clone();
        let tenant = registry.find_mut(&settings.id.tenant)?;
        tenant.check_present()?;
        let known = tenant.servers.get(&settings.id.server);
        let slot = match known {
            Some(known) => known.slot,
            None => tenant.free_slot(policy.servers_max)?,
        };
        let storage = self.storage.path_of(&settings.id.tenant);
        let place = ServerPlace {
            block: tenant.block,
            slot,
            storage: &storage,
        };
        settings.spec(&policy, &place)?;
        let defined = Defined {
            slot,
            settings: settings.clone(),
        };
        let name = settings.id.server.clone();
        tenant.servers.insert(name, defined.clone());
        self.write(&exclusive, &registry)?;
        Ok(defined)
    }

    /// Strikes a server out that does not run: its slot is free again.
    ///
    /// # Errors
    /// [`Error::ServersRun`], [`Error::NoServer`]; as [`Host::define_server`].
    pub fn forget_server(&self, id: &ServerId) -> Result<(), Error> {
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        if self.life_of(id)?.has_processes() {
            return Err(Error::ServersRun {
                tenant: id.tenant.clone(),
                servers: vec![id.clone()],
            });
        }
        self.clear(id)?;
        let tenant = registry.find_mut(&id.tenant)?;
        let removed = tenant.servers.remove(&id.server);
        removed.ok_or_else(|| Error::NoServer(id.clone()))?;
        self.write(&exclusive, &registry)
    }

    /// What a defined server's sandbox would be.
    ///
    /// # Errors
    /// [`Error::NoServer`], [`Error::Policy`]: the policy has changed since it
    /// was defined; as [`Host::tenant`].
    pub fn spec_of(&self, id: &ServerId) -> Result<Spec, Error> {
        let tenant = self.tenant(&id.tenant)?;
        self.spec_in(&tenant, id)
    }

    fn spec_in(&self, tenant: &Tenant, id: &ServerId) -> Result<Spec, Error> {
        let defined = tenant.servers.get(&id.server);
        let defined = defined.ok_or_else(|| Error::NoServer(id.clone()))?;
        let storage = self.storage.path_of(&id.tenant);
        let place = ServerPlace {
            block: tenant.block,
            slot: defined.slot,
            storage: &storage,
        };
        Ok(defined.settings.spec(self.policy_of(tenant), &place)?)
    }

    /// Starts a defined server, which then needs nobody. On any error nothing
    /// of it is left.
    ///
    /// # Errors
    /// [`Error::RunsAlready`], [`Error::NoServer`], [`Error::Policy`];
    /// [`Error::Launch`]: the sandbox was refused, or a step failed.
    pub fn start_server(
        &self,
        id: &ServerId,
        ground: Ground<'_>,
        streams: Streams,
    ) -> Result<Sandbox, Error> {
        let runtime = self.runtime()?;
        // As soon as it is written down its tenant cannot be removed.
        let (registration, spec) = self.while_present(&id.tenant, |tenant| {
            let spec = self.spec_in(tenant, id)?;
            self.storage.furnish(tenant, &spec)?;
            let registration = runtime.register_alone(&spec, ground, PATIENCE)?;
            Ok::<_, Error>((registration, spec))
        })?;
        registration.launch(&spec, ground, streams)
    }

    /// Every defined server of `tenant`, or of all, by name, and what it is now.
    ///
    /// # Errors
    /// [`Error::NoTenant`]; those of [`crate::StateDirectory::read`];
    /// [`Error::Torn`], [`Error::System`], [`Error::Control`].
    pub fn servers(&self, tenant: Option<&TenantName>) -> Result<Vec<ServerStatus>, Error> {
        let registry = self.read()?;
        if let Some(name) = tenant {
            registry.find(name)?;
        }
        let records: BTreeMap<String, Record> = self
            .runtime()?
            .records()?
            .into_iter()
            .map(|record| (record.name.to_string(), record))
            .collect();
        let mut all = Vec::new();
        let wanted = |found: &&Tenant| tenant.is_none_or(|name| *name == found.name);
        for tenant in registry.tenants().filter(wanted) {
            for (name, defined) in &tenant.servers {
                let id = id_of(&tenant.name, name);
                let record = records.get(id.sandbox().as_str());
                let life = record.map_or(Ok(Life::Absent), Record::life)?;
                let process = record.and_then(|record| record.sandbox.as_ref());
                all.push(ServerStatus {
                    slot: defined.slot,
                    life,
                    pid: process
                        .filter(|_| life.has_processes())
                        .map(|process| process.pid),
                    id,
                });
            }
        }
        Ok(all)
    }

    /// The servers of whatever tenant that have processes.
    ///
    /// # Errors
    /// As [`Host::servers`].
    pub fn running_servers(&self) -> Result<Vec<ServerId>, Error> {
        let all = self.servers(None)?.into_iter();
        let running = all.filter(|server| server.life.has_processes());
        Ok(running.map(|server| server.id).collect())
    }

    /// A server that runs.
    ///
    /// # Errors
    /// [`Error::NoServer`]: it is not defined; [`Error::NotRunning`];
    /// [`Error::BeingLaunched`].
    pub fn server(&self, id: &ServerId) -> Result<Running, Error> {
        let tenant = self.tenant(&id.tenant)?;
        if !tenant.servers.contains_key(&id.server) {
            return Err(Error::NoServer(id.clone()));
        }
        self.runtime()?;
        Running::find(&self.runtime, &id.sandbox()).map_err(|error| match error {
            Error::NoSandbox(_) => Error::NotRunning(id.clone()),
            error => error,
        })
    }

    /// Ends a server: by `signal`, and after `limit` by force. It stays defined.
    ///
    /// # Errors
    /// As [`Host::server`]; [`Error::Control`], [`Error::KeptFrozen`],
    /// [`Error::StaysAlive`]: it may be called again.
    pub fn stop_server(
        &self,
        id: &ServerId,
        signal: Signal,
        limit: Duration,
    ) -> Result<Ending, Error> {
        let running = self.server(id)?;
        let runtime = self.runtime()?;
        let exclusive = runtime.lock_for(PATIENCE)?;
        runtime.note_stopping(&exclusive, &running.record)?;
        drop(exclusive);
        let ending = running.stop(signal, limit)?;
        self.clear(id)?;
        Ok(ending)
    }

    /// What a server is now, defined or not.
    ///
    /// # Errors
    /// [`Error::Torn`], [`Error::System`], [`Error::Control`].
    pub fn life_of(&self, id: &ServerId) -> Result<Life, Error> {
        let record = Runtime::written_of(&self.runtime, &id.sandbox())?;
        record.map_or(Ok(Life::Absent), |record| record.life())
    }

    /// Removes what a server that has ended left.
    fn clear(&self, id: &ServerId) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let exclusive = runtime.lock_for(PATIENCE)?;
        match Runtime::written_of(runtime.directory(), &id.sandbox())? {
            // Somebody may have started it anew meanwhile.
            Some(record) if !record.life()?.has_processes() => {
                runtime.forget_ended(&exclusive, &record)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Where the init of a server listens for commands.
    #[must_use]
    pub fn exec_path(&self, id: &ServerId) -> PathBuf {
        Runtime::exec_path(&self.runtime, &id.sandbox())
    }

    /// What a tenant may ask for.
    fn policy_of<'a>(&'a self, tenant: &'a Tenant) -> &'a Policy {
        tenant
            .settings
            .policy
            .as_ref()
            .unwrap_or(&self.settings.policy)
    }
}

impl Tenant {
    fn free_slot(&self, servers_max: u8) -> Result<Slot, Error> {
        let exhausted = || Error::ServersExhausted {
            tenant: self.name.clone(),
            most: servers_max,
        };
        if self.servers.len() >= usize::from(servers_max) {
            return Err(exhausted());
        }
        let is_taken = |slot: &Slot| self.servers.values().any(|server| server.slot == *slot);
        Slot::all()
            .find(|slot| !is_taken(slot))
            .ok_or_else(exhausted)
    }
}

fn id_of(tenant: &TenantName, server: &ServerName) -> ServerId {
    ServerId {
        tenant: tenant.clone(),
        server: server.clone(),
    }
}
