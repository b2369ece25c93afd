//! A host's state on the stage, and what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cloison::{Block, Error, Host, HostSettings, Pool, ServerId, TenantName, TenantState};
use nix::mount::{MntFlags, umount2};

/// How many ids a block has.
pub(crate) const BLOCK: u32 = Block::COUNT;

/// A state of its own, gone with the value, and a pool of its own: keys know no
/// stage, so that another case's would count.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) pool: Pool,
}

impl Place {
    /// One of the cases' pools, of at most 40 blocks, all below the default one.
    pub(crate) fn new(nth: u32, blocks: u32) -> Self {
        let first = 0x1000_0000 + nth * 40 * BLOCK;
        Self {
            path: format!("/tmp/host-{nth}").into(),
            pool: Pool::new(first, first + blocks * BLOCK - 1).unwrap(),
        }
    }

    pub(crate) fn settings(&self) -> HostSettings {
        HostSettings {
            id_pool: self.pool,
            ..HostSettings::default()
        }
    }

    pub(crate) fn host(&self) -> Host {
        Host::open(&self.path, self.settings()).unwrap()
    }

    /// As if the machine had never had one.
    pub(crate) fn clear(&self) {
        let storage = self.path.join("storage");
        while umount2(&storage, MntFlags::MNT_DETACH).is_ok() {}
        if self.path.exists() {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }

    pub(crate) fn storage(&self, name: &str) -> PathBuf {
        self.path.join("storage").join(name)
    }

    /// What there is of the registry and the storage, byte by byte.
    pub(crate) fn picture(&self) -> (Vec<u8>, Vec<String>) {
        let registry = fs::read(self.path.join("registry.json")).unwrap_or_default();
        (registry, names_in(&self.path.join("storage")))
    }

    /// What is wrong with it, once everything is settled: a tenant in a passing
    /// state, a root that nobody owns or that is not as it should be, a file
    /// half written.
    pub(crate) fn faults(&self, host: &Host) -> Vec<String> {
        let mut faults = Vec::new();
        let mut owned = BTreeMap::new();
        let tenants = host.tenants().unwrap();
        for tenant in &tenants {
            if matches!(tenant.state, TenantState::Adding | TenantState::Purging) {
                faults.push(format!("{} is {}", tenant.name, tenant.state.name()));
            }
            if let Some(other) = owned.insert(tenant.block, &tenant.name) {
                faults.push(format!("{other} and {} share a block", tenant.name));
            }
            match fs::symlink_metadata(self.storage(tenant.name.as_str())) {
                Ok(found) => {
                    let disk = tenant.block.first();
                    let is_right = (found.uid(), found.gid()) == (disk, disk)
                        && found.permissions().mode() == 0o40700;
                    if !is_right {
                        faults.push(format!("the root of {}: {found:?}", tenant.name));
                    }
                }
                Err(error) => faults.push(format!("the root of {}: {error}", tenant.name)),
            }
        }
        let names: Vec<_> = tenants.iter().map(|t| t.name.to_string()).collect();
        let roots = names_in(&self.path.join("storage"));
        if roots != names {
            faults.push(format!("roots {roots:?} of the tenants {names:?}"));
        }
        faults.extend(
            names_in(&self.path)
                .into_iter()
                .filter(|name| name.ends_with(".part"))
                .map(|name| format!("{name} is left")),
        );
        faults
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clear();
        }
    }
}

/// The names in a directory, in order.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn name(text: &str) -> TenantName {
    text.parse().unwrap()
}

/// No server runs.
pub(crate) fn nobody() -> Result<Vec<ServerId>, Error> {
    Ok(Vec::new())
}

/// An error with its causes and what to do.
pub(crate) fn told(error: &Error) -> String {
    let remedy = error.remedy().unwrap_or("no remedy");
    format!("{}; {remedy}", cloison_tests::chain(error))
}

/// Wants all of these in the error.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, fragments: &[&str]) {
    let text = told(&result.unwrap_err());
    for fragment in fragments {
        assert!(text.contains(fragment), "{fragment:?} in {text}");
    }
}
