//! B: processes, ids, credentials.

use cloison_sandbox::Layer;

use super::{Canary, Control, Only, Probe};

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
    canary: Canary::None,
};

/// The calls of a foreign interface.
pub(super) const B12: Probe = Probe {
    id: "b12",
    title: "make denied calls by another interface",
    reference: "seccomp(2), socketcall(2)",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["int80-", "x32-"],
        reason: "the kernel offers its 32-bit interface to every process; nothing but a filter \
                 closes it, and AF_VSOCK knows no namespace. What the other layers deny they \
                 deny by every interface",
    }],
    canary: Canary::None,
};

/// Change or inspect one's own init.
pub(super) const B21: Probe = Probe {
    id: "b21",
    title: "trace, read or limit the sandbox's own init",
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
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &[
            "prlimit64",
            "sched_setaffinity",
            "setpriority",
            "sched_setscheduler",
            "ioprio_set",
        ],
        reason: "the kernel lets a user set these of his own processes, and the init has the \
                 command's id; a Landlock domain does not cover them",
    }],
    canary: Canary::None,
};
