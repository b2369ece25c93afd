//! `server.toml`.

use std::path::Path;

use cloison_sandbox::{IdRange, OwnAccess, OwnRoot, Root, Spec, TmpfsSizes};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeTable;

use super::policy::refused;
use super::{FileError, Policy, PolicyError, SettingsFile};
use crate::ids::{Block, Slot};
use crate::names::{ServerId, ServerName, TenantName, TreeName};

/// The settings of one server: whose it is, its root, and what a sandbox has
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Whose it is, and its name.
    pub id: ServerId,
    /// Its root file system.
    pub root: ServerRoot,
    /// All else. Its name, ids and root are of no account.
    spec: Spec,
}

/// The root file system of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServerRoot {
    /// The host's own `/usr`, read-only: for a first try, where the policy
    /// allows it.
    #[default]
    SharedBase,
    /// A tree of the tenant's own, in his storage.
    Tree {
        /// Which of his.
        name: TreeName,
        /// What the server may do with it.
        #[serde(default)]
        access: TreeAccess,
    },
}

/// What a server may do with a tree of its tenant's, as [`OwnAccess`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TreeAccess {
    /// Read and execute.
    #[default]
    ReadOnly,
    /// Read, execute and write, in place.
    ReadWrite,
    /// What is written stays in memory and is gone with the server. As much of
    /// it as `/tmp` may hold.
    MemoryLayer,
    /// What is written is kept beside the tree, for this server alone.
    DiskLayer,
}

/// The keys of the file that are no sandbox's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    tenant: TenantName,
    name: ServerName,
    #[serde(default)]
    root: ServerRoot,
}

/// The keys of a sandbox that a server does not choose.
const ASSIGNED: [(&str, &str); 1] = [("ids", "a server has the ids of its slot")];

impl ServerSettings {
    /// What `file` says.
    ///
    /// # Errors
    /// [`FileError`], with the place.
    pub fn from_file(file: &SettingsFile) -> Result<Self, FileError> {
        let document = DeTable::parse(file.text()).map_err(|error| file.not_understood(&error))?;
        let span = document.span();
        let mut all = document.into_inner();
        for (key, why) in ASSIGNED {
            if let Some((key, _)) = all.remove_entry(key) {
                let message = format!("`{}` is not for a server's file: {why}", key.get_ref());
                return Err(file.error(&message, Some(key.span()), None));
            }
        }
        let mut own = DeTable::new();
        for key in ["tenant", "root"] {
            own.extend(all.remove_entry(key));
        }
        let name = all.iter().find(|(key, _)| key.get_ref() == "name");
        own.extend(name.map(|(key, value)| (key.clone(), value.clone())));
        let own: Own = parsed(file, own, &span)?;
        let spec: Spec = parsed(file, all, &span)?;
        Ok(Self {
            id: ServerId {
                tenant: own.tenant,
                server: own.name,
            },
            root: own.root,
            spec,
        })
    }

    /// The spec of its sandbox: a pure function of what host, tenant and server
    /// say.
    ///
    /// # Errors
    /// [`PolicyError`]: it asks for more than `policy` allows.
    pub fn spec(&self, policy: &Policy, place: &ServerPlace<'_>) -> Result<Spec, PolicyError> {
        let mut spec = self.spec.clone();
        spec.name = self.id.sandbox();
        spec.ids = Some(place.block.server(place.slot));
        spec.root = match &self.root {
            ServerRoot::SharedBase if policy.shared_base => Root::SharedBase,
            ServerRoot::SharedBase => {
                let asked = "the host's own /usr";
                let allowed = "a tree of the tenant's own";
                return Err(refused("root", asked, allowed, "policy.shared_base"));
            }
            ServerRoot::Tree { name, access } => {
                let disk = place.block.disk();
                Root::Own(own_root(
                    place.storage,
                    &self.id.server,
                    name,
                    *access,
                    disk,
                    spec.tmpfs,
                ))
            }
        };
        policy.check(&spec)?;
        Ok(spec)
    }
}

/// Where a server stands.
#[derive(Clone, Copy, Debug)]
pub struct ServerPlace<'a> {
    /// The ids of its tenant.
    pub block: Block,
    /// Which of them it has.
    pub slot: Slot,
    /// The tenant's storage on the host.
    pub storage: &'a Path,
}

fn own_root(
    storage: &Path,
    server: &ServerName,
    tree: &TreeName,
    access: TreeAccess,
    disk_ids: IdRange,
    tmpfs: TmpfsSizes,
) -> OwnRoot {
    OwnRoot {
        path: storage.join("trees").join(tree.as_str()),
        disk_ids,
        access: match access {
            TreeAccess::ReadOnly => OwnAccess::ReadOnly,
            TreeAccess::ReadWrite => OwnAccess::ReadWrite,
            TreeAccess::MemoryLayer => OwnAccess::MemoryLayer {
                bytes_max: tmpfs.tmp_bytes_max,
                files_max: tmpfs.files_max,
            },
            TreeAccess::DiskLayer => OwnAccess::DiskLayer {
                path: storage.join("layers").join(server.as_str()),
            },
        },
    }
}

fn parsed<'a, T: Deserialize<'a>>(
    file: &SettingsFile,
    table: DeTable<'a>,
    span: &std::ops::Range<usize>,
) -> Result<T, FileError> {
    let table = Spanned::new(span.clone(), table);
    let input = toml::de::Deserializer::from(table);
    T::deserialize(input).map_err(|error| file.not_understood(&error))
}

#[cfg(test)]
#[expect(clippy::panic, clippy::unwrap_used, reason = "tests")]
mod tests {
    use cloison_sandbox::Refused;

    use super::*;
    use crate::ids::Pool;

    const GOOD: &str = r#"
tenant = "acme"
name = "web"
command = ["/srv/web"]
user = 33
[root.tree]
name = "site"
access = "disk-layer"
[cgroup]
memory_bytes_max = 134217728
"#;

    fn read(text: &str) -> Result<ServerSettings, FileError> {
        ServerSettings::from_file(&SettingsFile::of("server.toml", text))
    }

    fn placed(settings: &ServerSettings, policy: &Policy) -> Result<Spec, PolicyError> {
        let place = ServerPlace {
            block: Pool::default().blocks().nth(2).unwrap(),
            slot: Slot::try_from(3).unwrap(),
            storage: Path::new("/storage/acme"),
        };
        settings.spec(policy, &place)
    }

    #[test]
    fn server_becomes_the_spec_of_its_slot_and_tree() {
        let settings = read(GOOD).unwrap();
        assert_eq!(settings.id.to_string(), "acme/web");
        let spec = placed(&settings, &Policy::default()).unwrap();
        let block = Pool::default().blocks().nth(2).unwrap();
        assert_eq!(spec.name.as_str(), "acme--web");
        assert_eq!(spec.ids, Some(block.server(Slot::try_from(3).unwrap())));
        assert_eq!((spec.user, spec.cgroup.memory_bytes_max), (33, 128 << 20));
        let Root::Own(root) = spec.root else {
            panic!("{:?}", spec.root);
        };
        assert_eq!(root.path, Path::new("/storage/acme/trees/site"));
        assert_eq!(root.disk_ids, block.disk());
        let layer = OwnAccess::DiskLayer {
            path: "/storage/acme/layers/web".into(),
        };
        assert_eq!(root.access, layer);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (changed, place, message) in [
            (GOOD.replace("user", "usr"), "usr", "unknown field `usr`"),
            (GOOD.replace("acme", "a/b"), "\"a/b\"", "a name has"),
            (
                GOOD.replace("\"site\"", "\"../x\""),
                "\"../x\"",
                "a name has",
            ),
            (
                GOOD.replace("access", "acces"),
                "acces",
                "unknown field `acces`",
            ),
            (
                GOOD.replace("user = 33", "ids = 65536"),
                "ids",
                "not for a server's file",
            ),
            (
                GOOD.replace("tenant = \"acme\"", ""),
                "",
                "missing field `tenant`",
            ),
        ] {
            let error = read(&changed).unwrap_err();
            let found = error.place.clone().and_then(|place| changed.get(place));
            assert!(error.message.contains(message), "{}", error.message);
            if !place.is_empty() {
                assert_eq!(found, Some(place), "{message}");
            }
        }
    }

    #[test]
    fn shared_base_needs_a_word_of_the_host() {
        let text = "tenant = \"a\"\nname = \"b\"\ncommand = [\"/usr/bin/id\"]\n";
        let settings = read(text).unwrap();
        let refused = placed(&settings, &Policy::default()).unwrap_err();
        assert_eq!(refused.rule, "policy.shared_base");
        let allowed = Policy {
            shared_base: true,
            ..Policy::default()
        };
        assert_eq!(placed(&settings, &allowed).unwrap().root, Root::SharedBase);
    }

    #[test]
    fn excess_is_told_with_rule_and_place() {
        let text = GOOD.replace("134217728", "1073741824");
        let file = SettingsFile::of("server.toml", &text);
        let settings = ServerSettings::from_file(&file).unwrap();
        let refused = placed(&settings, &Policy::default()).unwrap_err();
        let shown = file.against_policy(&refused);
        assert_eq!(
            shown.place.and_then(|place| text.get(place)),
            Some("1073741824")
        );
        assert!(
            shown
                .help
                .unwrap()
                .contains("policy.cgroup.memory_bytes_max")
        );
        // What the library refuses is found in the same file.
        assert!(file.refused(&Refused::NoCommand).place.is_some());
    }
}
