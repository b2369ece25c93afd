//! The namespaces that the child joins or leaves for.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::plan::Composition;
use crate::steps::Descriptor;

const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const CLONE_NEWUTS: u64 = 0x400_0000;
const CLONE_NEWIPC: u64 = 0x800_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// What is made with the clone: a mount namespace of the host's to build
/// in; the pid namespace, and the network namespace if there is none yet,
/// which the host owns.
pub(crate) fn at_clone(composition: &Composition<'_>) -> u64 {
    let mut flags = CLONE_NEWNS;
    if composition.applies(Layer::PidNamespace) {
        flags |= CLONE_NEWPID;
    }
    if composition.applies(Layer::NetworkNamespace) && composition.prepared.network.is_none() {
        flags |= CLONE_NEWNET;
    }
    flags
}

/// Joins the network, or readies the one of the clone: before sysfs is
/// mounted, which shows its mounter's.
pub(crate) fn enter_network(composition: &mut Composition<'_>) {
    let layer = Layer::NetworkNamespace;
    if !composition.applies(layer) {
        return;
    }
    let list = &mut composition.list;
    if composition.prepared.network.is_none() {
        list.push(layer, Op::SetLoopbackUp, []);
    } else {
        let slot = list.descriptor(Descriptor::NetworkNamespace);
        list.push(layer, Op::JoinNamespace, [slot.into(), CLONE_NEWNET.into()]);
    }
}

/// Joins the user namespace and leaves for mount, ipc, uts and cgroup
/// namespaces of the tenant's.
pub(crate) fn join_user_and_leave(composition: &mut Composition<'_>) {
    let layer = Layer::UserNamespace;
    if composition.applies(layer) {
        let slot = composition.list.descriptor(Descriptor::UserNamespace);
        composition.list.push(
            layer,
            Op::JoinNamespace,
            [slot.into(), CLONE_NEWUSER.into()],
        );
    }
    let mut flags = 0;
    for (layer, flag) in UNSHARED {
        if composition.applies(layer) {
            flags |= flag;
        }
    }
    composition
        .list
        .push(Layer::MountNamespace, Op::Unshare, [flags.into()]);
}

/// The namespaces of the one unshare, with their flags.
pub(crate) const UNSHARED: [(Layer, u64); 4] = [
    (Layer::MountNamespace, CLONE_NEWNS),
    (Layer::IpcNamespace, CLONE_NEWIPC),
    (Layer::UtsNamespace, CLONE_NEWUTS),
    (Layer::CgroupNamespace, CLONE_NEWCGROUP),
];

/// The flags of namespaces that are made with the clone.
pub(crate) const CLONED: [(Layer, u64); 2] = [
    (Layer::PidNamespace, CLONE_NEWPID),
    (Layer::NetworkNamespace, CLONE_NEWNET),
];

/// Names the host.
pub(crate) fn host_name(composition: &mut Composition<'_>) {
    if composition.applies(Layer::UtsNamespace) {
        let name = composition.list.text(composition.spec.name.as_str());
        composition
            .list
            .push(Layer::UtsNamespace, Op::SetHostName, [name.into()]);
    }
}
