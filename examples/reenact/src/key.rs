//! One key of each tenant in the kernel, kept there by the host.

use linux_keyutils::{
    Key, KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission,
};

use crate::error::ReenactError;
use crate::tenants;

/// A key that belongs to a tenant's user.
#[derive(Debug)]
pub(crate) struct TenantKey {
    key: Key,
    payload: String,
}

impl TenantKey {
    /// Adds the key of `tenant`, whose user on the host is `owner`.
    pub(crate) fn add(tenant: &'static str, owner: u32) -> Result<Self, ReenactError> {
        Self::add_to_own_keyring(tenant, owner)
            .map_err(|source| ReenactError::Key { tenant, source })
    }

    fn add_to_own_keyring(tenant: &str, owner: u32) -> Result<Self, KeyError> {
        let payload = format!("{} key of the {tenant}", tenants::CANARY);
        let keyring = KeyRing::from_special_id(KeyRingIdentifier::Process, true)?;
        let key = keyring.add_key(&format!("cloison-canary:{tenant}"), &payload)?;
        let of_user = Permission::VIEW | Permission::READ | Permission::WRITE;
        let permissions = KeyPermissionsBuilder::builder()
            .posessor(Permission::ALL)
            .user(of_user)
            .build();
        key.set_perms(permissions)?;
        key.chown(Some(owner), None)?;
        Ok(Self { key, payload })
    }

    /// Whether it still holds what was put into it.
    pub(crate) fn is_intact(&self) -> bool {
        let content = self.key.read_to_vec();
        content.is_ok_and(|content| content == self.payload.as_bytes())
    }
}
