//! Adding, changing and removing tenants, and finishing what others began.
//!
//! An intent is written down before anything is made or removed: so whatever
//! there is has an owner in the registry, at every moment. The lock of purging
//! is taken before that of the registry.

use std::collections::BTreeMap;
use std::time::Duration;

use super::registry::{Registry, Tenant, TenantState};
use super::{Host, PATIENCE, now_s};
use crate::error::Error;
use crate::holders::{Holder, Holders};
use crate::ids::{Block, clashes};
use crate::names::{ServerId, TenantName};
use crate::settings::TenantSettings;
use crate::state::Exclusive;

/// What becomes of the storage of a tenant who is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It stays, and name and block stay his: [`Host::restore_tenant`] brings
    /// him back.
    Keep,
    /// It is removed with all that is in it. His name is free then, and so is
    /// his block once nothing has one of its ids any more.
    Purge,
}

impl Host {
    /// Adds a tenant: the first free block of the pool is his, and an empty
    /// root in the storage.
    ///
    /// A block is free if no tenant has it, and no process, key, System V object
    /// or user namespace has one of its ids. That of a tenant who was purged is
    /// free only once there is, besides, nothing of his name in the storage
    /// that is not another tenant's.
    ///
    /// # Errors
    /// All is as before then.
    /// [`Error::NameTaken`], [`Error::PoolExhausted`], [`Error::PoolChanged`];
    /// [`Error::Clash`], also where the clash is in another block of the pool;
    /// [`Error::StorageInTheWay`]; [`Error::Locked`], [`Error::Path`], those of
    /// [`crate::StateDirectory::read`].
    pub fn add_tenant(&self, name: &TenantName, settings: TenantSettings) -> Result<Tenant, Error> {
        let pool = self.settings.id_pool;
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        if let Ok(tenant) = registry.find(name) {
            return Err(Error::NameTaken {
                tenant: name.clone(),
                state: tenant.state,
            });
        }
        registry.check_pool(pool)?;
        if let Some(clash) = clashes(&pool.ids())?.into_iter().next() {
            return Err(Error::Clash(clash));
        }
        if self.storage.has(name)? {
            return Err(Error::StorageInTheWay(self.storage.path_of(name)));
        }
        let holders = Holders::look(&pool.ids())?;
        let first_held = self.release(&mut registry, &holders)?;
        let chosen = registry.choose(pool, |block| holders.of(block).is_some());
        let block = chosen.ok_or(Error::PoolExhausted {
            pool,
            waiting: registry.retired().len(),
            first_held,
        })?;
        let tenant = Tenant {
            name: name.clone(),
            block,
            state: TenantState::Adding,
            created_s: now_s(),
            settings,
            servers: BTreeMap::new(),
        };
        registry.insert(tenant);
        self.write(&exclusive, &registry)?;
        let added = self.storage.make(name, block).and_then(|()| {
            let tenant = registry.find_mut(name)?;
            tenant.state = TenantState::Present;
            let tenant = tenant.clone();
            self.write(&exclusive, &registry)?;
            Ok(tenant)
        });
        if added.is_err() {
            // The error to tell of is the first one. What cannot be undone now
            // is undone by whoever opens the host next.
            let undone = self.undo(&exclusive, &mut registry, name);
            match undone {
                Ok(()) | Err(_) => {}
            }
        }
        added
    }

    /// Changes what the operator decided of a tenant who is present.
    ///
    /// # Errors
    /// [`Error::NoTenant`], [`Error::NotPresent`]; [`Error::Locked`],
    /// [`Error::Path`], those of [`crate::StateDirectory::read`].
    pub fn change_tenant(
        &self,
        name: &TenantName,
        change: impl FnOnce(&mut TenantSettings),
    ) -> Result<Tenant, Error> {
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        let tenant = registry.find_mut(name)?;
        tenant.check_present()?;
        change(&mut tenant.settings);
        let tenant = tenant.clone();
        self.write(&exclusive, &registry)?;
        Ok(tenant)
    }

    /// Acts while a tenant is present and cannot be removed. Whoever starts a
    /// server writes it down in here, where `running` of
    /// [`Host::remove_tenant`] finds it.
    ///
    /// Nobody changes the registry meanwhile: be brief.
    ///
    /// # Errors
    /// As [`Host::change_tenant`]; what `act` gives.
    pub fn while_present<T, E: From<Error>>(
        &self,
        name: &TenantName,
        act: impl FnOnce(&Tenant) -> Result<T, E>,
    ) -> Result<T, E> {
        let exclusive = self.lock()?;
        let registry = self.settled(&exclusive)?;
        let tenant = registry.find(name)?;
        tenant.check_present()?;
        act(tenant)
    }

    /// Removes a tenant, unless servers of his run.
    ///
    /// `running` tells which servers run, of whatever tenants: the crate does
    /// not know where a caller writes that down. It is asked under the lock of
    /// the registry, so that a server which [`Host::while_present`] wrote down
    /// is seen.
    ///
    /// One who is kept can be purged, and one whose purge ended halfway purged
    /// again. Only names and descriptors beneath his root are used to remove
    /// what is in it, and no other lock is held meanwhile than that of purging.
    ///
    /// # Errors
    /// [`Error::NoTenant`]; [`Error::ServersRun`], which names them;
    /// [`Error::IdsInUse`], for a purge while something else runs with his ids;
    /// [`Error::NotPresent`], for keeping what is being purged; [`Error::Path`]
    /// where something cannot be removed, as what is mounted: the tenant is then
    /// in the state [`TenantState::Purging`]; [`Error::Locked`]; those of
    /// [`crate::StateDirectory::read`]; what `running` gives.
    pub fn remove_tenant<E: From<Error>>(
        &self,
        name: &TenantName,
        removal: Removal,
        running: impl FnOnce() -> Result<Vec<ServerId>, E>,
    ) -> Result<(), E> {
        let is_purge = removal == Removal::Purge;
        let _purging = is_purge.then(|| self.lock_purge(PATIENCE)).transpose()?;
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        let tenant = registry.find(name)?.clone();
        if tenant.state == TenantState::Adding {
            // What could not be undone: say why.
            return Ok(self.undo(&exclusive, &mut registry, name)?);
        }
        let mut servers = running()?;
        servers.retain(|server| server.tenant == *name);
        if !servers.is_empty() {
            servers.sort();
            let tenant = name.clone();
            return Err(Error::ServersRun { tenant, servers }.into());
        }
        match (removal, tenant.state) {
            (Removal::Keep, TenantState::Purging) => return Ok(tenant.check_present()?),
            (Removal::Keep, _) => {
                registry.find_mut(name)?.state = TenantState::Kept;
                return Ok(self.write(&exclusive, &registry)?);
            }
            (Removal::Purge, _) => {}
        }
        if let Some(holder) = Holders::look(&tenant.block.ids())?.of(tenant.block)
            && matches!(holder, Holder::Process(_))
        {
            return Err(Error::IdsInUse {
                block: tenant.block,
                holder: holder.clone(),
            }
            .into());
        }
        registry.find_mut(name)?.state = TenantState::Purging;
        self.write(&exclusive, &registry)?;
        drop(exclusive);
        Ok(self.purge(name)?)
    }

    /// Brings back a tenant whose storage was kept.
    ///
    /// # Errors
    /// [`Error::NoTenant`]; [`Error::NotPresent`] where he was not kept;
    /// [`Error::UnsafeStorage`], [`Error::Path`] where his root is not as it
    /// was; [`Error::Locked`], those of [`crate::StateDirectory::read`].
    pub fn restore_tenant(&self, name: &TenantName) -> Result<Tenant, Error> {
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        let tenant = registry.find_mut(name)?;
        if tenant.state != TenantState::Kept {
            tenant.check_present()?;
            return Ok(tenant.clone());
        }
        drop(self.storage.root(name, tenant.block)?);
        tenant.state = TenantState::Present;
        let tenant = tenant.clone();
        self.write(&exclusive, &registry)?;
        Ok(tenant)
    }

    /// Finishes or undoes what others began and nobody is at any more.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let registry = self.read()?;
        if !registry.names_in(TenantState::Adding).is_empty() {
            match self.lock_now()? {
                Some(exclusive) => drop(self.settled(&exclusive)?),
                // Somebody is at it.
                None => return Ok(()),
            }
        }
        let left = registry.names_in(TenantState::Purging);
        if left.is_empty() {
            return Ok(());
        }
        let Some(_purging) = unless_locked(self.lock_purge(Duration::ZERO))? else {
            return Ok(());
        };
        for name in left {
            // What cannot be removed stays to be told of by `remove_tenant`.
            match self.purge(&name) {
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The registry as it is under the lock. One who is still being added now
    /// was left so.
    pub(super) fn settled(&self, exclusive: &Exclusive) -> Result<Registry, Error> {
        let mut registry = self.read()?;
        for name in registry.names_in(TenantState::Adding) {
            // What cannot be undone stays to be told of by `remove_tenant`.
            match self.undo(exclusive, &mut registry, &name) {
                Ok(()) | Err(_) => {}
            }
        }
        Ok(registry)
    }

    /// Takes back an addition: nothing can be in the root yet.
    fn undo(
        &self,
        exclusive: &Exclusive,
        registry: &mut Registry,
        name: &TenantName,
    ) -> Result<(), Error> {
        self.storage.unmake(name)?;
        let mut without = registry.clone();
        without.forget(name);
        self.write(exclusive, &without)?;
        *registry = without;
        Ok(())
    }

    /// Removes the storage of one who is being purged, and retires his block.
    /// The lock of purging is held.
    fn purge(&self, name: &TenantName) -> Result<(), Error> {
        let is_purging = |registry: &Registry| {
            let found = registry.find(name);
            found.is_ok_and(|tenant| tenant.state == TenantState::Purging)
        };
        // Somebody else may have come first.
        if !is_purging(&self.read()?) {
            return Ok(());
        }
        self.storage.purge(name)?;
        let exclusive = self.lock()?;
        let mut registry = self.settled(&exclusive)?;
        registry.retire(name, now_s());
        self.write(&exclusive, &registry)
    }

    /// Forgets the retired blocks that nothing has an id of. What has one of
    /// the first that must wait.
    fn release(&self, registry: &mut Registry, holders: &Holders) -> Result<Option<Holder>, Error> {
        let names: Vec<(TenantName, Block)> = registry
            .tenants()
            .map(|tenant| (tenant.name.clone(), tenant.block))
            .collect();
        let mut first = None;
        registry.release(|retired| {
            let is_retaken = names.iter().any(|(name, _)| *name == retired.tenant);
            let mut holder = holders.of(retired.block).cloned();
            if holder.is_none() && !is_retaken {
                holder = self.storage.found(&retired.tenant)?;
            }
            let is_free = holder.is_none();
            first = first.take().or(holder);
            Ok(is_free)
        })?;
        Ok(first)
    }

    fn lock_purge(&self, patience: Duration) -> Result<Exclusive, Error> {
        self.purge.lock(patience, || Ok::<(), Error>(()))
    }

    /// The right to change the registry, if nobody has it.
    fn lock_now(&self) -> Result<Option<Exclusive>, Error> {
        unless_locked(self.state.lock(Duration::ZERO, || Ok::<(), Error>(())))
    }
}

fn unless_locked(locked: Result<Exclusive, Error>) -> Result<Option<Exclusive>, Error> {
    match locked {
        Ok(exclusive) => Ok(Some(exclusive)),
        Err(Error::Locked(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
