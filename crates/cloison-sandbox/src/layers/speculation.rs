//! Core scheduling and speculation control, where they matter.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::plan::Composition;

const STORE_BYPASS: u64 = 0;
const INDIRECT_BRANCH: u64 = 1;

pub(crate) fn steps(composition: &mut Composition<'_>) {
    if composition.applies(Layer::CoreScheduling) {
        composition
            .list
            .push(Layer::CoreScheduling, Op::MakeCoreCookie, []);
    }
    if composition.applies(Layer::SpeculationControl) {
        for feature in [STORE_BYPASS, INDIRECT_BRANCH] {
            composition.list.push(
                Layer::SpeculationControl,
                Op::RestrictSpeculation,
                [feature.into()],
            );
        }
    }
}
