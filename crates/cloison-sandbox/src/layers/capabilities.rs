//! Ids, capabilities, securebits and `no_new_privs`.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::error::Refused;
use crate::plan::Composition;
use crate::spec::Spec;

/// Everything but `KEEP_CAPS` set, and all locked.
pub(crate) const SECUREBITS: u64 = 0xef;

/// What no sandbox may keep: with it a root inside raises the limits on
/// namespaces again.
const NEVER: [caps::Capability; 1] = [caps::Capability::CAP_SYS_RESOURCE];

/// The capabilities that the command keeps, as a mask.
pub(crate) fn kept(spec: &Spec) -> Result<u64, Refused> {
    if let Some(capability) = NEVER.into_iter().find(|c| spec.capabilities.contains(c)) {
        return Err(Refused::Capability(capability));
    }
    Ok(spec
        .capabilities
        .iter()
        .fold(0, |mask, capability| mask | capability.bitmask()))
}

/// Groups dropped, root inside: what comes next needs its rights.
pub(crate) fn become_root(composition: &mut Composition<'_>) {
    let layer = Layer::UserNamespace;
    let applies = composition.applies(layer);
    let list = &mut composition.list;
    list.push(layer, Op::DropGroups, []);
    list.push(layer, Op::SetGroup, [0.into()]);
    list.push(layer, Op::SetUser, [0.into()]);
    if applies {
        // With every right over them that a root inside can have.
        list.push(layer, Op::TryNested, []);
    }
}

/// The five sets, the securebits, the final ids.
pub(crate) fn steps(composition: &mut Composition<'_>, kept: u64) {
    let (user, group) = (composition.spec.user, composition.spec.group);
    let drops = composition.applies(Layer::Capabilities);
    let locks = composition.applies(Layer::Securebits);
    let list = &mut composition.list;
    if drops {
        let layer = Layer::Capabilities;
        list.push(layer, Op::DropBounding, [kept.into()]);
        list.push(layer, Op::ClearAmbient, []);
        if kept != 0 {
            list.push(layer, Op::SetCapabilities, [u64::MAX.into(), kept.into()]);
            list.push(layer, Op::RaiseAmbient, [kept.into()]);
        }
    }
    if locks {
        list.push(Layer::Securebits, Op::SetSecurebits, [SECUREBITS.into()]);
    }
    let layer = Layer::UserNamespace;
    list.push(layer, Op::SetGroup, [u64::from(group).into()]);
    list.push(layer, Op::SetUser, [u64::from(user).into()]);
    if drops {
        list.push(
            Layer::Capabilities,
            Op::SetCapabilities,
            [kept.into(), kept.into()],
        );
    }
    if composition.applies(Layer::NoNewPrivs) {
        composition
            .list
            .push(Layer::NoNewPrivs, Op::SetNoNewPrivs, []);
    }
}
