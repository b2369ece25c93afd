//! C: calls of the kernel that no program needs.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Trace, Ways};

/// Load a program into the kernel.
pub(super) const C01: Probe = Probe {
    id: "c01",
    title: "load a program into the kernel",
    reference: "bpf(2)",
    layers: &[Layer::UserNamespace, Layer::Capabilities, Layer::Seccomp],
    control: Control {
        without: &[
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
        ],
    },
    only: &[],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc",
        &[
            ("map", Trace::Descriptor("anon_inode:bpf-map")),
            ("program", Trace::Descriptor("anon_inode:bpf-prog")),
        ],
    ),
    unseen: &[Ways {
        names: &["next-id"],
        reason: "it only asks: the answer of the call is all there is",
    }],
    silent: &[],
};

/// Count events of the kernel and the processor.
pub(super) const C02: Probe = Probe {
    id: "c02",
    title: "count events of the kernel and the processor",
    reference: "perf_event_open(2)",
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
        ways: &["own"],
        reason: "counting oneself is open to everybody where kernel.perf_event_paranoid is below 3, and that is the whole host's",
    }],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc",
        &[
            ("own", Trace::Descriptor("anon_inode:[perf_event]")),
            ("kernel", Trace::Descriptor("anon_inode:[perf_event]")),
            ("processor", Trace::Descriptor("anon_inode:[perf_event]")),
        ],
    ),
    unseen: &[],
    silent: &[],
};

/// Ask for odd memory.
pub(super) const C03: Probe = Probe {
    id: "c03",
    title: "ask for odd memory",
    reference: "userfaultfd(2), memfd_secret(2)",
    layers: &[Layer::Seccomp, Layer::Capabilities, Layer::UserNamespace],
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
        ways: &[
            "userfaultfd",
            "memfd_secret",
            "remap_file_pages",
            "vmsplice",
        ],
        reason: "they act on one's own memory, which asks no right that another layer could take away",
    }],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc",
        &[
            ("userfaultfd", Trace::Descriptor("anon_inode:[userfaultfd]")),
            (
                "userfaultfd-kernel",
                Trace::Descriptor("anon_inode:[userfaultfd]"),
            ),
            ("memfd_secret", Trace::Descriptor("/secretmem")),
        ],
    ),
    unseen: &[Ways {
        names: &["remap_file_pages", "vmsplice"],
        reason: "named no memory and no descriptor: the answer of the call is all there is",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["memfd_secret"],
            reason: "it must be asked for on the kernel's command line",
        },
        on: Machines::Before(6, 5),
    }],
};

/// Take mounts apart by the newer calls.
pub(super) const C07: Probe = Probe {
    id: "c07",
    title: "take mounts apart by the newer calls",
    reference: "CVE-2022-0185",
    layers: &[Layer::Capabilities, Layer::Seccomp],
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
        ways: &["statmount", "listmount"],
        reason: "they tell of one's own mounts what /proc/self/mountinfo tells, and ask no right",
    }],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc",
        &[
            ("fsopen", Trace::Descriptor("anon_inode:[fscontext]")),
            ("fspick", Trace::Descriptor("anon_inode:[fscontext]")),
        ],
    ),
    unseen: &[Ways {
        names: &["open_tree", "mount_setattr", "statmount", "listmount"],
        reason: "a detached mount stands in no table, and the others are made to fail behind the check: the answer of the call is all there is",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["statmount", "listmount"],
            reason: "the kernel has not these calls",
        },
        on: Machines::Before(6, 8),
    }],
};

/// Open a socket of a family that no program needs.
pub(super) const C08: Probe = Probe {
    id: "c08",
    title: "open a socket of a family that no program needs",
    reference: "vsock(7), packet(7), CVE-2015-3636",
    layers: &[Layer::Seccomp, Layer::Capabilities, Layer::UserNamespace],
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
        ways: &["vsock", "multipath-tcp", "netfilter", "generic-netlink"],
        reason: "a socket of these asks no capability and no Landlock right, and AF_VSOCK knows no network namespace",
    }],
    canary: Canary::Traces(
        "the attempt's descriptors in /proc",
        &[
            ("vsock", Trace::Descriptor("socket:[")),
            ("vsock-high-half", Trace::Descriptor("socket:[")),
            ("packet", Trace::Descriptor("socket:[")),
            ("packet-high-half", Trace::Descriptor("socket:[")),
            ("xdp", Trace::Descriptor("socket:[")),
            ("raw", Trace::Descriptor("socket:[")),
            ("multipath-tcp", Trace::Descriptor("socket:[")),
            ("multipath-tcp-high-half", Trace::Descriptor("socket:[")),
            ("netfilter", Trace::Descriptor("socket:[")),
            ("generic-netlink", Trace::Descriptor("socket:[")),
            ("algorithms", Trace::Descriptor("socket:[")),
            ("can", Trace::Descriptor("socket:[")),
            ("tipc", Trace::Descriptor("socket:[")),
            ("sctp", Trace::Descriptor("socket:[")),
        ],
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &[
                "algorithms",
                "can",
                "tipc",
                "sctp",
                "xdp",
                "vsock",
                "vsock-high-half",
            ],
            reason: "a kernel may be built without these families",
        },
        on: Machines::Some,
    }],
};

/// Ask for the blocks of a file, make it immutable.
pub(super) const C11: Probe = Probe {
    id: "c11",
    title: "ask for the blocks of a file, make it immutable",
    reference: "ioctl_fat(2), ioctl_iflags(2)",
    layers: &[Layer::UserNamespace, Layer::Capabilities],
    control: Control {
        without: &[Layer::UserNamespace, Layer::Capabilities, Layer::Securebits],
    },
    only: &[],
    canary: Canary::Unseen(
        "the file is the sandbox's own and goes away with it; the answer of the call is all there is",
    ),
    unseen: &[],
    silent: &[],
};

/// Read the kernel's log and tables.
pub(super) const C14: Probe = Probe {
    id: "c14",
    title: "read the kernel's log and tables",
    reference: "syslog(2)",
    layers: &[Layer::Seccomp, Layer::Capabilities, Layer::UserNamespace],
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
        ways: &["sysfs", "ustat", "lsm_list_modules"],
        reason: "they tell of the kernel's build to everybody, and ask no right",
    }],
    canary: Canary::Unseen(
        "only sizes and counts are asked for: the answer of the call is all there is",
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["lsm_list_modules"],
            reason: "the kernel has not this call",
        },
        on: Machines::Before(6, 8),
    }],
};

/// Change the memory map and the calls of a process by prctl.
pub(super) const C15: Probe = Probe {
    id: "c15",
    title: "change the memory map and the calls of a process by prctl",
    reference: "prctl(2)",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["memory-map", "call-dispatch", "filter"],
        reason: "they act on the process itself, which asks no right that another layer could take away",
    }],
    canary: Canary::Unseen(
        "each is asked for without effect: the answer of the call is all there is",
    ),
    unseen: &[],
    silent: &[],
};

/// Let the processor speculate again.
pub(super) const C20: Probe = Probe {
    id: "c20",
    title: "let the processor speculate again",
    reference: "spec_ctrl(2)",
    layers: &[Layer::SpeculationControl, Layer::Seccomp],
    control: Control {
        without: &[Layer::SpeculationControl, Layer::Seccomp],
    },
    only: &[],
    canary: Canary::Traces(
        "the speculation of the attempt in /proc",
        &[
            (
                "store-bypass",
                Trace::Status("Speculation_Store_Bypass", "thread vulnerable"),
            ),
            (
                "store-bypass-high-half",
                Trace::Status("Speculation_Store_Bypass", "thread vulnerable"),
            ),
            (
                "indirect-branch",
                Trace::StatusEnds("SpeculationIndirectBranch", "enabled"),
            ),
            (
                "indirect-branch-high-half",
                Trace::StatusEnds("SpeculationIndirectBranch", "enabled"),
            ),
        ],
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["store-bypass", "store-bypass-high-half"],
            reason: "a processor may have no such switch, an emulated one has none",
        },
        on: Machines::Some,
    }],
};

/// Offer memory for merging with a neighbour's.
pub(super) const C21: Probe = Probe {
    id: "c21",
    title: "offer memory for merging with a neighbour's",
    reference: "madvise(2), MADV_MERGEABLE",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["madvise"],
        reason: "a process may offer its own memory without any right; the one other switch, /sys/kernel/mm/ksm/run, is the whole host's",
    }],
    canary: Canary::Traces(
        "the marks of the attempt's memory in /proc",
        &[
            ("madvise", Trace::Mapping("mg")),
            ("madvise-high-half", Trace::Mapping("mg")),
        ],
    ),
    unseen: &[],
    silent: &[],
};
