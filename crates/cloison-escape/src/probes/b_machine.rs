//! B: what belongs to the whole machine.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// Another execution domain, segments, ports.
pub(super) const B11: Probe = Probe {
    id: "b11",
    title: "change the execution domain, segments, port access",
    reference: "personality(2), modify_ldt(2), iopl(2)",
    layers: &[Layer::Seccomp],
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
        ways: &["personality-", "modify_ldt"],
        reason: "both change the caller alone and ask for no right: only a filter refuses them",
    }],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &["modify_ldt", "iopl", "ioperm"],
        reason: "no file of /proc shows segments or who may use ports: the answer of the call \
                 is all there is",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["iopl", "ioperm"],
            reason: "a kernel built without CONFIG_X86_IOPL_IOPERM has neither",
        },
        on: Machines::Some,
    }],
};

/// A better place among all processes.
pub(super) const B15: Probe = Probe {
    id: "b15",
    title: "run, read or place memory before all others",
    reference: "sched(7), ioprio_set(2), set_mempolicy(2)",
    layers: &[Layer::UserNamespace, Layer::Capabilities, Layer::Seccomp],
    control: Control {
        // The cgroup: its group for real-time has no time at all.
        without: &[
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::Cgroup,
        ],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["set_mempolicy", "mbind", "get_mempolicy", "migrate_pages"],
        reason: "placing one's own memory asks for no right, and the cgroup's nodes bound it: \
                 only a filter refuses the calls themselves",
    }],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &[
            "io-realtime",
            "set_mempolicy",
            "mbind",
            "get_mempolicy",
            "migrate_pages",
        ],
        reason: "it changes nothing that a file of /proc shows: the answer of the call is all \
                 there is",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["fifo", "round-robin"],
            reason: "with CONFIG_RT_GROUP_SCHED the stage's own cgroup has no real time to give",
        },
        on: Machines::Some,
    }],
};

/// Memory that stays.
pub(super) const B16: Probe = Probe {
    id: "b16",
    title: "lock memory beyond the limit, lower the oom score",
    reference: "mlock(2), proc_pid_oom_score_adj(5)",
    layers: &[Layer::UserNamespace, Layer::Capabilities],
    control: Control {
        without: &[Layer::UserNamespace, Layer::Capabilities, Layer::Securebits],
    },
    only: &[],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &["shared-memory-locked"],
        reason: "no file of /proc shows it by process, and it is removed again",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["oom-score"],
            reason: "below the least score that its caller had it asks for CAP_SYS_RESOURCE, \
                     which root has not on every machine",
        },
        on: Machines::Some,
    }],
};

/// The clock.
pub(super) const B17: Probe = Probe {
    id: "b17",
    title: "set or steer the clock, wake the machine",
    reference: "settimeofday(2), adjtimex(2), timerfd_create(2)",
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
        ways: &["adjtimex", "clock_adjtime"],
        reason: "to read how the clock is steered asks for no right; to steer it asks for \
                 CAP_SYS_TIME of the host as well",
    }],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &["settimeofday", "adjtimex", "clock_adjtime"],
        reason: "it changes nothing: the answer of the call is all there is",
    }],
    silent: &[],
};

/// Another kernel.
pub(super) const B18: Probe = Probe {
    id: "b18",
    title: "restart the machine, load a module or another kernel",
    reference: "reboot(2), init_module(2), kexec_load(2)",
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
    canary: Canary::Unseen(
        "each call is made to fail behind the check of the right: nothing changes, and the \
         answer is all there is",
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &[
                "kexec_load",
                "kexec_file_load",
                "init_module",
                "finit_module",
                "delete_module",
            ],
            reason: "a kernel built without CONFIG_KEXEC or CONFIG_MODULES has none of these",
        },
        on: Machines::Some,
    }],
};
