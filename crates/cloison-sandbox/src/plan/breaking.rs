//! One step broken, so that one field of the posture must turn red: a layer
//! of several fields could hide one behind another.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::layers::namespaces;
use crate::posture::Field;
use crate::steps::{Argument, Planned, StepList};

/// A capability that a broken step keeps: CAP_CHOWN.
const KEPT: u64 = 1;

/// Breaks what decides `field`: its step is left out, or does another thing.
/// A field that no step decides stays as it is, and the launch whole.
pub(super) fn break_field(list: &mut StepList, field: Field) {
    match field {
        Field::Cgroups => {
            list.cgroup = None;
            leave_out(list, |step| step.op == Op::EnterCgroup);
        }
        // The caller has written them: `layers::cgroup::limit` breaks these.
        Field::MemoryMax
        | Field::SwapMax
        | Field::TasksMax
        | Field::CpuWeight
        | Field::CpuQuota
        | Field::CgroupProcessors
        | Field::CgroupMemoryNodes
        | Field::IoLimits
        | Field::DevicesAllowed => {}
        Field::NetworkNamespace => leave_out(list, |step| {
            step.op == Op::JoinNamespace && step.layer == Some(field.layer())
        }),
        // The host's own may make others: that would fail first.
        Field::UserNamespace => leave_out(list, |step| {
            step.op == Op::TryNested
                || step.op == Op::JoinNamespace && step.layer == Some(field.layer())
        }),
        Field::NestedNamespaces => leave_out(list, |step| step.op == Op::TryNested),
        // A map belongs to its namespace: another map is another namespace.
        Field::UidMap | Field::GidMap => break_field(list, Field::UserNamespace),
        Field::UserIds => change_last(list, Op::SetUser, 0, 1),
        Field::GroupIds => change_last(list, Op::SetGroup, 0, 1),
        Field::Groups => leave_out(list, |step| step.op == Op::DropGroups),
        Field::MountNamespaceOwner => keep_namespace(list, Layer::MountNamespace),
        Field::IpcNamespace | Field::CgroupNamespace => keep_namespace(list, field.layer()),
        Field::UtsNamespace => {
            // Nobody may name the host's.
            leave_out(list, |step| step.op == Op::SetHostName);
            keep_namespace(list, field.layer());
        }
        // The attributes of its mount.
        Field::Mounts => change_last(list, Op::MountNew, 3, 0),
        Field::PidNamespace | Field::InnerPid => {
            for (layer, flag) in namespaces::CLONED {
                if layer == field.layer() {
                    list.clone_flags &= !flag;
                }
            }
        }
        Field::ProcOptions => {
            let nothing = list.list::<&str>([]);
            change(list, |step| {
                if step.op == Op::MountNew && step.layer == Some(Layer::Proc) {
                    set(step, 2, nothing.into());
                }
            });
        }
        Field::ProcCovers => leave_out_last(list, Op::Cover),
        Field::SysfsOptions => leave_out(list, |step| step.layer == Some(Layer::Sysfs)),
        Field::DeviceNodes => leave_out(list, |step| {
            matches!(step.layer, Some(Layer::Devices | Layer::Devpts))
        }),
        Field::DevptsOptions => leave_out(list, |step| step.layer == Some(Layer::Devpts)),
        Field::Bounding => change_last(list, Op::DropBounding, 0, KEPT),
        Field::Permitted | Field::Effective => change_last(list, Op::SetCapabilities, 0, KEPT),
        Field::Inheritable => {
            change_last(list, Op::DropBounding, 0, KEPT);
            change_last(list, Op::SetCapabilities, 1, KEPT);
        }
        Field::Ambient => {
            change_last(list, Op::DropBounding, 0, KEPT);
            raise_ambient(list);
        }
        Field::Securebits => leave_out(list, |step| step.op == Op::SetSecurebits),
        Field::SeccompMode => leave_out(list, |step| step.op == Op::InstallFilter),
        Field::SeccompFilters => leave_out_last(list, Op::InstallFilter),
        Field::MakeNode | Field::BindTcp | Field::ConnectAbstract => {
            leave_out(list, |step| step.op == Op::RestrictSelf);
        }
        Field::Limits => {
            let steps = list.steps_mut();
            let last = steps.iter_mut().rfind(|step| step.op == Op::SetLimit);
            if let Some([_, Argument::Number(limit), ..]) = last.map(|step| &mut step.arguments) {
                *limit ^= 1;
            }
        }
        Field::SessionKeyring => leave_out(list, |step| step.op == Op::JoinKeyring),
        // Without a session of its own it keeps the terminal of its caller.
        Field::InnerSession | Field::Terminal => {
            leave_out(list, |step| step.op == Op::StartSession)
        }
        Field::SignalsBlocked | Field::SignalsIgnored => {
            leave_out(list, |step| step.op == Op::ResetSignals);
        }
        Field::Umask => change_last(list, Op::SetUmask, 0, 0o077),
        Field::Nice => change_last(list, Op::SetNice, 0, 7),
        Field::SchedulerPolicy => leave_out(list, |step| step.op == Op::SetSchedulerOther),
        Field::Affinity => {
            let first = list.words([1]);
            change(list, |step| {
                if step.op == Op::SetAffinity {
                    set(step, 0, first.into());
                    set(step, 1, 1.into());
                }
            });
        }
        // ADDR_NO_RANDOMIZE.
        Field::Personality => change_last(list, Op::SetPersonality, 0, 0x4_0000),
        Field::OomScoreAdjustment => leave_out(list, |step| step.op == Op::WriteProc),
        Field::MemoryPolicy => leave_out(list, |step| step.op == Op::ResetMemoryPolicy),
        // Best effort, the lowest level.
        Field::IoPriority => change_last(list, Op::SetIoPriority, 0, 2 << 13 | 7),
        // Standard error is not kept.
        Field::Descriptors => change_last(list, Op::PlaceDescriptors, 1, 2),
        Field::Dumpable | Field::ProcOwner => change_last(list, Op::SetDumpable, 0, 1),
        Field::CoreCookie => leave_out(list, |step| step.op == Op::MakeCoreCookie),
        Field::StoreBypass
        | Field::IndirectBranch
        | Field::StoreBypassControl
        | Field::IndirectBranchControl => {
            leave_out(list, |step| step.op == Op::RestrictSpeculation);
        }
        Field::NoNewPrivs => leave_out(list, |step| step.op == Op::SetNoNewPrivs),
        // The mount is made before there is a child.
        Field::RootIds => {}
        // No step of the child decides these.
        Field::NetworkNamespaceOwner
        | Field::ForeignSockets
        | Field::MountNamespace
        | Field::PidNamespaceOwner
        | Field::SignalScope
        | Field::Threads
        | Field::TimeNamespace
        | Field::DeathSignal
        | Field::Subreaper => {}
    }
}

fn leave_out(list: &mut StepList, is_it: impl Fn(&Planned) -> bool) {
    list.steps_mut().retain(|step| !is_it(step));
}

fn leave_out_last(list: &mut StepList, op: Op) {
    let steps = list.steps_mut();
    if let Some(at) = steps.iter().rposition(|step| step.op == op) {
        steps.remove(at);
    }
}

fn change(list: &mut StepList, change: impl FnMut(&mut Planned)) {
    list.steps_mut().iter_mut().for_each(change);
}

fn set(step: &mut Planned, at: usize, argument: Argument) {
    if let Some(place) = step.arguments.get_mut(at) {
        *place = argument;
    }
}

fn change_last(list: &mut StepList, op: Op, at: usize, number: u64) {
    if let Some(step) = list.steps_mut().iter_mut().rfind(|step| step.op == op) {
        set(step, at, number.into());
    }
}

/// Leaves one namespace out of the one unshare.
fn keep_namespace(list: &mut StepList, layer: Layer) {
    let flags = namespaces::UNSHARED.iter().filter(|(of, _)| *of == layer);
    let kept = flags.fold(0, |all, (_, flag)| all | flag);
    change(list, |step| {
        if let (Op::Unshare, [Argument::Number(flags), ..]) = (step.op, &mut step.arguments) {
            *flags &= !kept;
        }
    });
}

/// Raises a capability in the ambient set and lets it stay in the others,
/// without which the kernel takes it away.
fn raise_ambient(list: &mut StepList) {
    change_last(list, Op::SetCapabilities, 0, KEPT);
    change_last(list, Op::SetCapabilities, 1, KEPT);
    let steps = list.steps_mut();
    let Some(at) = steps.iter().position(|step| step.op == Op::ClearAmbient) else {
        return;
    };
    let layer = Some(Layer::Capabilities);
    let numbers = |numbers: [u64; 2]| {
        let [first, second] = numbers.map(Argument::Number);
        let none = Argument::Number(0);
        [first, second, none, none, none]
    };
    let inherit = Planned {
        layer,
        op: Op::SetCapabilities,
        arguments: numbers([u64::MAX, KEPT]),
    };
    let raise = Planned {
        layer,
        op: Op::RaiseAmbient,
        arguments: numbers([KEPT, 0]),
    };
    steps.splice(at..=at, [inherit, raise]);
}
