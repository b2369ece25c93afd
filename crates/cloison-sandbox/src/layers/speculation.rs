//! Core scheduling and speculation control, where they matter.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::kernel::Feature;
use crate::plan::Composition;

/// What prctl(2) calls each.
const CONTROLS: [(Feature, u64); 2] = [
    (Feature::StoreBypassControl, 0),
    (Feature::IndirectBranchControl, 1),
];

pub(crate) fn steps(composition: &mut Composition<'_>) {
    if composition.applies(Layer::CoreScheduling) {
        composition
            .list
            .push(Layer::CoreScheduling, Op::MakeCoreCookie, []);
    }
    if composition.applies(Layer::SpeculationControl) {
        for (feature, control) in CONTROLS {
            // One that the processor does not need has nothing to restrict.
            if !composition.kernel.has(feature) {
                continue;
            }
            composition.list.push(
                Layer::SpeculationControl,
                Op::RestrictSpeculation,
                [control.into()],
            );
        }
    }
}
