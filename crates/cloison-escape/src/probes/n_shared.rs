//! N: shared kernel objects.

use cloison_sandbox::Layer;

use super::{Canary, Control, Only, Probe};

/// An upper layer protocol on a socket.
pub(super) const N03: Probe = Probe {
    id: "n03",
    title: "set an upper layer protocol on a socket",
    reference: "9 of 78 CVEs counted in kernelCTF",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["tcp4-", "tcp6-", "unix-"],
        reason: "setting TCP_ULP on one's own socket asks no capability and no Landlock right",
    }],
    canary: Canary::None,
};

/// The network's own interfaces.
pub(super) const N05: Probe = Probe {
    id: "n05",
    title: "change links, queues and rules by netlink",
    reference: "49 of 78 CVEs counted in kernelCTF",
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
