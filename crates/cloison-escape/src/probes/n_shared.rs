//! N: shared kernel objects.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// Sockets that transform what is spliced into them.
pub(super) const N02: Probe = Probe {
    id: "n02",
    title: "obtain a socket that transforms pages in place",
    reference: "CVE-2026-31431, CVE-2026-43284",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["alg-", "rxrpc-", "udp4-", "udp6-"],
        reason: "neither family nor option asks for a capability, and no namespace or Landlock \
                 right covers them",
    }],
    canary: Canary::Unseen(
        "a descriptor or an option that was reached is the success, and no data is sent: only \
         the attempt hears the answer",
    ),
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["alg-socket", "rxrpc-socket"],
            reason: "a kernel built without CONFIG_CRYPTO_USER_API or CONFIG_AF_RXRPC has no \
                     such family",
        },
        on: Machines::Some,
    }],
};

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

/// Odd corners of sockets.
pub(super) const N04: Probe = Probe {
    id: "n04",
    title: "send out of band on unix sockets, filter sources of groups",
    reference: "CVE-2023-4622, CVE-2023-6932",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["send", "source"],
        reason: "both work on sockets of one's own and ask for no right; no namespace or \
                 Landlock right covers them",
    }],
    canary: Canary::Unseen(
        "the byte goes to the attempt itself, and the lists are refused behind the filter: \
         nobody else could see either",
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

/// Programs on sockets.
pub(super) const N06: Probe = Probe {
    id: "n06",
    title: "put a program of one's own on a socket",
    reference: "socket(7), SO_ATTACH_FILTER",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["filter", "bpf", "reuseport-"],
        reason: "a filter on one's own socket asks for no right, and no namespace or Landlock \
                 right covers it",
    }],
    canary: Canary::Unseen(
        "no file of /proc shows what filters a socket: the answer of the call is all there is",
    ),
    unseen: &[],
    silent: &[],
};
