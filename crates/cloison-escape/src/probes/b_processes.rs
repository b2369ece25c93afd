//! B: processes, ids, credentials.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// Signal, trace, read a process outside.
pub(super) const B01: Probe = Probe {
    id: "b01",
    title: "signal, trace or read a process outside",
    reference: "pid_namespaces(7), ptrace(2)",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
        Layer::LandlockScope,
    ],
    control: Control {
        without: &[
            Layer::PidNamespace,
            Layer::UserNamespace,
            Layer::Proc,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
        ],
    },
    only: &[],
    canary: Canary::Process,
    unseen: &[
        Ways {
            names: &[
                "scan",
                "kcmp",
                "get_robust_list",
                "move_pages",
                "process_madvise",
            ],
            reason: "it changes nothing: the answer of the call is all there is",
        },
        Ways {
            names: &["ioprio_set"],
            reason: "no file of /proc shows an I/O priority",
        },
    ],
    silent: &[],
};

/// A nested namespace with every capability.
pub(super) const B03: Probe = Probe {
    id: "b03",
    title: "make a namespace and be root in it",
    reference: "CVE-2022-0185",
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
    canary: Canary::Namespaces,
    unseen: &[],
    silent: &[],
};

/// A child of the launcher before it executes.
pub(super) const B09: Probe = Probe {
    id: "b09",
    title: "trace or read the launcher's child before it executes",
    reference: "CVE-2016-9962, CVE-2026-41163",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::Seccomp,
        Layer::LandlockFiles,
        Layer::NotDumpable,
    ],
    control: Control {
        // The capabilities stay: with all of the host's nothing would stop
        // the attempt.
        without: &[
            Layer::PidNamespace,
            Layer::UserNamespace,
            Layer::Proc,
            Layer::Seccomp,
            Layer::LandlockFiles,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
            Layer::NotDumpable,
        ],
    },
    only: &[],
    canary: Canary::Joining,
    unseen: &[
        Ways {
            names: &["process_vm_readv", "process_vm_writev", "proc-mem"],
            reason: "EFAULT for an address that the child may not have shows that the right \
                     was checked",
        },
        Ways {
            names: &["kcmp", "get_robust_list", "move_pages"],
            reason: "it changes nothing: the answer of the call is all there is",
        },
    ],
    silent: &[Silent {
        ways: Ways {
            names: &["process_madvise", "proc-stack"],
            reason: "each asks for a capability in the host's user namespace, which the control \
                     does not give: B01 shows them alive",
        },
        on: Machines::All,
    }],
};

/// The calls of a foreign interface.
pub(super) const B12: Probe = Probe {
    id: "b12",
    title: "make denied calls by another interface",
    reference: "seccomp(2), socketcall(2)",
    layers: &[Layer::Seccomp],
    control: Control {
        // The user namespace: else its limit stops a nested one.
        without: &[Layer::Seccomp, Layer::UserNamespace],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["int80-"],
        reason: "the kernel offers its 32-bit interface to every process; nothing but a filter \
                 closes it, and AF_VSOCK knows no namespace. What the other layers deny they \
                 deny by every interface",
    }],
    canary: Canary::HandedOut,
    unseen: &[
        Ways {
            names: &["int80-getpid"],
            reason: "it changes nothing: the answer of the call is all there is",
        },
        Ways {
            names: &["int80-mount"],
            reason: "it is made to fail behind the filter, by null names: the answer of the \
                 call is all there is",
        },
        Ways {
            names: &["int80-keyctl"],
            reason: "the process keyring that it makes is shown to nobody but its owner",
        },
    ],
    silent: &[Silent {
        ways: Ways {
            names: &["x32-getpid", "x32-socket-vsock", "x32-unshare-user"],
            reason: "a kernel built without CONFIG_X86_X32_ABI answers ENOSYS to every x32 \
                 number",
        },
        on: Machines::Some,
    }],
};

/// Change or inspect one's own init.
pub(super) const B21: Probe = Probe {
    id: "b21",
    title: "trace, read or limit the sandbox's own init, or what exec started",
    reference: "prlimit(2), ptrace(2)",
    layers: &[Layer::Seccomp, Layer::NotDumpable, Layer::LandlockFiles],
    control: Control {
        without: &[
            Layer::Seccomp,
            Layer::NotDumpable,
            Layer::LandlockFiles,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
            Layer::Capabilities,
            Layer::Securebits,
        ],
    },
    only: &[
        Only {
            layer: Layer::Seccomp,
            ways: &[
                "prlimit64",
                "sched_setaffinity",
                "setpriority",
                "sched_setscheduler",
                "ioprio_set",
                "exec-prlimit64",
                "exec-sched_setaffinity",
                "exec-setpriority",
                "exec-sched_setscheduler",
                "exec-ioprio_set",
            ],
            reason: "the kernel lets a user set these of his own processes, and both have the \
                     command's id; a Landlock domain does not cover them",
        },
        Only {
            layer: Layer::LandlockFiles,
            ways: &["exec-proc-"],
            reason: "what exec starts runs a program of the tenant's, of the same user and \
                     readable, so that only the inner Landlock domain of the command stands \
                     between them; no call is made that a filter could know",
        },
    ],
    canary: Canary::Init,
    unseen: &[
        Ways {
            names: &["process_vm_readv", "process_vm_writev", "proc-mem"],
            reason: "the init holds no secret: EFAULT for an address that it may not have \
                 shows that the right was checked",
        },
        Ways {
            names: &[
                "kcmp",
                "get_robust_list",
                "move_pages",
                "exec-kcmp",
                "exec-get_robust_list",
                "exec-move_pages",
            ],
            reason: "it changes nothing: the answer of the call is all there is",
        },
        Ways {
            names: &["ioprio_set", "exec-ioprio_set"],
            reason: "no file of /proc shows an I/O priority",
        },
    ],
    silent: &[
        Silent {
            ways: Ways {
                names: &[
                    "process_madvise",
                    "proc-stack",
                    "exec-process_madvise",
                    "exec-proc-stack",
                ],
                reason: "each asks for a capability in the host's user namespace, which no \
                 sandbox has: B01 shows them alive",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["proc-environ", "proc-fd/1", "proc-fd/2"],
                reason: "the init has no environment and no streams: descriptor 0 is the socket \
                         on which it listens, and B01 shows the others alive",
            },
            on: Machines::All,
        },
    ],
};
