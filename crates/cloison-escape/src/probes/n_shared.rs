//! N: shared kernel objects.

use cloison_sandbox::Layer;

use super::{Canary, Control, Only, Probe, Ways};

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
        reason: "setting TCP_ULP on one's own socket asks no capability and no Landlock \
                 right",
    }],
    canary: Canary::Unseen(
        "the option is reached and its value refused, which changes nothing: no file of /proc \
         tells of it, and only the attempt hears the answer",
    ),
    unseen: &[],
    silent: &[],
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
    canary: Canary::Network,
    unseen: &[
        Ways {
            names: &["link-dummy"],
            reason: "where the kernel has no such links it says so once the right was checked",
        },
        Ways {
            names: &["tc-qdisc"],
            reason: "no file of /proc shows a queue, and it is removed again",
        },
        Ways {
            names: &["nft-batch", "ipset", "xfrm"],
            reason: "the batch is dropped, the others only ask: the answer is all there is",
        },
    ],
    silent: &[],
};
