//! B: ids, capabilities and filters of one's own.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// More ids than one range.
pub(super) const B05: Probe = Probe {
    id: "b05",
    title: "map more ids than the sandbox has",
    reference: "user_namespaces(7)",
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
    canary: Canary::Itself,
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["own-uid_map", "own-gid_map"],
            reason: "the kernel takes the maps of a namespace once, and those of the sandbox \
                     are written before anything of the tenant's runs",
        },
        on: Machines::All,
    }],
};

/// An id outside of the range.
pub(super) const B06: Probe = Probe {
    id: "b06",
    title: "become a user or owner that the sandbox does not have",
    reference: "setuid(2), chown(2)",
    layers: &[Layer::UserNamespace, Layer::Capabilities],
    control: Control {
        without: &[Layer::UserNamespace, Layer::Capabilities, Layer::Securebits],
    },
    only: &[],
    canary: Canary::Itself,
    unseen: &[],
    silent: &[],
};

/// Capabilities that grow.
pub(super) const B07: Probe = Probe {
    id: "b07",
    title: "grow the capability sets, change securebits",
    reference: "capabilities(7), CVE-2022-24769",
    layers: &[Layer::Capabilities, Layer::Securebits],
    control: Control {
        // No_new_privs: it stops exec-as-root as well, and what needs it to
        // be entered goes with it.
        without: &[
            Layer::Capabilities,
            Layer::Securebits,
            Layer::NoNewPrivs,
            Layer::Seccomp,
            Layer::LandlockFiles,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
        ],
    },
    only: &[],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &["securebits"],
        reason: "no file of /proc shows securebits, and only the attempt can ask for its own",
    }],
    silent: &[],
};

/// A filter of one's own, or something before filters.
pub(super) const B08: Probe = Probe {
    id: "b08",
    title: "install a filter or a listener of one's own",
    reference: "seccomp(2), seccomp_unotify(2)",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["filter", "listener", "user-dispatch"],
        reason: "whoever has no_new_privs may filter itself: no capability is asked for, no \
                 Landlock right and no namespace covers it",
    }],
    canary: Canary::Itself,
    unseen: &[Ways {
        names: &["user-dispatch"],
        reason: "no file of /proc shows it: the answer of the call is all there is",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["no_new_privs-cleared"],
            reason: "the kernel never clears it, for nobody",
        },
        on: Machines::All,
    }],
};
