//! The layers: the shared tongue of spec, plan, check, posture and proof.

use serde::{Deserialize, Serialize};

/// One defence of a sandbox.
///
/// Exhaustive on purpose: a new layer does not compile until it is required,
/// planned, read back and attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u16)]
pub enum Layer {
    /// A cgroup of its own in every mounted hierarchy.
    Cgroup = 1,
    /// Limits of its cgroup on memory, swap, tasks and processors, and on what
    /// else the spec names.
    CgroupLimits,
    /// No device opens or is made but those that it has of its own.
    DeviceControl,
    /// A network namespace that the host owns, empty but for `lo`.
    NetworkNamespace,
    /// A user namespace of the host's making, with one range of ids and no
    /// right to make further user, network, pid or time namespaces.
    UserNamespace,
    /// Its own mount namespace, whose mounts were attached by the host and
    /// are therefore locked, under a pivoted root.
    MountNamespace,
    /// A pid namespace that the host owns.
    PidNamespace,
    /// An ipc namespace of its own.
    IpcNamespace,
    /// A uts namespace of its own.
    UtsNamespace,
    /// A cgroup namespace whose root is the sandbox's own cgroup.
    CgroupNamespace,
    /// A proc of its own that shows processes of the sandbox and nothing of
    /// the kernel.
    Proc,
    /// No sysfs, or a read-only one that shows its own network.
    Sysfs,
    /// Device nodes of its own, six of them.
    Devices,
    /// A devpts of its own.
    Devpts,
    /// No capability that the spec does not name, in any of the five sets.
    Capabilities,
    /// Securebits, locked.
    Securebits,
    /// `no_new_privs`.
    NoNewPrivs,
    /// The seccomp program.
    Seccomp,
    /// Landlock's rules for files.
    LandlockFiles,
    /// Landlock's rules for TCP.
    LandlockNetwork,
    /// Landlock's scope: signals and abstract sockets.
    LandlockScope,
    /// Resource limits of the process.
    Rlimits,
    /// A session keyring of its own.
    SessionKeyring,
    /// A session of its own, and no terminal of the caller.
    Session,
    /// What a process inherits is set back: signals, umask, nice, scheduler,
    /// affinity, memory policy, personality, oom score.
    InheritedState,
    /// No descriptor but those the plan names.
    Descriptors,
    /// Programs of ours cannot be read, traced or overwritten from inside.
    NotDumpable,
    /// No sibling thread of a core runs another sandbox.
    CoreScheduling,
    /// Speculative store bypass and indirect branches are restricted.
    SpeculationControl,
}

impl Layer {
    /// Every layer, in the order in which the child applies them.
    pub const ALL: [Self; 29] = [
        Self::Cgroup,
        Self::CgroupLimits,
        Self::DeviceControl,
        Self::NetworkNamespace,
        Self::UserNamespace,
        Self::MountNamespace,
        Self::PidNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::Proc,
        Self::Sysfs,
        Self::Devices,
        Self::Devpts,
        Self::Capabilities,
        Self::Securebits,
        Self::NoNewPrivs,
        Self::Seccomp,
        Self::LandlockFiles,
        Self::LandlockNetwork,
        Self::LandlockScope,
        Self::Rlimits,
        Self::SessionKeyring,
        Self::Session,
        Self::InheritedState,
        Self::Descriptors,
        Self::NotDumpable,
        Self::CoreScheduling,
        Self::SpeculationControl,
    ];

    /// The name that settings, output and reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::CgroupLimits => "cgroup-limits",
            Self::DeviceControl => "device-control",
            Self::NetworkNamespace => "network-namespace",
            Self::UserNamespace => "user-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::Proc => "proc",
            Self::Sysfs => "sysfs",
            Self::Devices => "devices",
            Self::Devpts => "devpts",
            Self::Capabilities => "capabilities",
            Self::Securebits => "securebits",
            Self::NoNewPrivs => "no-new-privs",
            Self::Seccomp => "seccomp",
            Self::LandlockFiles => "landlock-files",
            Self::LandlockNetwork => "landlock-network",
            Self::LandlockScope => "landlock-scope",
            Self::Rlimits => "rlimits",
            Self::SessionKeyring => "session-keyring",
            Self::Session => "session",
            Self::InheritedState => "inherited-state",
            Self::Descriptors => "descriptors",
            Self::NotDumpable => "not-dumpable",
            Self::CoreScheduling => "core-scheduling",
            Self::SpeculationControl => "speculation-control",
        }
    }

    /// Whether `host.toml` may let a host go without this layer.
    #[must_use]
    pub fn is_waivable(self) -> bool {
        matches!(
            self,
            Self::LandlockNetwork
                | Self::LandlockScope
                | Self::CoreScheduling
                | Self::SpeculationControl
        )
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Layer;

    #[test]
    fn all_names_every_layer_once_in_order() {
        for (position, layer) in Layer::ALL.iter().enumerate() {
            assert_eq!(*layer as usize, position + 1, "{layer}");
        }
    }
}
