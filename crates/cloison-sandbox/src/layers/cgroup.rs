//! The cgroup: its own in every mounted hierarchy, with its limits.
//!
//! In a hierarchy in which the sandbox were not placed, the root of its
//! cgroup namespace would be the host's. The child writes itself into the v1
//! ones (a pid written by somebody else waits for a grace period) and is
//! born in the v2 one. Limits are the caller's to write, before anything is in
//! it.

use cloison_linux::steps::Op;

use crate::cgroup::{Cgroup, Hierarchy, Wanted};
use crate::error::Error;
use crate::plan::{Composition, Weakening};
use crate::posture::{Field, LIMITS};
use crate::steps::Descriptor;
use crate::{Layer, Spec};

/// Sees to it that the limits of `spec` stand in its cgroup, but for those that
/// the weakenings leave out; gives what should stand there.
pub(crate) fn limit(
    cgroup: &mut Cgroup,
    spec: &Spec,
    applied: &[Layer],
    weakenings: &[Weakening],
) -> Result<Wanted, Error> {
    let has = |wanted: &dyn Fn(&Weakening) -> bool| weakenings.iter().any(wanted);
    let is_on = |layer: Layer| {
        let is_broken = has(&|w| matches!(w, Weakening::Broken(broken) if *broken == layer));
        applied.contains(&layer) && !is_broken
    };
    let breaks =
        |field: Field| has(&|w| matches!(w, Weakening::BrokenField(broken) if *broken == field));
    let expected = Wanted::of(&spec.cgroup)?;
    let whole = if is_on(Layer::CgroupLimits) {
        expected.clone()
    } else {
        Wanted::none()
    };
    let broken = LIMITS.into_iter().filter(|(field, _)| breaks(*field));
    cgroup.limit_to(broken.fold(whole, |wanted, (_, bound)| wanted.without(bound)))?;
    if is_on(Layer::DeviceControl) && !breaks(Field::DevicesAllowed) {
        cgroup.allow_devices()?;
    } else {
        cgroup.lift_devices()?;
    }
    Ok(expected)
}

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
