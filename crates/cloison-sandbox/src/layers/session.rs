//! Session and session keyring.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::plan::Composition;
use crate::spec::Init;
use crate::steps::Slot;

/// Starts the session; a terminal of the sandbox's own becomes its terminal.
/// With an init it is the init that does this for the command.
pub(crate) fn steps(composition: &mut Composition<'_>, terminal: Option<Slot>) {
    if composition.applies(Layer::Session) {
        composition.list.push(Layer::Session, Op::StartSession, []);
        if let (Some(terminal), Init::Off) = (terminal, composition.spec.init) {
            composition
                .list
                .push(Layer::Session, Op::TakeTerminal, [terminal.into()]);
        }
    }
    if composition.applies(Layer::SessionKeyring) {
        composition
            .list
            .push(Layer::SessionKeyring, Op::JoinKeyring, []);
    }
}
