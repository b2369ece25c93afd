//! Names of tenants and servers.

use std::fmt;

use cloison_sandbox::SandboxName;
use serde::{Deserialize, Serialize};

/// Between a tenant's name and a server's in the name of a sandbox. No name has
/// it, so that the two are told apart again.
const JOINT: &str = "--";
/// The longest name: two of them and the joint are a [`SandboxName`].
const BYTES_MAX: usize = 23;

/// Why a string is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 23 lower-case letters, digits and single hyphens, starts with a letter and does not end with a hyphen"
)]
pub struct NameError;

/// The label of a tenant: 1 to 23 lower-case letters, digits and single
/// hyphens, the first a letter, the last no hyphen. Safe as a file name, as a
/// part of a host name and in a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// The name of a server among those of its tenant, as a [`TenantName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

/// The name of a tree of files among those of its tenant, as a [`TenantName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreeName(String);

fn checked(name: String) -> Result<String, NameError> {
    let is_short = name.len() <= BYTES_MAX;
    let is_safe = SandboxName::new(name.as_str()).is_ok();
    if is_short && is_safe && !name.contains(JOINT) {
        Ok(name)
    } else {
        Err(NameError)
    }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// Checks `name`.
            ///
            /// # Errors
            /// [`NameError`], with the rule.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                checked(name.into()).map(Self)
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(TenantName);
name!(ServerName);
name!(TreeName);

/// A server of a host: `TENANT/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId {
    /// Whose it is.
    pub tenant: TenantName,
    /// Which of his.
    pub server: ServerName,
}

impl ServerId {
    /// The server whose sandbox has this name; `None` if it is no server's.
    #[must_use]
    pub fn of_sandbox(name: &SandboxName) -> Option<Self> {
        let (tenant, server) = name.as_str().split_once(JOINT)?;
        Some(Self {
            tenant: tenant.parse().ok()?,
            server: server.parse().ok()?,
        })
    }

    /// The name of its sandbox: its host name, and part of its cgroup's.
    #[must_use]
    pub fn sandbox(&self) -> SandboxName {
        let name = format!("{}{JOINT}{}", self.tenant, self.server);
        match SandboxName::new(name) {
            Ok(name) => name,
            Err(_) => unreachable!("two names and the joint are a sandbox's name"),
        }
    }
}

impl TryFrom<String> for ServerId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl std::str::FromStr for ServerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant, server) = text.split_once('/').ok_or(NameError)?;
        Ok(Self {
            tenant: tenant.parse()?,
            server: server.parse()?,
        })
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.server)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere_and_come_apart_again() {
        let longest = "a".repeat(BYTES_MAX);
        for good in ["a", "acme-1", longest.as_str()] {
            assert!(TenantName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(BYTES_MAX + 1);
        for bad in [
            "",
            "-a",
            "a-",
            "a--b",
            "1a",
            "A",
            "a/b",
            "..",
            "a\0",
            long.as_str(),
        ] {
            assert!(TenantName::new(bad).is_err(), "{bad:?}");
            assert!(ServerName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_servers_never_have_one_sandbox() {
        let id = |text: &str| text.parse::<ServerId>().unwrap();
        assert_eq!(id("a-b/c").sandbox().as_str(), "a-b--c");
        for text in ["a-b/c", "a/b-c"] {
            assert_eq!(ServerId::of_sandbox(&id(text).sandbox()), Some(id(text)));
        }
        for text in ["a-b", "a--b--c"] {
            let name = SandboxName::new(text).unwrap();
            assert_eq!(ServerId::of_sandbox(&name), None);
        }
        assert_ne!(id("a-b/c").sandbox(), id("a/b-c").sandbox());
        let longest = "a".repeat(BYTES_MAX);
        let both = id(&format!("{longest}/{longest}"));
        assert_eq!(both.sandbox().as_str().len(), 48);
        for bad in ["a", "a/", "/a", "a/b/c", "a//b"] {
            assert!(bad.parse::<ServerId>().is_err(), "{bad}");
        }
    }
}
