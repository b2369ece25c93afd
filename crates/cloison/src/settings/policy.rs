//! What a tenant may ask for.

use std::path::PathBuf;

use caps::CapsHashSet;
use cloison_sandbox::{CgroupLimits, Limits, Spec, Sysfs, TmpfsSizes};
use serde::{Deserialize, Serialize};

/// The most that one server may ask for. What is not said here is what a server
/// gets that asks for nothing: nobody has more because nobody thought of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How many servers a tenant may have, 1 to 15.
    pub servers_max: u8,
    /// Whether a server may have the host's own `/usr` as its root. It shares
    /// the inodes of the host then, and of every other server that does.
    pub shared_base: bool,
    /// Whether a server may have a sysfs, which tells of the machine.
    pub sysfs: bool,
    /// Trees of the host: a server may be shown what lies in them.
    pub host_paths: Vec<PathBuf>,
    /// Capabilities that a server's root may keep in its own user namespace.
    pub capabilities: CapsHashSet,
    /// Of all processes of a server together.
    pub cgroup: CgroupBounds,
    /// Of each of its processes and users.
    pub limits: Limits,
    /// Of each of its memory file systems.
    pub tmpfs: TmpfsSizes,
}

/// The most of each number in [`CgroupLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupBounds {
    /// # Units
    /// Bytes.
    pub memory_bytes_max: u64,
    /// # Units
    /// Bytes.
    pub swap_bytes_max: u64,
    /// Processes and threads.
    pub tasks_max: u64,
    /// Share of the processors; everybody has 100 at first.
    pub cpu_weight: u64,
    /// # Units
    /// Hundredths of one processor.
    pub cpu_percent_max: u64,
    /// Share of the block devices; everybody has 100 at first.
    pub io_weight: u64,
}

impl Default for CgroupBounds {
    fn default() -> Self {
        let usual = CgroupLimits::default();
        Self {
            memory_bytes_max: usual.memory_bytes_max,
            swap_bytes_max: usual.swap_bytes_max,
            tasks_max: usual.tasks_max,
            cpu_weight: usual.cpu_weight,
            cpu_percent_max: usual.cpu_percent_max,
            io_weight: 100,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            servers_max: 15,
            shared_base: false,
            sysfs: false,
            host_paths: Vec::new(),
            capabilities: CapsHashSet::new(),
            cgroup: CgroupBounds::default(),
            limits: Limits::default(),
            tmpfs: TmpfsSizes::default(),
        }
    }
}

/// A server asks for more than its tenant may have. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` asks for {asked}: the policy allows {allowed}")]
pub struct PolicyError {
    /// The setting of the server, its keys parted by dots.
    pub setting: String,
    /// What it asks for.
    pub asked: String,
    /// What it may have.
    pub allowed: String,
    /// The rule, as `host.toml` or `tenant.toml` writes it.
    pub rule: String,
}

impl PolicyError {
    /// What an operator does to allow it.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!(
            "ask for less, or change `{}` in host.toml or in the tenant's file",
            self.rule
        )
    }
}

/// A number that a server may ask for, and the most that it may be.
struct Bound {
    setting: &'static str,
    asked: u64,
    most: u64,
}

/// Pairs each number of a spec with the policy's.
macro_rules! bounds {
    ($spec:ident, $policy:ident: $($group:ident . $field:ident),* $(,)?) => {
        [$(Bound {
            setting: concat!(stringify!($group), ".", stringify!($field)),
            asked: u64::from($spec.$group.$field),
            most: u64::from($policy.$group.$field),
        }),*]
    };
}

impl Policy {
    /// Refuses what asks for more.
    ///
    /// # Errors
    /// [`PolicyError`]: the first thing that is too much.
    pub fn check(&self, spec: &Spec) -> Result<(), PolicyError> {
        for bound in self.bounds(spec) {
            if bound.asked > bound.most {
                return Err(PolicyError {
                    setting: bound.setting.to_owned(),
                    asked: bound.asked.to_string(),
                    allowed: format!("{} at most", bound.most),
                    rule: format!("policy.{}", bound.setting),
                });
            }
        }
        if spec.sysfs != Sysfs::Absent && !self.sysfs {
            return Err(refused("sysfs", "one", "none", "policy.sysfs"));
        }
        let mut beyond = spec.capabilities.difference(&self.capabilities);
        if let Some(capability) = beyond.next() {
            let asked = capability.to_string();
            let allowed = "others, or none";
            return Err(refused(
                "capabilities",
                &asked,
                allowed,
                "policy.capabilities",
            ));
        }
        let allows = |path: &PathBuf| self.host_paths.iter().any(|tree| path.starts_with(tree));
        for (at, mount) in spec.mounts.iter().enumerate() {
            let is_plain = !mount
                .source
                .components()
                .any(|part| part.as_os_str() == "..");
            if !is_plain || !allows(&mount.source) {
                let setting = format!("mounts.{at}.source");
                let asked = mount.source.display().to_string();
                return Err(refused(
                    &setting,
                    &asked,
                    "other trees, or none",
                    "policy.host_paths",
                ));
            }
        }
        Ok(())
    }

    fn bounds(&self, spec: &Spec) -> impl Iterator<Item = Bound> {
        let policy = self;
        let io_weight = spec.cgroup.io_weight.map(|asked| Bound {
            setting: "cgroup.io_weight",
            asked,
            most: policy.cgroup.io_weight,
        });
        let all = bounds!(spec, policy:
            cgroup.memory_bytes_max,
            cgroup.swap_bytes_max,
            cgroup.tasks_max,
            cgroup.cpu_weight,
            cgroup.cpu_percent_max,
            limits.open_files_max,
            limits.processes_max,
            limits.core_bytes_max,
            limits.locked_bytes_max,
            limits.pending_signals_max,
            limits.message_queue_bytes_max,
            limits.terminals_max,
            limits.inotify_instances_max,
            limits.inotify_watches_max,
            tmpfs.tmp_bytes_max,
            tmpfs.run_bytes_max,
            tmpfs.shm_bytes_max,
            tmpfs.files_max,
        );
        all.into_iter().chain(io_weight)
    }
}

pub(super) fn refused(setting: &str, asked: &str, allowed: &str, rule: &str) -> PolicyError {
    PolicyError {
        setting: setting.to_owned(),
        asked: asked.to_owned(),
        allowed: allowed.to_owned(),
        rule: rule.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use cloison_sandbox::{Access, Mount, SandboxName};

    use super::*;

    fn plain() -> Spec {
        Spec::new(SandboxName::new("a").unwrap(), vec!["/bin/a".to_owned()])
    }

    #[test]
    fn server_that_asks_for_nothing_is_allowed() {
        assert_eq!(Policy::default().check(&plain()), Ok(()));
    }

    #[test]
    fn every_number_of_a_server_is_bounded() {
        // Each number of a spec, found where it is written down: one that is
        // added to a spec and not to the policy is found here.
        let json = serde_json::to_value(plain()).unwrap();
        let mut numbers = BTreeMap::new();
        for group in ["cgroup", "limits", "tmpfs"] {
            for (field, value) in json[group].as_object().unwrap() {
                if let Some(number) = value.as_u64() {
                    numbers.insert(format!("{group}.{field}"), number);
                }
            }
        }
        assert!(numbers.len() >= 18, "{numbers:?}");
        for (setting, number) in numbers {
            let mut more = json.clone();
            let (group, field) = setting.split_once('.').unwrap();
            more[group][field] = (number + 1).into();
            let more: Spec = serde_json::from_value(more).unwrap();
            let refused = Policy::default().check(&more).unwrap_err();
            assert_eq!(refused.setting, setting);
            assert_eq!(refused.rule, format!("policy.{setting}"));
        }
    }

    #[test]
    fn what_reaches_the_host_needs_a_word_of_the_host() {
        let policy = Policy {
            host_paths: vec!["/srv/common".into()],
            ..Policy::default()
        };
        let mount = |source: &str| {
            let mut spec = plain();
            spec.mounts.push(Mount {
                source: source.into(),
                target: "/srv".into(),
                access: Access::ReadOnly,
            });
            policy.check(&spec)
        };
        assert_eq!(mount("/srv/common/a"), Ok(()));
        for path in [
            "/srv",
            "/srv/commons",
            "/srv/common/../secret",
            "/",
            "srv/common",
        ] {
            assert_eq!(
                mount(path).unwrap_err().setting,
                "mounts.0.source",
                "{path}"
            );
        }
        let mut spec = plain();
        spec.sysfs = Sysfs::ReadOnly;
        assert_eq!(policy.check(&spec).unwrap_err().setting, "sysfs");
        let mut spec = plain();
        spec.capabilities.insert(caps::Capability::CAP_CHOWN);
        assert_eq!(policy.check(&spec).unwrap_err().asked, "CAP_CHOWN");
        spec.cgroup.io_weight = Some(101);
        assert_eq!(policy.check(&spec).unwrap_err().setting, "cgroup.io_weight");
    }
}
