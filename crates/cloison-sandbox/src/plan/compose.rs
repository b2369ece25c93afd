//! The order of the child, as one function.

use std::os::fd::{AsFd, OwnedFd};

use cloison_linux::steps::Op;

use crate::error::{Error, Refused};
use crate::kernel::{Feature, Kernel, LayerVerdict};
use crate::layers::command::Sockets;
use crate::layers::covers::{self, Cover};
use crate::layers::late::{self, LateTrees};
use crate::layers::mounts::{Attached, Trees, attach, attach_late, devpts, open_terminal, pivot};
use crate::layers::{
    capabilities, cgroup, command, descriptors, inherited, landlock, namespaces, rlimits, root,
    seccomp, session, speculation,
};
use crate::namespaces::InotifyLimits;
use crate::plan::bounds;
use crate::plan::breaking::break_field;
use crate::plan::expect::{Expectation, Found};
use crate::plan::{Io, Plan, Prepared, Streams, Weakening, sockets};
use crate::posture::Field;
use crate::seccomp::Filters;
use crate::spawner::{io_errno, program};
use crate::spec::{Init, Root};
use crate::steps::{Argument, Data, Descriptor, Slot, StepList};
use crate::{IdMapping, IdRange, Layer, Spec, Waivers};

/// The most sockets that can be handed in.
const SOCKETS_MAX: usize = 28;
/// The most trees that a spec can name.
pub(crate) const MOUNTS_MAX: usize = 64;

/// A plan while it is made.
pub(crate) struct Composition<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) ids: IdRange,
    pub(crate) prepared: &'a Prepared,
    pub(crate) kernel: &'a Kernel,
    pub(crate) list: StepList,
    /// The mounts that the sandbox should have.
    pub(crate) mounts: Vec<Attached>,
    /// What a weakened plan attaches after the copy.
    pub(crate) late: Vec<(Slot, Data)>,
    /// What stands over the entries of proc.
    pub(crate) covers: Vec<Cover>,
    applied: Vec<Layer>,
    weakenings: &'a [Weakening],
}

impl Composition<'_> {
    /// Whether the layer is part of this plan.
    pub(crate) fn applies(&self, layer: Layer) -> bool {
        self.applied.contains(&layer)
    }

    /// Whether the child leaves out the layer that the plan expects.
    pub(crate) fn is_broken(&self, layer: Layer) -> bool {
        self.weakenings
            .iter()
            .any(|w| matches!(w, Weakening::Broken(broken) if *broken == layer))
    }

    /// Whether a tree is attached only after the copy.
    pub(crate) fn attaches_late(&self, target: &str) -> bool {
        self.weakenings
            .iter()
            .any(|w| matches!(w, Weakening::Unlocked(path) if target.starts_with(path)))
    }

    /// Whether what the field tells of is to be left out, though expected.
    pub(crate) fn breaks(&self, field: Field) -> bool {
        self.weakenings
            .iter()
            .any(|w| matches!(w, Weakening::BrokenField(broken) if *broken == field))
    }

    pub(crate) fn kernel_has_noswap(&self) -> bool {
        self.kernel.has(Feature::TmpfsNoswap)
    }
}

/// The layers of this plan.
///
/// # Errors
/// [`Error::Unavailable`] for the first that the kernel cannot give.
fn applied(
    kernel: &Kernel,
    waivers: &Waivers,
    weakenings: &[Weakening],
) -> Result<Vec<Layer>, Error> {
    let mut applied = Vec::with_capacity(Layer::ALL.len());
    for layer in Layer::ALL {
        let is_left_out = weakenings
            .iter()
            .any(|w| matches!(w, Weakening::Without(without) if *without == layer));
        if is_left_out {
            continue;
        }
        match kernel.verdict(layer, waivers) {
            LayerVerdict::Applied => applied.push(layer),
            LayerVerdict::NotNeeded(_) | LayerVerdict::Waived(_) => {}
            LayerVerdict::Unavailable(unavailable) => return Err(Box::new(unavailable).into()),
        }
    }
    Ok(applied)
}

fn check(spec: &Spec, prepared: &Prepared, io: &Io) -> Result<IdRange, Error> {
    let ids = spec.ids.ok_or(Refused::NoIds)?;
    let mapped = prepared.user.ids();
    if mapped != ids {
        return Err(Refused::OtherIds {
            mapped: mapped.first(),
            asked: ids.first(),
        }
        .into());
    }
    if prepared.user.inotify() != InotifyLimits::of(&spec.limits) {
        return Err(Refused::OtherInotify.into());
    }
    check_spec(spec)?;
    if spec.init == Init::Off && prepared.exec.is_some() {
        return Err(Refused::ExecWithoutInit.into());
    }
    if let Root::Own(own) = &spec.root {
        let is_it =
            |prepared: &IdMapping| prepared.on_disk() == own.disk_ids && prepared.shown() == ids;
        if !prepared.tree_ids().is_some_and(is_it) {
            return Err(Refused::OtherDiskIds.into());
        }
    }
    if io.sockets.len() > SOCKETS_MAX {
        return Err(Refused::Sockets(io.sockets.len()).into());
    }
    if spec.limits.terminals_max == 0 && matches!(io.streams, Streams::Terminal) {
        return Err(Refused::NoTerminals.into());
    }
    Ok(ids)
}

/// What can be refused of `spec` before anything is opened or made.
pub(crate) fn check_spec(spec: &Spec) -> Result<(), Refused> {
    command::check(spec)?;
    capabilities::kept(spec)?;
    bounds::check(spec)?;
    if spec.mounts.len() > MOUNTS_MAX {
        return Err(Refused::Mounts(spec.mounts.len()));
    }
    root::check_paths(spec)
}

pub(super) fn compose(
    spec: &Spec,
    kernel: &Kernel,
    waivers: &Waivers,
    mut prepared: Prepared,
    io: Io,
    mut weakenings: Vec<Weakening>,
) -> Result<Plan, Error> {
    let ids = check(spec, &prepared, &io)?;
    if let Some(listener) = &mut prepared.exec {
        let renewed = listener.renew();
        renewed.map_err(|errno| Error::prepare("the socket for exec", errno))?;
    }
    let applied = applied(kernel, waivers, &weakenings)?;
    if applied.contains(&Layer::NetworkNamespace) {
        sockets::check(&io, prepared.network.as_ref().map(AsFd::as_fd))?;
    }
    let limits = cgroup::limit(&mut prepared.cgroup, spec, &applied, &weakenings)?;
    let leaks = take_leaks(&mut weakenings);
    let filters = take_filters(&mut weakenings);
    let mut composition = Composition {
        spec,
        ids,
        prepared: &prepared,
        kernel,
        list: StepList::default(),
        mounts: Vec::with_capacity(16),
        late: Vec::new(),
        covers: Vec::new(),
        applied,
        weakenings: &weakenings,
    };
    let composition = &mut composition;
    let kept = capabilities::kept(spec)?;

    let made = |errno| Error::prepare("/dev", errno);
    // Before the root, whose layer on disk may be made for this launch.
    let asked = root::mounts(composition)?;
    let root::Base {
        trees: mut base,
        overlay,
        ranges,
    } = root::base(composition)?;
    let made_root = overlay.is_some().then_some(landlock::WRITE_TREE);
    let pts = devpts(composition).map_err(made)?;
    let (terminal, streams) = open_streams(io.streams, || open_terminal(&pts).map_err(made))?;
    base.push(composition.prepared.devices().tree().map_err(made)?);
    base.push(pts);
    let covers = covers::prepare(composition)?;
    let credentials = late::credentials(composition)
        .map_err(|errno| Error::prepare("/run/credentials", errno))?;
    let to_fill = credentials.mount.try_clone();
    let early = base.iter().chain([&credentials]).chain(&asked);
    let ruleset = landlock::prepare(composition, early)
        .map_err(|errno| Error::prepare("the Landlock ruleset", errno))?;
    let late = LateTrees::decide(composition, ruleset);
    let keepers =
        late::keepers(composition).map_err(|errno| Error::prepare("descriptors", errno))?;

    composition.list.clone_flags = namespaces::at_clone(composition);
    descriptors::close_others(composition);
    cgroup::steps(composition);
    namespaces::enter_network(composition);
    let trees = Trees {
        base,
        overlay,
        keepers,
        credentials,
        asked,
        covers,
    };
    attach(composition, trees);
    pivot(composition);
    inherited::early(composition);
    rlimits::steps(composition);
    namespaces::join_user_and_leave(composition);
    attach_late(composition);
    capabilities::become_root(composition);
    namespaces::host_name(composition);
    inherited::late(composition);
    let has_terminal = terminal.is_some();
    let sockets = io.sockets.len();
    let slots = keep(composition, streams, io.sockets, leaks);
    let listens = composition.prepared.exec.is_some();
    session::steps(composition, slots.first().copied().filter(|_| has_terminal));
    speculation::steps(composition);
    capabilities::steps(composition, kept);
    composition.list.push(None, Op::BindAbstract, []);
    landlock::steps(composition, ruleset, made_root);
    composition.list.push(None, Op::Announce, []);
    descriptors::not_dumpable(composition);
    let port = u64::from(landlock::denied_port(composition));
    composition
        .list
        .push(None, Op::Gather, [port.into(), 1.into()]);
    command::enter_working_directory(composition);
    let program = own_program(composition)?;
    descriptors::steps(composition, &slots, program);
    let installed = seccomp::steps(composition, filters)?;
    composition.list.push(None, Op::Report, []);
    composition.list.push(None, Op::Wait, []);
    let sockets = Sockets {
        handed_in: sockets,
        listener: listens.then_some(3 + sockets),
    };
    command::steps(composition, &sockets, has_terminal);

    let found = Found {
        kept,
        root_ranges: ranges,
        filters: installed,
        // What a weakened plan leaks is not expected.
        slots: slots.into_iter().take(sockets.behind()).collect(),
        has_terminal,
        has_program: program.is_some(),
        takes_terminal: has_terminal && spec.init == Init::Off,
    };
    let expectation = Expectation::new(composition, limits, found);
    weaken(composition);
    let list = std::mem::take(&mut composition.list);
    Ok(Plan {
        list,
        expectation,
        has_init: spec.init == Init::On,
        prepared,
        terminal,
        late,
        credentials: to_fill
            .map_err(|error| Error::prepare("/run/credentials", io_errno(&error)))?,
    })
}

/// A stream that is handed in, or a side of the sandbox's own terminal.
type StreamsOpened = (Option<OwnedFd>, [OwnedFd; 3]);

fn open_streams(
    streams: Streams,
    open_terminal: impl FnOnce() -> Result<(OwnedFd, OwnedFd), Error>,
) -> Result<StreamsOpened, Error> {
    match streams {
        Streams::Descriptors {
            stdin,
            stdout,
            stderr,
        } => Ok((None, [stdin, stdout, stderr])),
        Streams::Terminal => {
            let (ours, theirs) = open_terminal()?;
            let copy = || {
                theirs
                    .try_clone()
                    .map_err(|error| Error::prepare("the terminal", io_errno(&error)))
            };
            Ok((Some(ours), [copy()?, copy()?, theirs]))
        }
    }
}

/// Adds what process 1 keeps, in the order of its numbers: the command's
/// streams and sockets, then that on which an init listens.
fn keep(
    composition: &mut Composition<'_>,
    streams: [OwnedFd; 3],
    sockets: Vec<OwnedFd>,
    leaks: Vec<OwnedFd>,
) -> Vec<Slot> {
    let list = &mut composition.list;
    let kept = streams.into_iter().chain(sockets);
    let mut slots: Vec<Slot> = kept.map(|descriptor| list.own(descriptor)).collect();
    if composition.prepared.exec.is_some() {
        slots.push(list.descriptor(Descriptor::ExecListener));
    }
    slots.extend(leaks.into_iter().map(|leak| list.own(leak)));
    slots
}

/// The init, if there is one: readable by nobody inside.
fn own_program(composition: &mut Composition<'_>) -> Result<Option<Slot>, Error> {
    if composition.spec.init == Init::Off {
        return Ok(None);
    }
    let mode = if composition.applies(Layer::NotDumpable) {
        0o111
    } else {
        0o755
    };
    let program = program(mode).map_err(|errno| Error::prepare("the init's program", errno))?;
    Ok(Some(composition.list.own(program)))
}

fn take_leaks(weakenings: &mut Vec<Weakening>) -> Vec<OwnedFd> {
    let mut leaks = Vec::new();
    let mut others = Vec::new();
    for weakening in std::mem::take(weakenings) {
        match weakening {
            Weakening::Leak(descriptor) => leaks.push(descriptor),
            other => others.push(other),
        }
    }
    *weakenings = others;
    leaks
}

fn take_filters(weakenings: &mut Vec<Weakening>) -> Option<Filters> {
    let at = weakenings
        .iter()
        .position(|weakening| matches!(weakening, Weakening::Seccomp(_)))?;
    match weakenings.remove(at) {
        Weakening::Seccomp(filters) => Some(filters),
        _ => None,
    }
}

/// Breaks what the weakenings break, after everything was planned.
fn weaken(composition: &mut Composition<'_>) {
    for weakening in composition.weakenings {
        match weakening {
            Weakening::Broken(layer) => break_steps(&mut composition.list, *layer),
            Weakening::BrokenField(field) => break_field(&mut composition.list, *field),
            Weakening::Swapped(at) if at + 1 < composition.list.steps().len() => {
                composition.list.steps_mut().swap(*at, at + 1);
            }
            _ => {}
        }
    }
}

/// Leaves out the steps of one layer, or makes them do nothing.
fn break_steps(list: &mut StepList, layer: Layer) {
    for (cloned, flag) in namespaces::CLONED {
        if cloned == layer {
            list.clone_flags &= !flag;
        }
    }
    for (unshared, flag) in namespaces::UNSHARED {
        if unshared == layer {
            for step in list.steps_mut() {
                if let (Op::Unshare, [Argument::Number(flags), ..]) = (step.op, &mut step.arguments)
                {
                    *flags &= !flag;
                }
            }
        }
    }
    if layer == Layer::Cgroup {
        list.cgroup = None;
    }
    let nothing = list.list::<&str>([]);
    for step in list.steps_mut() {
        if step.layer != Some(layer) {
            continue;
        }
        match step.op {
            // Without a proc later steps would fail: it loses its options.
            Op::MountNew if layer == Layer::Proc => {
                if let Some(options) = step.arguments.get_mut(2) {
                    *options = nothing.into();
                }
            }
            Op::SetDumpable => step.arguments = [Argument::Number(1); 5],
            _ => {}
        }
    }
    list.steps_mut().retain(|step| {
        // What stands in /dev cannot be attached without it.
        let layer = if step.layer == Some(Layer::Devpts) && layer == Layer::Devices {
            Layer::Devpts
        } else {
            layer
        };
        step.layer != Some(layer)
            || matches!(step.op, Op::SetDumpable)
            || layer == Layer::MountNamespace
            || (layer == Layer::Proc && step.op == Op::MountNew)
    });
}
