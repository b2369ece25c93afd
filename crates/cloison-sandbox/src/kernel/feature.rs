//! Everything that is asked of the kernel, and what to do where it is missing.

use serde::{Serialize, Serializer};

/// What is known of a feature beforehand.
struct Facts {
    name: &'static str,
    since: &'static str,
    option: Option<&'static str>,
    remedy: &'static str,
    lost: Option<&'static str>,
}

macro_rules! features {
    ($(
        $(#[$doc:meta])*
        $feature:ident {
            name: $name:literal,
            since: $since:literal,
            option: $option:expr,
            remedy: $remedy:literal,
            lost: $lost:expr $(,)?
        }
    )*) => {
        /// One thing that a sandbox asks of the kernel.
        ///
        /// Exhaustive on purpose: a new feature does not compile until it has
        /// a remedy, and a test fails until it is probed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Feature { $($(#[$doc])* $feature,)* }

        impl Feature {
            /// Every feature, in the order in which `check` shows them.
            pub const ALL: &'static [Self] = &[$(Self::$feature),*];

            fn facts(self) -> Facts {
                match self {
                    $(Self::$feature => Facts {
                        name: $name,
                        since: $since,
                        option: $option,
                        remedy: $remedy,
                        lost: $lost,
                    },)*
                }
            }
        }
    };
}

features! {
    /// A process made with a descriptor of it (`CLONE_PIDFD` of clone3(2)).
    Clone3 {
        name: "clone3",
        since: "5.3",
        option: None,
        remedy: "boot Linux 6.1 or later, and let the filter around this program allow clone3",
        lost: None,
    }
    /// A signal that cannot reach another process than the one meant
    /// (pidfd_send_signal(2)).
    PidfdSendSignal {
        name: "pidfd-send-signal",
        since: "5.1",
        option: None,
        remedy: "boot Linux 6.1 or later",
        lost: None,
    }
    /// The exit status read from a pidfd (`PIDFD_INFO_EXIT`).
    PidfdExitInfo {
        name: "pidfd-exit-info",
        since: "6.15",
        option: None,
        remedy: "boot Linux 6.15 or later to learn the exit status also where the spawner has died",
        lost: Some("when the spawner dies, the exit status of its running sandboxes is unknown"),
    }
    /// A user namespace whose map the host writes and whose root has power
    /// in it.
    UserNamespace {
        name: "user-namespace",
        since: "3.8",
        option: Some("CONFIG_USER_NS"),
        remedy: "run as root of the host and set the sysctl user.max_user_namespaces above 0",
        lost: None,
    }
    /// Limits on further namespaces, one set for each user namespace
    /// (`/proc/sys/user`).
    NamespaceLimits {
        name: "namespace-limits",
        since: "4.9",
        option: Some("CONFIG_SYSCTL"),
        remedy: "mount /proc with a writable /proc/sys/user where this program runs",
        lost: None,
    }
    /// A mount namespace whose mounts can be made private.
    MountNamespace {
        name: "mount-namespace",
        since: "2.4.19",
        option: Some("CONFIG_NAMESPACES"),
        remedy: "run as root of the host and set the sysctl user.max_mnt_namespaces above 0",
        lost: None,
    }
    /// A pid namespace.
    PidNamespace {
        name: "pid-namespace",
        since: "3.8",
        option: Some("CONFIG_PID_NS"),
        remedy: "run as root of the host and set the sysctl user.max_pid_namespaces above 0",
        lost: None,
    }
    /// A network namespace whose `lo` can be set up.
    NetworkNamespace {
        name: "network-namespace",
        since: "2.6.29",
        option: Some("CONFIG_NET_NS"),
        remedy: "run as root of the host and set the sysctl user.max_net_namespaces above 0",
        lost: None,
    }
    /// An ipc namespace.
    IpcNamespace {
        name: "ipc-namespace",
        since: "2.6.30",
        option: Some("CONFIG_IPC_NS"),
        remedy: "run as root of the host and set the sysctl user.max_ipc_namespaces above 0",
        lost: None,
    }
    /// A uts namespace whose host name can be set.
    UtsNamespace {
        name: "uts-namespace",
        since: "2.6.19",
        option: Some("CONFIG_UTS_NS"),
        remedy: "run as root of the host and set the sysctl user.max_uts_namespaces above 0",
        lost: None,
    }
    /// A cgroup namespace.
    CgroupNamespace {
        name: "cgroup-namespace",
        since: "4.6",
        option: Some("CONFIG_CGROUPS"),
        remedy: "run as root of the host and set the sysctl user.max_cgroup_namespaces above 0",
        lost: None,
    }
    /// A cgroup that can be made, entered, frozen and removed.
    CgroupFreezer {
        name: "cgroup-freezer",
        since: "5.2 (v2), 2.6.28 (v1)",
        option: Some("CONFIG_CGROUPS, and CONFIG_CGROUP_FREEZER for v1"),
        remedy: "mount cgroup2 (or a v1 freezer hierarchy) on /sys/fs/cgroup, writable for root",
        lost: None,
    }
    /// A process born in its cgroup (`CLONE_INTO_CGROUP`).
    CloneIntoCgroup {
        name: "clone-into-cgroup",
        since: "5.7",
        option: Some("CONFIG_CGROUPS"),
        remedy: "boot Linux 6.1 or later, and run where cgroup2 is writable (systemd: Delegate=yes)",
        lost: None,
    }
    /// A limit on the memory of a cgroup.
    MemoryController {
        name: "memory-controller",
        since: "4.5 (v2), 2.6.25 (v1)",
        option: Some("CONFIG_MEMCG"),
        remedy: "boot without cgroup_disable=memory; on v2 run with a delegated cgroup (systemd: Delegate=yes), in a cgroup of its own beneath it",
        lost: None,
    }
    /// A limit on the swap of a cgroup.
    SwapLimit {
        name: "swap-limit",
        since: "4.5 (v2), 2.6.29 (v1)",
        option: Some("CONFIG_MEMCG and CONFIG_SWAP"),
        remedy: "boot with swapaccount=1",
        lost: None,
    }
    /// A limit on the processes and threads of a cgroup.
    PidsController {
        name: "pids-controller",
        since: "4.5 (v2), 4.3 (v1)",
        option: Some("CONFIG_CGROUP_PIDS"),
        remedy: "boot without cgroup_disable=pids; on v2 run with a delegated cgroup (systemd: Delegate=yes), in a cgroup of its own beneath it",
        lost: None,
    }
    /// A share and a quota of the processors for a cgroup.
    CpuController {
        name: "cpu-controller",
        since: "4.15 (v2), 3.2 (v1)",
        option: Some("CONFIG_FAIR_GROUP_SCHED and CONFIG_CFS_BANDWIDTH"),
        remedy: "boot a kernel with CONFIG_CFS_BANDWIDTH; on v2 run with a delegated cgroup (systemd: Delegate=yes), in a cgroup of its own beneath it",
        lost: None,
    }
    /// The processors and memory nodes of a cgroup.
    CpusetController {
        name: "cpuset-controller",
        since: "5.0 (v2), 2.6.24 (v1)",
        option: Some("CONFIG_CPUSETS"),
        remedy: "boot a kernel with CONFIG_CPUSETS, on v2 have cpuset delegated, or leave `cgroup.processors` and `cgroup.memory_nodes` out of the spec",
        lost: Some("a spec that names processors or memory nodes is refused"),
    }
    /// Rates of a cgroup for each block device.
    IoController {
        name: "io-controller",
        since: "4.5 (v2), 2.6.37 (v1)",
        option: Some("CONFIG_BLK_CGROUP and CONFIG_BLK_DEV_THROTTLING"),
        remedy: "boot a kernel with CONFIG_BLK_DEV_THROTTLING, on v2 have io delegated, or leave `cgroup.io` out of the spec",
        lost: Some("a spec that limits I/O is refused"),
    }
    /// A share of each block device for a cgroup.
    IoWeight {
        name: "io-weight",
        since: "5.4 (v2), 5.0 (v1)",
        option: Some("CONFIG_BLK_CGROUP_IOCOST (v2), CONFIG_BFQ_GROUP_IOSCHED (v1)"),
        remedy: "boot a kernel with CONFIG_BLK_CGROUP_IOCOST, or leave `cgroup.io_weight` out of the spec",
        lost: Some("a spec that weighs I/O is refused"),
    }
    /// A say over the devices that processes of a cgroup open.
    DeviceControl {
        name: "device-control",
        since: "4.15 (v2), 2.6.26 (v1)",
        option: Some("CONFIG_CGROUP_BPF (v2), CONFIG_CGROUP_DEVICE (v1)"),
        remedy: "boot a kernel with CONFIG_CGROUP_BPF and run as root of the host, in a cgroup that may open the six usual devices",
        lost: None,
    }
    /// How long processes of a cgroup waited for processor, memory and I/O.
    PressureStall {
        name: "pressure-stall",
        since: "4.20",
        option: Some("CONFIG_PSI"),
        remedy: "boot with psi=1 and a hierarchy of cgroup v2 that has the controllers",
        lost: Some("`inspect` cannot tell how long a server waits for what it lacks"),
    }
    /// A path opened strictly beneath a descriptor (openat2(2)).
    Openat2 {
        name: "openat2",
        since: "5.6",
        option: None,
        remedy: "boot Linux 6.1 or later, and let the filter around this program allow openat2",
        lost: None,
    }
    /// Mounts as descriptors (open_tree(2), move_mount(2), fsopen(2)).
    MountApi {
        name: "mount-api",
        since: "5.2",
        option: None,
        remedy: "boot Linux 6.1 or later and run as root of the host",
        lost: None,
    }
    /// Attributes of a mount changed through its descriptor
    /// (mount_setattr(2)).
    MountSetattr {
        name: "mount-setattr",
        since: "5.12",
        option: None,
        remedy: "boot Linux 6.1 or later and run as root of the host",
        lost: None,
    }
    /// A memory file system with limits.
    Tmpfs {
        name: "tmpfs",
        since: "2.4",
        option: Some("CONFIG_TMPFS"),
        remedy: "boot a kernel with CONFIG_TMPFS and run as root of the host",
        lost: None,
    }
    /// A memory file system that is never written to swap.
    TmpfsNoswap {
        name: "tmpfs-noswap",
        since: "6.4",
        option: Some("CONFIG_TMPFS"),
        remedy: "boot Linux 6.4 or later, or use no swap, or an encrypted one",
        lost: Some("credentials in memory may be written to the host's swap"),
    }
    /// A proc that shows processes and nothing else (`subset=pid`).
    ProcSubset {
        name: "proc-subset",
        since: "5.8",
        option: Some("CONFIG_PROC_FS"),
        remedy: "boot Linux 6.1 or later",
        lost: None,
    }
    /// A sysfs for a network namespace of its own.
    Sysfs {
        name: "sysfs",
        since: "2.6",
        option: Some("CONFIG_SYSFS"),
        remedy: "boot a kernel with CONFIG_SYSFS, or leave `sysfs` out of the spec",
        lost: Some("a spec that asks for a sysfs is refused"),
    }
    /// A devpts of its own.
    Devpts {
        name: "devpts",
        since: "4.7",
        option: Some("CONFIG_UNIX98_PTYS"),
        remedy: "boot a kernel with CONFIG_UNIX98_PTYS",
        lost: None,
    }
    /// Device nodes that can be made and opened.
    DeviceNodes {
        name: "device-nodes",
        since: "2.4",
        option: None,
        remedy: "run with CAP_MKNOD, in a devices cgroup that allows nodes to be made (`c *:* rwm`)",
        lost: None,
    }
    /// The capability sets: bounding dropped, ambient cleared, all others
    /// emptied.
    CapabilitySets {
        name: "capability-sets",
        since: "4.3",
        option: None,
        remedy: "run with CAP_SETPCAP: as root of the host, not in a container",
        lost: None,
    }
    /// Securebits, set and locked.
    Securebits {
        name: "securebits",
        since: "4.3",
        option: None,
        remedy: "run with CAP_SETPCAP, and with no securebit locked by whoever started this program",
        lost: None,
    }
    /// `no_new_privs`.
    NoNewPrivs {
        name: "no-new-privs",
        since: "3.5",
        option: None,
        remedy: "boot Linux 6.1 or later",
        lost: None,
    }
    /// A seccomp program that changes what a call returns.
    SeccompFilter {
        name: "seccomp-filter",
        since: "3.17",
        option: Some("CONFIG_SECCOMP_FILTER"),
        remedy: "boot a kernel with CONFIG_SECCOMP_FILTER",
        lost: None,
    }
    /// Landlock's rules for files, ABI 1.
    LandlockFiles {
        name: "landlock-files",
        since: "5.13",
        option: Some("CONFIG_SECURITY_LANDLOCK"),
        remedy: "boot with `landlock` in the list lsm=, on a kernel with CONFIG_SECURITY_LANDLOCK",
        lost: None,
    }
    /// Landlock's rule for moves between directories, ABI 2.
    LandlockRefer {
        name: "landlock-refer",
        since: "5.19",
        option: Some("CONFIG_SECURITY_LANDLOCK"),
        remedy: "boot Linux 6.1 or later",
        lost: Some("files cannot be moved or linked between directories inside"),
    }
    /// Landlock's rule for truncation, ABI 3.
    LandlockTruncate {
        name: "landlock-truncate",
        since: "6.2",
        option: Some("CONFIG_SECURITY_LANDLOCK"),
        remedy: "boot Linux 6.2 or later",
        lost: Some("Landlock does not stop a file from being truncated: its mount and mode do"),
    }
    /// Landlock's rules for TCP, ABI 4.
    LandlockNetwork {
        name: "landlock-network",
        since: "6.7",
        option: Some("CONFIG_SECURITY_LANDLOCK and CONFIG_INET"),
        remedy: "boot Linux 6.7 or later, or waive landlock-network in host.toml",
        lost: None,
    }
    /// Landlock's rule for ioctls of devices, ABI 5.
    LandlockIoctl {
        name: "landlock-ioctl",
        since: "6.10",
        option: Some("CONFIG_SECURITY_LANDLOCK"),
        remedy: "boot Linux 6.10 or later",
        lost: Some("Landlock does not stop an ioctl on a device: the seccomp program does"),
    }
    /// Landlock's scope of signals and abstract sockets, ABI 6.
    LandlockScope {
        name: "landlock-scope",
        since: "6.12",
        option: Some("CONFIG_SECURITY_LANDLOCK"),
        remedy: "boot Linux 6.12 or later, or waive landlock-scope in host.toml",
        lost: None,
    }
    /// Resource limits, set.
    ResourceLimits {
        name: "resource-limits",
        since: "2.6.36",
        option: None,
        remedy: "let the filter around this program allow prlimit64",
        lost: None,
    }
    /// A session keyring of its own.
    SessionKeyring {
        name: "session-keyring",
        since: "2.6.10",
        option: Some("CONFIG_KEYS"),
        remedy: "boot a kernel with CONFIG_KEYS, and let the filter around this program allow keyctl",
        lost: None,
    }
    /// A new session (setsid(2)).
    Session {
        name: "session",
        since: "2.0",
        option: None,
        remedy: "let the filter around this program allow setsid",
        lost: None,
    }
    /// Nice value, scheduler, I/O priority, memory policy, personality and
    /// signals set back to their defaults.
    ProcessReset {
        name: "process-reset",
        since: "2.6.13",
        option: Some("CONFIG_BLOCK and CONFIG_NUMA"),
        remedy: "run with CAP_SYS_NICE, on a kernel with CONFIG_BLOCK and CONFIG_NUMA",
        lost: None,
    }
    /// All descriptors from one on closed at once (close_range(2)).
    CloseRange {
        name: "close-range",
        since: "5.9",
        option: None,
        remedy: "boot Linux 6.1 or later, and let the filter around this program allow close_range",
        lost: None,
    }
    /// A sealed file without a name, executed by its descriptor
    /// (memfd_create(2), execveat(2)).
    MemfdExecution {
        name: "memfd-execution",
        since: "3.19",
        option: Some("CONFIG_MEMFD_CREATE"),
        remedy: "boot a kernel with CONFIG_MEMFD_CREATE and set the sysctl vm.memfd_noexec to 0",
        lost: None,
    }
    /// A core scheduling cookie (`PR_SCHED_CORE`).
    CoreScheduling {
        name: "core-scheduling",
        since: "5.14",
        option: Some("CONFIG_SCHED_CORE"),
        remedy: "boot with nosmt, or a kernel with CONFIG_SCHED_CORE, or waive core-scheduling in host.toml",
        lost: None,
    }
    /// Speculative store bypass, disabled for a process.
    StoreBypassControl {
        name: "store-bypass-control",
        since: "4.17",
        option: None,
        remedy: "boot with spec_store_bypass_disable=prctl (a virtual machine: with `ssbd` in its processor model), or waive speculation-control in host.toml",
        lost: None,
    }
    /// Indirect branch speculation, restricted for a process.
    IndirectBranchControl {
        name: "indirect-branch-control",
        since: "4.20",
        option: None,
        remedy: "boot with spectre_v2_user=prctl (a guest: ibpb and stibp in its processor), or waive speculation-control in host.toml",
        lost: None,
    }
}

impl Feature {
    /// The name that output and reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The Linux version that brought it: for people, never for a decision.
    #[must_use]
    pub fn since(self) -> &'static str {
        self.facts().since
    }

    /// The kernel's build options that it needs.
    #[must_use]
    pub fn option(self) -> Option<&'static str> {
        self.facts().option
    }

    /// What an operator can do where it is missing.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.facts().remedy
    }

    /// What is lost without it, when it is optional; `None` when a layer
    /// requires it.
    #[must_use]
    pub fn lost_without(self) -> Option<&'static str> {
        self.facts().lost
    }
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Feature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
