//! What a process inherits, set back.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::plan::Composition;

/// A sandbox is ended before the host's own services when memory is short.
pub(crate) const OOM_SCORE: u32 = 500;

/// As many processors as an affinity mask may name.
const PROCESSORS_MAX: usize = 4096;

/// With the host's rights: once the user namespace is joined they would be
/// refused.
pub(crate) fn early(composition: &mut Composition<'_>) {
    let layer = Layer::InheritedState;
    if !composition.applies(layer) {
        return;
    }
    let list = &mut composition.list;
    let file = list.text("self/oom_score_adj");
    let score = list.text(OOM_SCORE.to_string());
    list.push(layer, Op::WriteProc, [file.into(), score.into()]);
    list.push(layer, Op::SetSchedulerOther, []);
    list.push(layer, Op::SetNice, [0.into()]);
    list.push(layer, Op::SetIoPriority, [0.into()]);
}

pub(crate) fn late(composition: &mut Composition<'_>) {
    let layer = Layer::InheritedState;
    if !composition.applies(layer) {
        return;
    }
    let list = &mut composition.list;
    let every = list.words([u64::MAX; PROCESSORS_MAX / 64]);
    list.push(
        layer,
        Op::SetAffinity,
        [every.into(), (PROCESSORS_MAX as u64 / 64).into()],
    );
    list.push(layer, Op::ResetMemoryPolicy, []);
    list.push(layer, Op::SetPersonality, [0.into()]);
    list.push(layer, Op::SetUmask, [0o022.into()]);
    list.push(layer, Op::ResetSignals, []);
}
