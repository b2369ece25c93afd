//! The descriptors that the command gets, and no other.

use cloison_linux::steps::{NONE, Op};

use crate::Layer;
use crate::plan::Composition;
use crate::steps::{Argument, Slot};

/// What whoever makes the child has open is closed first.
pub(crate) fn close_others(composition: &mut Composition<'_>) {
    if composition.applies(Layer::Descriptors) {
        composition
            .list
            .push(Layer::Descriptors, Op::CloseOthers, []);
    }
}

/// Nobody may trace or read the process from here to the exec, also where it
/// was not a spawner that made it.
pub(crate) fn not_dumpable(composition: &mut Composition<'_>) {
    if composition.applies(Layer::NotDumpable) {
        composition
            .list
            .push(Layer::NotDumpable, Op::SetDumpable, [0.into()]);
    }
}

pub(crate) fn steps(composition: &mut Composition<'_>, kept: &[Slot], program: Option<Slot>) {
    let list = &mut composition.list;
    let slots = list.slots(kept.iter().copied());
    let program = program.map_or(Argument::Number(NONE), Argument::Slot);
    list.push(
        Layer::Descriptors,
        Op::PlaceDescriptors,
        [slots.into(), (kept.len() as u64).into(), program],
    );
}
