//! A: file system and mounts.

use cloison_sandbox::Layer;

use super::{Canary, Control, Probe};

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
    only: &[],
    canary: Canary::OpenDirectory,
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
    canary: Canary::None,
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
};
