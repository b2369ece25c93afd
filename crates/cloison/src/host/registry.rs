//! Who the tenants of a host are: one file, of which a rename is the
//! transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::servers::Defined;
use crate::error::Error;
use crate::ids::{Block, Pool};
use crate::names::{ServerName, TenantName};
use crate::settings::TenantSettings;

/// One client of the provider, and what is his.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// His name.
    pub name: TenantName,
    /// His ids. Nobody else has one of them.
    pub block: Block,
    /// Whether he is there, and his storage with him.
    pub state: TenantState,
    /// When he was added, in seconds since 1970.
    pub created_s: u64,
    /// What the operator decided of him.
    pub settings: TenantSettings,
    /// His servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<ServerName, Defined>,
}

/// What is there of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantState {
    /// He is being added. Whoever opens the host next, once that has ended
    /// halfway, undoes it.
    Adding,
    /// He is there, with his storage.
    Present,
    /// He was removed and his storage kept: name and block stay his.
    Kept,
    /// He was removed and his storage is being removed. Whoever opens the host
    /// next, once that has ended halfway, goes on.
    Purging,
}

impl TenantState {
    /// How it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Present => "present",
            Self::Kept => "kept",
            Self::Purging => "purging",
        }
    }

    /// What an operator can do whom it hinders.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Adding => {
                "again in a moment; what was begun and not ended is undone by removing it"
            }
            Self::Present => "choose another name",
            Self::Kept => "bring it back, `cloison tenant restore`, or remove it with --purge",
            Self::Purging => "remove it again with --purge: that tells what hinders it",
        }
    }
}

/// The block of a tenant that is no more, not yet handed out again: something
/// may still have one of its ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    /// The ids.
    pub block: Block,
    /// Whose they were.
    pub tenant: TenantName,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
}

/// Who the tenants are.
///
/// Holding one tells you that no two of them, nor what is retired, share a name
/// or a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct Registry {
    tenants: BTreeMap<TenantName, Tenant>,
    retired: Vec<Retired>,
}

/// How the file writes it. A list: two entries of one name are seen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tenants: Vec<Tenant>,
    retired: Vec<Retired>,
}

/// Why a file is no registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Twice {
    #[error("two tenants are named {0}")]
    Name(TenantName),
    #[error("the ids {0} are owned twice")]
    Block(Block),
}

impl Registry {
    /// Every tenant, by name.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// Every block that waits.
    pub(crate) fn retired(&self) -> &[Retired] {
        &self.retired
    }

    pub(crate) fn find(&self, name: &TenantName) -> Result<&Tenant, Error> {
        let found = self.tenants.get(name);
        found.ok_or_else(|| Error::NoTenant(name.clone()))
    }

    pub(crate) fn find_mut(&mut self, name: &TenantName) -> Result<&mut Tenant, Error> {
        let found = self.tenants.get_mut(name);
        found.ok_or_else(|| Error::NoTenant(name.clone()))
    }

    /// The names of those in that state.
    pub(crate) fn names_in(&self, state: TenantState) -> Vec<TenantName> {
        let tenants = self.tenants().filter(|tenant| tenant.state == state);
        tenants.map(|tenant| tenant.name.clone()).collect()
    }

    /// Adds one whose name nobody has and whose block [`Registry::choose`] gave.
    pub(crate) fn insert(&mut self, tenant: Tenant) {
        self.tenants.insert(tenant.name.clone(), tenant);
    }

    /// Takes one out as if he had never been there.
    pub(crate) fn forget(&mut self, name: &TenantName) {
        self.tenants.remove(name);
    }

    /// Takes one out whose block is not free yet.
    pub(crate) fn retire(&mut self, name: &TenantName, now_s: u64) {
        if let Some(tenant) = self.tenants.remove(name) {
            self.retired.push(Retired {
                block: tenant.block,
                tenant: tenant.name,
                since_s: now_s,
            });
        }
    }

    /// Forgets every retired block that `is_free` says is free.
    ///
    /// # Errors
    /// What `is_free` gives.
    pub(crate) fn release(
        &mut self,
        mut is_free: impl FnMut(&Retired) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut kept = Vec::new();
        for retired in &self.retired {
            if !is_free(retired)? {
                kept.push(retired.clone());
            }
        }
        self.retired = kept;
        Ok(())
    }

    /// The first block of `pool` that nobody owns, that does not wait, and that
    /// `is_held` does not speak against.
    pub(crate) fn choose(&self, pool: Pool, is_held: impl Fn(Block) -> bool) -> Option<Block> {
        let owned: BTreeSet<Block> = self.blocks().map(|(block, _)| block).collect();
        pool.blocks()
            .find(|block| !owned.contains(block) && !is_held(*block))
    }

    /// That every block is one of `pool`.
    ///
    /// # Errors
    /// [`Error::PoolChanged`].
    pub(crate) fn check_pool(&self, pool: Pool) -> Result<(), Error> {
        let all: BTreeSet<Block> = pool.blocks().collect();
        let stray = self.blocks().find(|(block, _)| !all.contains(block));
        match stray {
            None => Ok(()),
            Some((block, tenant)) => Err(Error::PoolChanged {
                pool,
                block,
                tenant: tenant.clone(),
            }),
        }
    }

    /// Every block that may not be handed out, and whose it is or was.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (Block, &TenantName)> {
        let owned = self.tenants().map(|tenant| (tenant.block, &tenant.name));
        let waiting = self.retired.iter().map(|gone| (gone.block, &gone.tenant));
        owned.chain(waiting)
    }
}

impl TryFrom<Written> for Registry {
    type Error = Twice;

    fn try_from(written: Written) -> Result<Self, Twice> {
        let mut registry = Self {
            tenants: BTreeMap::new(),
            retired: written.retired,
        };
        for tenant in written.tenants {
            if let Some(tenant) = registry.tenants.insert(tenant.name.clone(), tenant) {
                return Err(Twice::Name(tenant.name));
            }
        }
        let mut all: Vec<Block> = registry.blocks().map(|(block, _)| block).collect();
        all.sort();
        for pair in all.windows(2) {
            if let [one, next] = pair
                && one.ids().contains(&next.first())
            {
                return Err(Twice::Block(*next));
            }
        }
        Ok(registry)
    }
}

impl From<Registry> for Written {
    fn from(registry: Registry) -> Self {
        Self {
            tenants: registry.tenants.into_values().collect(),
            retired: registry.retired,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tenant(name: &str, at: usize) -> Tenant {
        Tenant {
            name: name.parse().unwrap(),
            block: Pool::default().blocks().nth(at).unwrap(),
            state: TenantState::Present,
            created_s: 0,
            settings: TenantSettings::default(),
            servers: BTreeMap::new(),
        }
    }

    fn read(tenants: &[Tenant], retired: &[Retired]) -> Result<Registry, Twice> {
        Registry::try_from(Written {
            tenants: tenants.to_vec(),
            retired: retired.to_vec(),
        })
    }

    #[test]
    fn no_two_share_a_name_or_a_block() {
        let (a, b) = (tenant("a", 0), tenant("b", 1));
        assert!(read(&[b.clone(), a.clone()], &[]).is_ok());
        assert_eq!(
            read(&[a.clone(), tenant("a", 1)], &[]),
            Err(Twice::Name(a.name.clone()))
        );
        assert_eq!(
            read(&[a.clone(), tenant("b", 0)], &[]),
            Err(Twice::Block(a.block))
        );
        let gone = Retired {
            block: b.block,
            tenant: "c".parse().unwrap(),
            since_s: 0,
        };
        let both = read(std::slice::from_ref(&b), std::slice::from_ref(&gone));
        assert_eq!(both, Err(Twice::Block(b.block)));
        let shifted = Block::try_from(a.block.first() + 65_536).unwrap();
        let shifted = Tenant {
            block: shifted,
            ..b
        };
        assert!(read(&[a, shifted], &[]).is_err());
    }

    #[test]
    fn first_free_block_is_chosen() {
        let pool = Pool::default();
        let nth = |at| pool.blocks().nth(at);
        let mut registry = read(&[tenant("a", 0), tenant("c", 2)], &[]).unwrap();
        assert_eq!(registry.choose(pool, |_| false), nth(1));
        assert_eq!(registry.choose(pool, |block| Some(block) == nth(1)), nth(3));
        registry.retire(&"a".parse().unwrap(), 7);
        assert_eq!(registry.choose(pool, |_| false), nth(1));
        registry.release(|_| Ok(false)).unwrap();
        assert_eq!(registry.retired().len(), 1);
        registry.release(|_| Ok(true)).unwrap();
        assert_eq!(registry.choose(pool, |_| false), nth(0));
    }

    #[test]
    fn pool_may_grow_and_not_move() {
        let registry = read(&[tenant("a", 3)], &[]).unwrap();
        let larger = Pool::new(1_048_576, 2_147_352_575).unwrap();
        assert!(registry.check_pool(Pool::default()).is_ok());
        assert!(registry.check_pool(larger).is_ok());
        for (first, last) in [(65_536, 2_147_352_575), (1_048_576, 2_097_151)] {
            let other = Pool::new(first, last).unwrap();
            let refused = registry.check_pool(other);
            assert!(matches!(refused, Err(Error::PoolChanged { .. })));
        }
    }
}
