//! G: attacks on the manager's side.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// A careless caller.
pub(super) const G11: Probe = Probe {
    id: "g11",
    title: "profit from a careless caller: descriptors, SIGCHLD, status",
    reference: "signal(7), waitpid(2), CVE-2024-21626",
    layers: &[Layer::Descriptors, Layer::InheritedState],
    control: Control {
        without: &[Layer::Descriptors, Layer::InheritedState],
    },
    only: &[
        Only {
            layer: Layer::Descriptors,
            ways: &["descriptors"],
            reason: "a child has what its maker has open: in the direct way, where the caller \
                     is the maker, only closing it helps; a spawner has closed all before",
        },
        Only {
            layer: Layer::InheritedState,
            ways: &["ignored-sigchld"],
            reason: "an ignored signal stays ignored through every exec until it is set back; \
                     the read-back refuses a child in which it is",
        },
    ],
    canary: Canary::Careless,
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["status-taken"],
            reason: "from 6.15 on a pidfd keeps the status whoever reaps; before, the direct \
                     way loses it, and the spawner is the parent that nobody else waits in",
        },
        on: Machines::Some,
    }],
};

/// The caller's secrets.
pub(super) const G12: Probe = Probe {
    id: "g12",
    title: "trace or read the launcher, its spawner, a child of its",
    reference: "ptrace(2), process_vm_readv(2), pidfd_getfd(2)",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
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
            Layer::NotDumpable,
        ],
    },
    only: &[],
    canary: Canary::Caller,
    unseen: &[
        Ways {
            names: &[
                "child-process_vm_readv",
                "child-process_vm_writev",
                "child-proc-mem",
                "child-process_madvise",
                "spawner-process_vm_readv",
                "spawner-process_vm_writev",
                "spawner-proc-mem",
                "spawner-process_madvise",
                "caller-process_vm_readv",
                "caller-process_vm_writev",
                "caller-proc-mem",
                "caller-process_madvise",
            ],
            reason: "no place in their memory is known: EFAULT or ENOMEM for one that is not \
                     there shows that the right was checked",
        },
        Ways {
            names: &[
                "child-kcmp",
                "child-get_robust_list",
                "child-move_pages",
                "spawner-kcmp",
                "spawner-get_robust_list",
                "spawner-move_pages",
                "caller-kcmp",
                "caller-get_robust_list",
                "caller-move_pages",
            ],
            reason: "it changes nothing: the answer of the call is all there is",
        },
        Ways {
            names: &[
                "child-proc-stack",
                "spawner-proc-stack",
                "caller-proc-stack",
            ],
            reason: "where a process is in the kernel changes from one look to the next",
        },
    ],
    silent: &[
        Silent {
            ways: Ways {
                names: &["spawner-proc-environ"],
                reason: "the spawner is started without an environment",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["caller-proc-stack"],
                reason: "one that runs on a processor at that moment shows no stack",
            },
            on: Machines::Some,
        },
    ],
};
