//! A: file system and mounts.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// Clear read-only of a locked mount, take a mask off.
pub(super) const A03: Probe = Probe {
    id: "a03",
    title: "clear read-only of a mount, remove a mask",
    reference: "mount_namespaces(7)",
    layers: &[
        Layer::MountNamespace,
        Layer::Capabilities,
        Layer::Seccomp,
        Layer::LandlockFiles,
    ],
    control: Control {
        // Securebits: a root whose sets are whole loses them at exec by NOROOT.
        without: &[
            Layer::MountNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::Seccomp,
            Layer::LandlockFiles,
        ],
    },
    only: &[],
    canary: Canary::MaskedTree,
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &["open", "create", "mask-read"],
                reason: "the tree is read-only and the mask is on in every sandbox: to lift them \
                 is the attack, and the other ways do",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["remount", "reconfigure"],
                reason: "the superblock is the host's, and the control keeps the user namespace: \
                 A32 shows them alive",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["nested-namespace", "mask-nested-namespace"],
                reason: "the control keeps the user namespace, whose limit on nested ones is 0",
            },
            on: Machines::All,
        },
    ],
};

/// Reach the host by a descriptor that was left open.
pub(super) const A12: Probe = Probe {
    id: "a12",
    title: "climb out by a directory that was left open",
    reference: "CVE-2016-9962, CVE-2024-21626",
    layers: &[Layer::Descriptors, Layer::LandlockFiles],
    control: Control {
        without: &[Layer::Descriptors, Layer::LandlockFiles],
    },
    only: &[Only {
        layer: Layer::Descriptors,
        ways: &["read"],
        reason: "a Landlock domain is asked when a file is opened, never when it is read: what is \
                 open already is open",
    }],
    canary: Canary::OpenDirectory,
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["path", "working-directory"],
            reason: "the control keeps the mount namespace, whose root is another; only a \
                 descriptor leads out of it",
        },
        on: Machines::All,
    }],
};

/// Overwrite the launcher's or init's program.
pub(super) const A14: Probe = Probe {
    id: "a14",
    title: "overwrite the program of the launcher or the init",
    reference: "CVE-2019-5736",
    layers: &[
        Layer::NotDumpable,
        Layer::LandlockFiles,
        Layer::UserNamespace,
    ],
    control: Control {
        // Not the capabilities: a root of the host that may trace everything
        // is stopped by no mode of a file.
        without: &[
            Layer::NotDumpable,
            Layer::UserNamespace,
            Layer::LandlockFiles,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
        ],
    },
    only: &[],
    canary: Canary::Program,
    unseen: &[Ways {
        names: &["1-write"],
        reason: "the program runs, so that the kernel refuses with ETXTBSY once every right was \
                 checked: nothing is written",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &["1-mapped-file"],
            reason: "map_files asks for a capability in the host's user namespace, which no \
                 sandbox has",
        },
        on: Machines::All,
    }],
};

/// Write through to a file of a shared tree.
pub(super) const A32: Probe = Probe {
    id: "a32",
    title: "write to a read-only tree of the host",
    reference: "mount_setattr(2)",
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
    canary: Canary::SharedTree,
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &["open", "create"],
                reason: "the tree is read-only in every sandbox: to clear that is the attack, and \
                 the other ways do",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["nested-namespace"],
                reason: "in a user namespace of his own the kernel locks what was attached outside \
                         it: that is no layer that could be taken away",
            },
            on: Machines::All,
        },
    ],
};
