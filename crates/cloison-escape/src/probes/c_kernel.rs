//! C: kernel interfaces.

use cloison_sandbox::Layer;

use super::{Canary, Control, Only, Probe};

/// A ring whose operations no filter sees.
pub(super) const C04: Probe = Probe {
    id: "c04",
    title: "do by io_uring what is denied as a call",
    reference: "io_uring(7)",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["io_uring_", "socket-through-ring"],
        reason: "no namespace, capability or Landlock right covers io_uring; the one other \
                 switch, kernel.io_uring_disabled, is the whole host's",
    }],
    canary: Canary::None,
};

/// A key of the host.
pub(super) const C05: Probe = Probe {
    id: "c05",
    title: "read a key of the host",
    reference: "keyrings(7), CVE-2016-0728",
    layers: &[Layer::Seccomp, Layer::SessionKeyring, Layer::UserNamespace],
    control: Control {
        without: &[Layer::Seccomp, Layer::SessionKeyring, Layer::UserNamespace],
    },
    only: &[],
    canary: Canary::Key,
};

/// Bytes pushed into the caller's terminal.
pub(super) const C10: Probe = Probe {
    id: "c10",
    title: "push bytes into the terminal of the caller",
    reference: "CVE-2017-5226, CVE-2023-28339",
    layers: &[Layer::Session, Layer::Seccomp],
    control: Control {
        without: &[Layer::Session, Layer::Seccomp],
    },
    only: &[],
    canary: Canary::Terminal,
};
