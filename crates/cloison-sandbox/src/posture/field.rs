//! The fields of a posture.

use serde::Serialize;

use super::Knowledge;
use super::knowledge::Reason;
use crate::Layer;

/// How each kind of field comes to be known when all goes well.
const READ: Knowledge = Knowledge::Read;
const SELF: Knowledge = Knowledge::SelfReported;
const NONE: Knowledge = Knowledge::Unreadable(Reason::NoInterface);
const PLAN: Knowledge = Knowledge::Unreadable(Reason::PlanRefuses);

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $layer:ident, $known:ident, $name:literal;)*) => {
        /// One thing that is known of a process, or cannot be known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Field { $($(#[$doc])* $field,)* }

        impl Field {
            /// Every field, in the order of the layers.
            pub const ALL: &'static [Self] = &[$(Self::$field,)*];

            /// The layer that it tells of.
            #[must_use]
            pub fn layer(self) -> Layer {
                match self { $(Self::$field => Layer::$layer,)* }
            }

            /// The name that output uses.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$field => $name,)* }
            }

            /// How it is known of a held sandbox.
            #[must_use]
            pub fn knowledge(self) -> Knowledge {
                match self { $(Self::$field => $known,)* }
            }
        }
    };
}

fields! {
    /// Its cgroup in each hierarchy.
    Cgroups = Cgroup, READ, "cgroups";
    /// The most memory of all its processes, in bytes.
    MemoryMax = CgroupLimits, READ, "memory max";
    /// The most swap of them, in bytes.
    SwapMax = CgroupLimits, READ, "swap max";
    /// The most processes and threads.
    TasksMax = CgroupLimits, READ, "tasks max";
    /// Its share of the processors: the weight of version 2, or the shares of
    /// version 1.
    CpuWeight = CgroupLimits, READ, "cpu weight";
    /// Its quota of the processors' time, and of which time that is.
    CpuQuota = CgroupLimits, READ, "cpu quota";
    /// The processors that its cgroup is bound to. Those that a process may
    /// then use are [`Field::Affinity`].
    CgroupProcessors = CgroupLimits, READ, "cgroup processors";
    /// The memory nodes that its cgroup is bound to.
    CgroupMemoryNodes = CgroupLimits, READ, "cgroup memory nodes";
    /// Its weight, where it is not everybody's, and its rates for each block
    /// device.
    IoLimits = CgroupLimits, READ, "io limits";
    /// The devices that may be opened: the list of version 1, or the programs
    /// of version 2.
    DevicesAllowed = DeviceControl, READ, "devices allowed";
    /// The id of its network namespace.
    NetworkNamespace = NetworkNamespace, READ, "network namespace";
    /// The id of the user namespace that owns its network namespace.
    NetworkNamespaceOwner = NetworkNamespace, READ, "owner of network namespace";
    /// Sockets of another network namespace among its descriptors. A plan
    /// refuses one that is handed in, and [`Field::Descriptors`] shows that
    /// no other is there. It is not read back: to take a descriptor out of
    /// another process (pidfd_getfd(2)) is to trace it, which a host may
    /// forbid also to its root.
    ForeignSockets = NetworkNamespace, PLAN, "foreign sockets";
    /// The id of its user namespace.
    UserNamespace = UserNamespace, READ, "user namespace";
    /// The user ids of its user namespace.
    UidMap = UserNamespace, READ, "uid map";
    /// The group ids of its user namespace.
    GidMap = UserNamespace, READ, "gid map";
    /// Real, effective, saved and file system user id, as the host sees them.
    UserIds = UserNamespace, READ, "user ids";
    /// The same of the group.
    GroupIds = UserNamespace, READ, "group ids";
    /// Supplementary groups.
    Groups = UserNamespace, READ, "groups";
    /// How many user, network, pid and time namespaces it may make.
    NestedNamespaces = UserNamespace, SELF, "nested namespaces";
    /// Whose its mount namespace is.
    MountNamespace = MountNamespace, READ, "mount namespace";
    /// The id of the user namespace that owns its mount namespace: in one of
    /// its own, what the host attached is locked.
    MountNamespaceOwner = MountNamespace, READ, "owner of mount namespace";
    /// Every mount that it sees.
    Mounts = MountNamespace, READ, "mounts";
    /// The ranges of ids, the host's own aside, that its root and the entries of
    /// it carry: of a tree that is id-mapped, the sandbox's.
    RootIds = MountNamespace, READ, "ids of the root";
    /// Whose its pid namespace is.
    PidNamespace = PidNamespace, READ, "pid namespace";
    /// The id of the user namespace that owns its pid namespace.
    PidNamespaceOwner = PidNamespace, READ, "owner of pid namespace";
    /// Its number in the innermost pid namespace.
    InnerPid = PidNamespace, READ, "pid inside";
    /// Whose its ipc namespace is.
    IpcNamespace = IpcNamespace, READ, "ipc namespace";
    /// Whose its uts namespace is.
    UtsNamespace = UtsNamespace, READ, "uts namespace";
    /// Whose its cgroup namespace is.
    CgroupNamespace = CgroupNamespace, READ, "cgroup namespace";
    /// Where a proc is mounted, and its own options.
    ProcOptions = Proc, READ, "proc";
    /// What stands over the entries of a proc: entry, and file or directory of
    /// the file system that covers it. [`Field::Mounts`] shows of which.
    ProcCovers = Proc, READ, "proc covers";
    /// Where a sysfs is mounted, and its own options.
    SysfsOptions = Sysfs, READ, "sysfs";
    /// The device nodes in its `/dev`.
    DeviceNodes = Devices, READ, "device nodes";
    /// Where a devpts is mounted, and its own options.
    DevptsOptions = Devpts, READ, "devpts";
    /// The inheritable set.
    Inheritable = Capabilities, READ, "inheritable";
    /// The permitted set.
    Permitted = Capabilities, READ, "permitted";
    /// The effective set.
    Effective = Capabilities, READ, "effective";
    /// The bounding set.
    Bounding = Capabilities, READ, "bounding";
    /// The ambient set.
    Ambient = Capabilities, READ, "ambient";
    /// Securebits.
    Securebits = Securebits, SELF, "securebits";
    /// `no_new_privs`.
    NoNewPrivs = NoNewPrivs, READ, "no new privs";
    /// The mode of seccomp: 2 is a filter.
    SeccompMode = Seccomp, READ, "seccomp mode";
    /// How many filters are on.
    SeccompFilters = Seccomp, READ, "seccomp filters";
    /// What making a device node in `/tmp` gave: Landlock answers `EACCES`
    /// before the kernel misses the capability.
    MakeNode = LandlockFiles, SELF, "making a device node";
    /// What binding a TCP port gave.
    BindTcp = LandlockNetwork, SELF, "binding a TCP port";
    /// What connecting to an abstract socket from before gave.
    ConnectAbstract = LandlockScope, SELF, "reaching an abstract socket";
    /// Whether signals are scoped. No call tells; probe B01 stands in.
    SignalScope = LandlockScope, NONE, "signal scope";
    /// Resource limits.
    Limits = Rlimits, READ, "limits";
    /// Whose its session keyring is.
    SessionKeyring = SessionKeyring, SELF, "session keyring";
    /// Its session, in the innermost pid namespace.
    InnerSession = Session, READ, "session inside";
    /// The device number of its terminal, or 0.
    Terminal = Session, READ, "terminal";
    /// Blocked signals.
    SignalsBlocked = InheritedState, READ, "signals blocked";
    /// Ignored signals.
    SignalsIgnored = InheritedState, READ, "signals ignored";
    /// The umask.
    Umask = InheritedState, READ, "umask";
    /// Nice value.
    Nice = InheritedState, READ, "nice";
    /// Scheduling policy.
    SchedulerPolicy = InheritedState, READ, "scheduler policy";
    /// Processors it may run on.
    Affinity = InheritedState, READ, "affinity";
    /// The execution domain.
    Personality = InheritedState, READ, "personality";
    /// Adjustment of the OOM killer's score.
    OomScoreAdjustment = InheritedState, READ, "oom score adjustment";
    /// How many threads it has.
    Threads = InheritedState, READ, "threads";
    /// Whose its time namespace is.
    TimeNamespace = InheritedState, READ, "time namespace";
    /// The mode of its memory policy.
    MemoryPolicy = InheritedState, SELF, "memory policy";
    /// Its I/O priority.
    IoPriority = InheritedState, SELF, "io priority";
    /// Its parent-death signal.
    DeathSignal = InheritedState, SELF, "parent-death signal";
    /// Whether it is a subreaper.
    Subreaper = InheritedState, SELF, "subreaper";
    /// Its descriptors, and what each leads to.
    Descriptors = Descriptors, READ, "descriptors";
    /// `PR_GET_DUMPABLE`.
    Dumpable = NotDumpable, SELF, "dumpable";
    /// The owner of its files in `/proc`: the host's root while it is not
    /// dumpable.
    ProcOwner = NotDumpable, READ, "owner of its proc files";
    /// Whose its core scheduling cookie is.
    CoreCookie = CoreScheduling, SELF, "core cookie";
    /// Speculative store bypass, in the kernel's words.
    StoreBypass = SpeculationControl, READ, "store bypass";
    /// Speculation of indirect branches, in the kernel's words.
    IndirectBranch = SpeculationControl, READ, "indirect branch";
    /// What `PR_GET_SPECULATION_CTRL` says of store bypass.
    StoreBypassControl = SpeculationControl, SELF, "store bypass control";
    /// What it says of indirect branches.
    IndirectBranchControl = SpeculationControl, SELF, "indirect branch control";
}

impl Field {
    /// The fields that tell of `layer`: at least one each.
    #[must_use]
    pub fn of(layer: Layer) -> &'static [Self] {
        // No wildcard: a new layer does not compile without its read-back.
        match layer {
            Layer::Cgroup => &[Self::Cgroups],
            Layer::CgroupLimits => &[
                Self::MemoryMax,
                Self::SwapMax,
                Self::TasksMax,
                Self::CpuWeight,
                Self::CpuQuota,
                Self::CgroupProcessors,
                Self::CgroupMemoryNodes,
                Self::IoLimits,
            ],
            Layer::DeviceControl => &[Self::DevicesAllowed],
            Layer::NetworkNamespace => &[
                Self::NetworkNamespace,
                Self::NetworkNamespaceOwner,
                Self::ForeignSockets,
            ],
            Layer::UserNamespace => &[
                Self::UserNamespace,
                Self::UidMap,
                Self::GidMap,
                Self::UserIds,
                Self::GroupIds,
                Self::Groups,
                Self::NestedNamespaces,
            ],
            Layer::MountNamespace => &[
                Self::MountNamespace,
                Self::MountNamespaceOwner,
                Self::Mounts,
                Self::RootIds,
            ],
            Layer::PidNamespace => &[Self::PidNamespace, Self::PidNamespaceOwner, Self::InnerPid],
            Layer::IpcNamespace => &[Self::IpcNamespace],
            Layer::UtsNamespace => &[Self::UtsNamespace],
            Layer::CgroupNamespace => &[Self::CgroupNamespace],
            Layer::Proc => &[Self::ProcOptions, Self::ProcCovers],
            Layer::Sysfs => &[Self::SysfsOptions],
            Layer::Devices => &[Self::DeviceNodes],
            Layer::Devpts => &[Self::DevptsOptions],
            Layer::Capabilities => &[
                Self::Inheritable,
                Self::Permitted,
                Self::Effective,
                Self::Bounding,
                Self::Ambient,
            ],
            Layer::Securebits => &[Self::Securebits],
            Layer::NoNewPrivs => &[Self::NoNewPrivs],
            Layer::Seccomp => &[Self::SeccompMode, Self::SeccompFilters],
            Layer::LandlockFiles => &[Self::MakeNode],
            Layer::LandlockNetwork => &[Self::BindTcp],
            Layer::LandlockScope => &[Self::ConnectAbstract, Self::SignalScope],
            Layer::Rlimits => &[Self::Limits],
            Layer::SessionKeyring => &[Self::SessionKeyring],
            Layer::Session => &[Self::InnerSession, Self::Terminal],
            Layer::InheritedState => &[
                Self::SignalsBlocked,
                Self::SignalsIgnored,
                Self::Umask,
                Self::Nice,
                Self::SchedulerPolicy,
                Self::Affinity,
                Self::Personality,
                Self::OomScoreAdjustment,
                Self::Threads,
                Self::TimeNamespace,
                Self::MemoryPolicy,
                Self::IoPriority,
                Self::DeathSignal,
                Self::Subreaper,
            ],
            Layer::Descriptors => &[Self::Descriptors],
            Layer::NotDumpable => &[Self::Dumpable, Self::ProcOwner],
            Layer::CoreScheduling => &[Self::CoreCookie],
            Layer::SpeculationControl => &[
                Self::StoreBypass,
                Self::IndirectBranch,
                Self::StoreBypassControl,
                Self::IndirectBranchControl,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_belongs_to_one_layer() {
        let by_layer: Vec<Field> = Layer::ALL
            .iter()
            .flat_map(|layer| Field::of(*layer))
            .copied()
            .collect();
        assert_eq!(by_layer, Field::ALL);
        for layer in Layer::ALL {
            assert!(!Field::of(layer).is_empty(), "{layer}");
            assert!(Field::of(layer).iter().all(|field| field.layer() == layer));
        }
    }
}
