//! B: how a launch begins and how it ends.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// What wants to outlive a stop.
pub(super) const B14: Probe = Probe {
    id: "b14",
    title: "outlive the stop: orphans, sessions, deaf and fleeing ones",
    reference: "pid_namespaces(7), daemon(3)",
    layers: &[Layer::PidNamespace, Layer::Cgroup],
    control: Control {
        without: &[Layer::PidNamespace, Layer::Cgroup],
    },
    only: &[],
    canary: Canary::Outlived,
    unseen: &[],
    silent: &[],
};

/// What an odd caller hands on.
pub(super) const B19: Probe = Probe {
    id: "b19",
    title: "inherit the state of an odd caller",
    reference: "fork(2), execve(2)",
    layers: &[Layer::InheritedState],
    control: Control {
        without: &[Layer::InheritedState],
    },
    only: &[Only {
        layer: Layer::InheritedState,
        ways: &[
            "umask",
            "nice",
            "scheduler",
            "io-priority",
            "affinity",
            "memory-policy",
            "personality",
            "oom-score",
            "signals-",
        ],
        reason: "a process has these from its maker until they are set: nothing but setting \
                 them helps, and the read-back refuses a child in which one differs",
    }],
    canary: Canary::Inherited,
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &["groups"],
                reason: "supplementary groups are dropped in every plan, also a weakened one",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["affinity"],
                reason: "who comes into another cpuset may run on all of its processors",
            },
            on: Machines::Before(6, 2),
        },
    ],
};
