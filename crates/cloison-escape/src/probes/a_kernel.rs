//! A: mounts of one's own, device nodes, and files of the kernel.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Trace, Ways};

/// Mount a second proc, sysfs and others, past every mask.
pub(super) const A04: Probe = Probe {
    id: "a04",
    title: "mount a second proc, sysfs and others, past every mask",
    reference: "mount(2), fsopen(2)",
    layers: &[
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
    ],
    control: Control {
        without: &[
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the mounts of the attempt in /proc",
        &[
            ("mount-proc", Trace::Mounted("proc")),
            ("fsmount-proc", Trace::Mounted("proc")),
            ("mount-sysfs", Trace::Mounted("sysfs")),
            ("fsmount-sysfs", Trace::Mounted("sysfs")),
            ("mount-tmpfs", Trace::Mounted("tmpfs")),
            ("fsmount-tmpfs", Trace::Mounted("tmpfs")),
            ("mount-devpts", Trace::Mounted("devpts")),
            ("fsmount-devpts", Trace::Mounted("devpts")),
            ("mount-mqueue", Trace::Mounted("mqueue")),
            ("fsmount-mqueue", Trace::Mounted("mqueue")),
            ("mount-cgroup2", Trace::Mounted("cgroup2")),
            ("fsmount-cgroup2", Trace::Mounted("cgroup2")),
        ],
    ),
    unseen: &[],
    silent: &[],
};

/// Make a device node and open it.
pub(super) const A06: Probe = Probe {
    id: "a06",
    title: "make a device node and open it",
    reference: "mknod(2)",
    layers: &[
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
    ],
    control: Control {
        without: &[
            Layer::DeviceControl,
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the nodes in the sandbox, the attempt's descriptors in /proc",
        &[
            ("character", Trace::Node("/tmp/node-character", 0x103)),
            ("character-at", Trace::Node("/tmp/node-character-at", 0x103)),
            (
                "character-high-half",
                Trace::Node("/tmp/node-character-high-half", 0x103),
            ),
            ("block", Trace::Node("/tmp/node-block", 0x103)),
            ("block-at", Trace::Node("/tmp/node-block-at", 0x103)),
            (
                "block-high-half",
                Trace::Node("/tmp/node-block-high-half", 0x103),
            ),
            ("open", Trace::Descriptor("/tmp/node-open")),
        ],
    ),
    unseen: &[],
    silent: &[],
};

/// Mount an overlay, make a whiteout.
pub(super) const A19: Probe = Probe {
    id: "a19",
    title: "mount an overlay, make a whiteout",
    reference: "CVE-2023-0386",
    layers: &[Layer::Capabilities, Layer::Seccomp, Layer::LandlockFiles],
    control: Control {
        without: &[
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
        ],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["whiteout-by-rename"],
        reason: "a rename that leaves a whiteout asks no capability, and this kernel's Landlock does not take it for the making of a node",
    }],
    canary: Canary::Traces(
        "the mounts of the attempt in /proc, the nodes in the sandbox",
        &[
            ("overlay", Trace::Mounted("overlay")),
            (
                "whiteout-by-mknod",
                Trace::Node("/tmp/scratch/whiteout-by-mknod", 0),
            ),
            (
                "whiteout-by-rename",
                Trace::Node("/tmp/scratch/whiteout-by-rename", 0),
            ),
            (
                "whiteout-by-rename-high-half",
                Trace::Node("/tmp/scratch/whiteout-by-rename-high-half", 0),
            ),
        ],
    ),
    unseen: &[],
    silent: &[],
};

/// Watch a file system, reach for the machine's swap and accounting.
pub(super) const A21: Probe = Probe {
    id: "a21",
    title: "watch a file system, reach for the machine's swap and accounting",
    reference: "fanotify(7), swapon(2), acct(2)",
    layers: &[Layer::UserNamespace, Layer::Capabilities, Layer::Seccomp],
    control: Control {
        without: &[
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
        ],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["name_to_handle_at"],
        reason: "telling the handle of a file that one sees asks no right; opening by one does",
    }],
    canary: Canary::Traces(
        "the attempt's descriptors, and what /proc tells of them",
        &[
            ("fanotify_init", Trace::Descriptor("anon_inode:[fanotify]")),
            ("fanotify-file-system", Trace::Told("fanotify sdev:")),
            ("fanotify-mount", Trace::Told("fanotify mnt_id:")),
        ],
    ),
    unseen: &[Ways {
        names: &["swapon", "swapoff", "acct", "name_to_handle_at"],
        reason: "they are made to fail behind the check, or only tell: the answer of the call is all there is",
    }],
    silent: &[],
};

/// Register a handler of programs.
pub(super) const A25: Probe = Probe {
    id: "a25",
    title: "register a handler of programs",
    reference: "binfmt_misc",
    layers: &[Layer::Capabilities, Layer::Seccomp, Layer::LandlockFiles],
    control: Control {
        without: &[
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the mounts of the attempt in /proc, the entry in the file system",
        &[
            ("mount", Trace::Mounted("binfmt_misc")),
            ("register", Trace::File("/tmp/scratch/over/cloison")),
        ],
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["mount", "register"],
            reason: "a user namespace has no binfmt_misc of its own",
        },
        on: Machines::Before(6, 7),
    }],
};

/// Write a setting of the kernel.
pub(super) const A26: Probe = Probe {
    id: "a26",
    title: "write a setting of the kernel",
    reference: "CVE-2022-0811",
    layers: &[Layer::Proc, Layer::UserNamespace],
    control: Control {
        without: &[Layer::Proc, Layer::UserNamespace],
    },
    only: &[],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc, and how they are open",
        &[
            (
                "kernel/panic_on_oops",
                Trace::Written("/sys/kernel/panic_on_oops"),
            ),
            (
                "kernel/core_uses_pid",
                Trace::Written("/sys/kernel/core_uses_pid"),
            ),
            ("vm/swappiness", Trace::Written("/sys/vm/swappiness")),
            (
                "fs/protected_hardlinks",
                Trace::Written("/sys/fs/protected_hardlinks"),
            ),
            (
                "kernel/core_pattern",
                Trace::Written("/sys/kernel/core_pattern"),
            ),
            ("kernel/modprobe", Trace::Written("/sys/kernel/modprobe")),
        ],
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["kernel/modprobe"],
            reason: "a kernel built without modules has no such setting",
        },
        on: Machines::Some,
    }],
};

/// Read the kernel's addresses and log.
pub(super) const A28: Probe = Probe {
    id: "a28",
    title: "read the kernel's addresses and log",
    reference: "proc(5), syslog(2)",
    layers: &[Layer::Proc, Layer::UserNamespace, Layer::Capabilities],
    control: Control {
        without: &[
            Layer::Proc,
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the same files, read outside; the attempt's descriptors",
        &[
            ("kallsyms", Trace::Beginning("kallsyms")),
            ("vmallocinfo", Trace::Beginning("vmallocinfo")),
            ("slabinfo", Trace::Beginning("slabinfo")),
            ("timer_list", Trace::Beginning("timer_list")),
            ("kpagecount", Trace::Beginning("kpagecount")),
            ("iomem", Trace::Beginning("iomem")),
            ("kmsg", Trace::Descriptor("/proc/kmsg")),
        ],
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["kallsyms"],
            reason: "it begins with the symbols of each processor, at address 0",
        },
        on: Machines::Before(6, 15),
    }],
};

/// Open what acts on the machine when it is written.
pub(super) const A29: Probe = Probe {
    id: "a29",
    title: "open what acts on the machine when it is written",
    reference: "proc(5)",
    layers: &[Layer::Proc, Layer::UserNamespace, Layer::Capabilities],
    control: Control {
        without: &[
            Layer::Proc,
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc, and how they are open",
        &[
            ("sysrq-trigger", Trace::Written("/sysrq-trigger")),
            (
                "irq/default_smp_affinity",
                Trace::Written("/irq/default_smp_affinity"),
            ),
            ("mtrr", Trace::Written("/mtrr")),
            ("sys/vm/drop_caches", Trace::Written("/sys/vm/drop_caches")),
        ],
    ),
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &["sysrq-trigger"],
                reason: "a kernel built without CONFIG_MAGIC_SYSRQ has no such file",
            },
            on: Machines::Some,
        },
        Silent {
            ways: Ways {
                names: &["mtrr"],
                reason: "a machine may have no such registers, and then no such file",
            },
            on: Machines::Some,
        },
    ],
};
