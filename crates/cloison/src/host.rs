//! One host: who its tenants are and what is theirs.
//!
//! All of it stands in a directory of state, `/var/lib/cloison` by default:
//!
//! | name | what |
//! | --- | --- |
//! | `registry.json` | the tenants, their blocks, the blocks that wait; a rename is the transaction |
//! | `lock` | held by whoever changes the registry, for moments |
//! | `storage/NAME` | a tenant's root: 0700, of the first id of his block |
//! | `purge/lock` | held by whoever removes the storage of a tenant, as long as that takes |
//!
//! Reading takes no lock. What was begun and not ended, because its process was
//! killed or the power was cut, is finished or undone by whoever opens the host
//! next.

mod change;
mod registry;
mod servers;
mod storage;
mod trees;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use change::Removal;
pub use registry::{Retired, Tenant, TenantState};
pub use servers::{Defined, ServerStatus};
pub use trees::TreeStatus;

use crate::error::{Error, at};
use crate::ids::Block;
use crate::names::TenantName;
use crate::settings::HostSettings;
use crate::state::{Exclusive, StateDirectory};
use registry::Registry;
use storage::Storage;

/// The file that says who the tenants are.
const REGISTRY: &str = "registry.json";
/// Whose lock is held while storage is removed.
const PURGE: &str = "purge";
/// How long a change waits for another.
const PATIENCE: Duration = Duration::from_secs(10);

/// One machine, and who its tenants are.
///
/// Several processes may have the same host open, and change it.
#[derive(Debug)]
pub struct Host {
    state: StateDirectory,
    purge: StateDirectory,
    storage: Storage,
    settings: HostSettings,
    runtime: PathBuf,
}

impl Host {
    /// Where its state is if nobody says otherwise.
    pub const STATE: &str = "/var/lib/cloison";
    /// Where it is written down which of its servers run, if nobody says
    /// otherwise.
    pub const RUNTIME: &str = "/run/cloison/servers";

    /// The same host with another directory for what runs. It is gone after a
    /// boot, as what runs is.
    #[must_use]
    pub fn with_runtime(self, runtime: PathBuf) -> Self {
        Self { runtime, ..self }
    }

    /// Opens the host whose state is in `state`, made if it is missing.
    ///
    /// Its directory `storage` is, on the host, `nosuid,nodev,noexec`: where it
    /// is not, it is mounted on itself with these flags, as a private mount in
    /// the caller's mount namespace, which stays when the caller ends.
    ///
    /// What a process that was killed had begun is finished or undone. Where
    /// that cannot be done now, the tenant stays in the state
    /// [`TenantState::Adding`] or [`TenantState::Purging`], and
    /// [`Host::remove_tenant`] tells why.
    ///
    /// # Errors
    /// [`Error::UnsafeState`], [`Error::StorageMount`], [`Error::Path`]; those of
    /// [`StateDirectory::read`].
    ///
    /// # Kernel
    /// 5.12, `CAP_SYS_ADMIN`, if the flags are missing.
    pub fn open(state: &Path, settings: HostSettings) -> Result<Self, Error> {
        let state = StateDirectory::open(state)?;
        let lock = || state.lock(PATIENCE, || Ok::<(), Error>(()));
        let storage = Storage::open(&state, lock)?;
        let purge = state.below(PURGE)?;
        let host = Self {
            state,
            purge,
            storage,
            settings,
            runtime: PathBuf::from(Self::RUNTIME),
        };
        host.settle()?;
        Ok(host)
    }

    /// The blocks that are, or were, a tenant's of the host whose state is in
    /// `state`. Nothing is made: where there is no such directory, there are none.
    ///
    /// # Errors
    /// [`Error::UnsafeState`], [`Error::Path`]; those of
    /// [`StateDirectory::read`].
    pub fn blocks_in(state: &Path) -> Result<Vec<Block>, Error> {
        match std::fs::symlink_metadata(state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found.map_err(at("looking at", state))?,
        };
        let registry: Option<Registry> = StateDirectory::open(state)?.read(REGISTRY)?;
        let registry = registry.unwrap_or_default();
        Ok(registry.blocks().map(|(block, _)| block).collect())
    }

    /// What the operator decided of it.
    #[must_use]
    pub fn settings(&self) -> &HostSettings {
        &self.settings
    }

    /// The directory of its state.
    #[must_use]
    pub fn state(&self) -> &StateDirectory {
        &self.state
    }

    /// Every tenant, by name, those in passing states and those kept too.
    ///
    /// # Errors
    /// Those of [`StateDirectory::read`].
    pub fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        Ok(self.read()?.tenants().cloned().collect())
    }

    /// One tenant, in whatever state.
    ///
    /// # Errors
    /// [`Error::NoTenant`]; those of [`StateDirectory::read`].
    pub fn tenant(&self, name: &TenantName) -> Result<Tenant, Error> {
        self.read()?.find(name).cloned()
    }

    /// The blocks of tenants that are no more, which are not handed out yet.
    ///
    /// # Errors
    /// Those of [`StateDirectory::read`].
    pub fn retired(&self) -> Result<Vec<Retired>, Error> {
        Ok(self.read()?.retired().to_vec())
    }

    /// The root of the storage of a tenant who is present.
    ///
    /// *Holding one tells you* that it is the directory itself, no link and no
    /// mount, owned by the tenant's disk id, with the mode 0700. What lies in it
    /// is the tenant's word.
    ///
    /// # Errors
    /// [`Error::NoTenant`], [`Error::NotPresent`], [`Error::UnsafeStorage`],
    /// [`Error::Path`].
    pub fn open_storage(&self, name: &TenantName) -> Result<OwnedFd, Error> {
        let tenant = self.tenant(name)?;
        tenant.check_present()?;
        self.storage.root(name, tenant.block)
    }

    /// The path of it, to be shown.
    #[must_use]
    pub fn storage_path(&self, name: &TenantName) -> PathBuf {
        self.storage.path_of(name)
    }

    fn read(&self) -> Result<Registry, Error> {
        Ok(self.state.read(REGISTRY)?.unwrap_or_default())
    }

    fn write(&self, exclusive: &Exclusive, registry: &Registry) -> Result<(), Error> {
        self.state.write(exclusive, REGISTRY, registry)
    }

    /// The right to change the registry.
    fn lock(&self) -> Result<Exclusive, Error> {
        self.state.lock(PATIENCE, || Ok::<(), Error>(()))
    }
}

impl Tenant {
    fn check_present(&self) -> Result<(), Error> {
        if self.state == TenantState::Present {
            Ok(())
        } else {
            Err(Error::NotPresent {
                tenant: self.name.clone(),
                state: self.state,
            })
        }
    }
}

/// Now, in seconds since 1970.
fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
