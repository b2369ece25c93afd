//! E: network.

use cloison_sandbox::Layer;

use super::{Canary, Control, Probe};

/// A socket of another network namespace.
pub(super) const E13: Probe = Probe {
    id: "e13",
    title: "turn a socket of another network to a neighbour",
    reference: "connect(2), AF_UNSPEC",
    layers: &[Layer::Descriptors, Layer::LandlockNetwork, Layer::Seccomp],
    control: Control {
        without: &[Layer::Descriptors, Layer::LandlockNetwork, Layer::Seccomp],
    },
    only: &[],
    canary: Canary::Neighbour,
    unseen: &[],
    silent: &[],
};
