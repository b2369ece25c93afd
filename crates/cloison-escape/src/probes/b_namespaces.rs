//! B: into the namespaces of somebody outside.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Probe, Silent, Ways};

const WITHOUT_WALLS: &[Layer] = &[
    Layer::PidNamespace,
    Layer::UserNamespace,
    Layer::Proc,
    Layer::Capabilities,
    Layer::Securebits,
    Layer::Seccomp,
    Layer::LandlockFiles,
    Layer::LandlockNetwork,
    Layer::LandlockScope,
];

/// Join a namespace outside.
pub(super) const B02: Probe = Probe {
    id: "b02",
    title: "join the namespaces of a process outside",
    reference: "setns(2)",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
    ],
    control: Control {
        without: WITHOUT_WALLS,
    },
    only: &[],
    canary: Canary::Namespaced,
    unseen: &[],
    silent: &[],
};

/// Handles of processes and namespaces.
pub(super) const B20: Probe = Probe {
    id: "b20",
    title: "open a process or namespace outside by its handle or pidfd",
    reference: "open_by_handle_at(2), CVE-2026-43391",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
    ],
    control: Control {
        without: WITHOUT_WALLS,
    },
    only: &[],
    canary: Canary::Namespaced,
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &[
                    "handle-net",
                    "handle-mnt",
                    "handle-ipc",
                    "handle-uts",
                    "handle-cgroup",
                ],
                reason: "namespaces have handles since 6.18; since early 2026, also in stable \
                         kernels, they are opened only from the first pid namespace, in \
                         which no stage is",
            },
            on: Machines::BeforeAndSome(6, 18),
        },
        Silent {
            ways: Ways {
                names: &["handle-process"],
                reason: "processes have no handles",
            },
            on: Machines::Before(6, 14),
        },
        Silent {
            ways: Ways {
                names: &[
                    "pidfd-net",
                    "pidfd-mnt",
                    "pidfd-ipc",
                    "pidfd-uts",
                    "pidfd-cgroup",
                ],
                reason: "a pidfd hands out no namespaces",
            },
            on: Machines::Before(6, 11),
        },
    ],
};
