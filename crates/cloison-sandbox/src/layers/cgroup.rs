//! The cgroup: its own in every mounted hierarchy.
//!
//! In a hierarchy in which the sandbox were not placed, the root of its
//! cgroup namespace would be the host's. The child writes itself into the v1
//! ones (a pid written by somebody else waits for a grace period) and is
//! born in the v2 one.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::cgroup::Hierarchy;
use crate::plan::Composition;
use crate::steps::Descriptor;

pub(crate) fn steps(composition: &mut Composition<'_>) {
    if !composition.applies(Layer::Cgroup) {
        return;
    }
    for (at, placement) in composition.prepared.cgroup.placements().iter().enumerate() {
        let slot = composition.list.descriptor(Descriptor::Cgroup(at));
        if *placement.hierarchy() == Hierarchy::V2 {
            composition.list.cgroup = Some(slot);
        } else {
            composition
                .list
                .push(Layer::Cgroup, Op::EnterCgroup, [slot.into()]);
        }
    }
}
