//! What the read-back should find.
//!
//! It is worked out while the child is busy with its steps: nothing in it
//! comes from there.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cloison_linux::host::attribute;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::IdRange;
use crate::Layer;
use crate::cgroup::Wanted;
use crate::error::Error;
use crate::kernel::Feature;
use crate::layers::covers::Cover;
use crate::layers::mounts::{Attached, NODES};
use crate::layers::{capabilities, inherited, rlimits};
use crate::plan::Composition;
use crate::plan::Prepared;
use crate::posture::{
    DescriptorEntry, Field, LIMITS, Limit, MountEntry, Owner, Posture, Value, Vantage,
};
use crate::proc::escaped;
use crate::spawner::io_errno;
use crate::spec::{Limits, Proc};
use crate::steps::{Slot, StepList};

/// `SCHED_OTHER` and no I/O class.
const NONE: i64 = 0;

/// What a plan knows of the posture to come.
#[derive(Debug)]
pub(crate) struct Expectation {
    layers: Vec<Layer>,
    ids: IdRange,
    user: u16,
    group: u16,
    proc: Proc,
    wants_sysfs: bool,
    limits: Limits,
    cgroup_limits: Wanted,
    mounts: Vec<Attached>,
    /// What stands over the entries of proc, in order.
    covers: Vec<String>,
    speculation: Vec<Field>,
    /// What else its composition found out.
    found: Found,
}

/// What only composing a plan tells.
#[derive(Debug)]
pub(super) struct Found {
    /// The ranges of ids that the entries of the root are shown with.
    pub(super) root_ranges: BTreeSet<u32>,
    /// The capabilities that stay.
    pub(super) kept: u64,
    /// How many seccomp programs are installed.
    pub(super) filters: usize,
    /// The descriptors that the command keeps, in order.
    pub(super) slots: Vec<Slot>,
    /// Where those lead cannot be foretold.
    pub(super) has_terminal: bool,
    /// An init's program is kept as well.
    pub(super) has_program: bool,
    /// Process 1 takes the terminal.
    pub(super) takes_terminal: bool,
}

impl Expectation {
    pub(super) fn new(
        composition: &mut Composition<'_>,
        cgroup_limits: Wanted,
        found: Found,
    ) -> Self {
        let spec = composition.spec;
        Self {
            layers: Layer::ALL
                .into_iter()
                .filter(|layer| composition.applies(*layer))
                .collect(),
            ids: composition.ids,
            user: spec.user,
            group: spec.group,
            proc: spec.proc,
            wants_sysfs: composition.wants_sysfs(),
            limits: spec.limits,
            cgroup_limits,
            mounts: std::mem::take(&mut composition.mounts),
            covers: covers(&composition.covers),
            speculation: [
                (Feature::StoreBypassControl, Field::StoreBypassControl),
                (Feature::IndirectBranchControl, Field::IndirectBranchControl),
            ]
            .into_iter()
            .filter_map(|(feature, field)| composition.kernel.has(feature).then_some(field))
            .collect(),
            found,
        }
    }

    fn applies(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }

    /// The posture that a child of `list` and `prepared` should have, seen
    /// from there.
    pub(crate) fn posture(
        &self,
        steps: &StepList,
        prepared: &Prepared,
        vantage: &Vantage,
        inherited_filters: u32,
    ) -> Result<Posture, Error> {
        let Found {
            kept,
            filters,
            has_program,
            takes_terminal,
            ..
        } = self.found;
        // It owns what the host makes.
        let host_user = own_namespace(c"/proc/self/ns/user")?;
        let mut expected = Posture::new();
        for &layer in &self.layers {
            expected.expect_unreadable(layer);
            match layer {
                Layer::Cgroup => {
                    let paths = prepared.cgroup.membership();
                    expected.expect(Field::Cgroups, Value::Cgroups(paths));
                }
                Layer::CgroupLimits => {
                    for (field, bound) in LIMITS {
                        let value = prepared.cgroup.expected(&self.cgroup_limits, bound)?;
                        expected.expect(field, value);
                    }
                }
                Layer::DeviceControl => {
                    // One that was never applied is expected all the same.
                    let devices = prepared.cgroup.expected_devices();
                    let devices = devices.unwrap_or(Value::Unknown);
                    expected.expect(Field::DevicesAllowed, devices);
                }
                Layer::NetworkNamespace => {
                    let network = match &prepared.network {
                        Some(network) => Value::Number(inode(network.as_fd())?),
                        // It comes with the clone.
                        None => Value::OtherThan(own_namespace(c"/proc/thread-self/ns/net")?),
                    };
                    expected.expect(Field::NetworkNamespace, network);
                    expected.expect(Field::NetworkNamespaceOwner, Value::Number(host_user));
                }
                Layer::UserNamespace => self.user(prepared, &mut expected)?,
                Layer::MountNamespace => {
                    expected.expect(Field::MountNamespace, Value::Owner(Owner::Own));
                    let owner = if self.applies(Layer::UserNamespace) {
                        inode(prepared.user.as_fd())?
                    } else {
                        host_user
                    };
                    expected.expect(Field::MountNamespaceOwner, Value::Number(owner));
                    expected.expect(Field::Mounts, mounts(&self.mounts));
                    let ranges = self.found.root_ranges.iter().map(u32::to_string);
                    expected.expect(Field::RootIds, list(ranges));
                }
                Layer::PidNamespace => {
                    expected.expect(Field::PidNamespace, Value::Owner(Owner::Own));
                    expected.expect(Field::PidNamespaceOwner, Value::Number(host_user));
                    expected.expect(Field::InnerPid, Value::Number(1));
                }
                Layer::IpcNamespace => own(&mut expected, Field::IpcNamespace),
                Layer::UtsNamespace => own(&mut expected, Field::UtsNamespace),
                Layer::CgroupNamespace => own(&mut expected, Field::CgroupNamespace),
                Layer::Proc => {
                    let options = match self.proc {
                        Proc::Pid => "/proc hidepid=invisible subset=pid",
                        Proc::Covered => "/proc hidepid=invisible",
                    };
                    expected.expect(Field::ProcOptions, list([options]));
                    expected.expect(Field::ProcCovers, list(self.covers.iter().cloned()));
                }
                Layer::Sysfs => {
                    let shown = self.wants_sysfs.then_some("/sys");
                    expected.expect(Field::SysfsOptions, list(shown));
                }
                Layer::Devices => {
                    let mut nodes: Vec<String> = NODES
                        .iter()
                        .map(|(name, (major, minor))| format!("{name} c {major}:{minor} 0666"))
                        .collect();
                    nodes.sort_unstable();
                    expected.expect(Field::DeviceNodes, Value::List(nodes));
                }
                Layer::Devpts => {
                    let text = format!(
                        "/dev/pts gid={} max={} mode=620 ptmxmode=666 uid={}",
                        self.ids.host_id(5),
                        self.limits.terminals_max,
                        self.ids.host_id(self.user),
                    );
                    expected.expect(Field::DevptsOptions, list([text]));
                }
                Layer::Capabilities => {
                    for field in [
                        Field::Inheritable,
                        Field::Permitted,
                        Field::Effective,
                        Field::Bounding,
                        Field::Ambient,
                    ] {
                        expected.expect(field, Value::Capabilities(kept));
                    }
                }
                Layer::Securebits => {
                    expected.expect(Field::Securebits, Value::Bits(capabilities::SECUREBITS));
                }
                Layer::NoNewPrivs => {
                    expected.expect(Field::NoNewPrivs, Value::Number(1));
                }
                Layer::Seccomp => {
                    let filters = i64::try_from(filters)
                        .map_or(i64::MAX, |count| count + i64::from(inherited_filters));
                    expected.expect(Field::SeccompMode, Value::Number(2));
                    expected.expect(Field::SeccompFilters, Value::Number(filters));
                }
                Layer::LandlockFiles => refused(&mut expected, Field::MakeNode, Errno::EACCES),
                Layer::LandlockNetwork => refused(&mut expected, Field::BindTcp, Errno::EACCES),
                Layer::LandlockScope => {
                    refused(&mut expected, Field::ConnectAbstract, Errno::EPERM)
                }
                Layer::Rlimits => {
                    expected.expect(Field::Limits, limits(&self.limits));
                }
                Layer::SessionKeyring => own(&mut expected, Field::SessionKeyring),
                Layer::Session => {
                    // Among the caller's processes its session has any number.
                    if self.applies(Layer::PidNamespace) {
                        expected.expect(Field::InnerSession, Value::Number(1));
                    }
                    // A terminal has a number that only its devpts knows.
                    if !takes_terminal {
                        expected.expect(Field::Terminal, Value::Number(0));
                    }
                }
                Layer::InheritedState => {
                    inherited(prepared, vantage, &mut expected)?;
                    // What version 2 cannot give it gives in silence as another.
                    if let (true, Some(list)) = (
                        self.applies(Layer::CgroupLimits),
                        self.cgroup_limits.processors(),
                    ) {
                        expected.expect(Field::Affinity, Value::Text(list.to_owned()));
                    }
                }
                Layer::Descriptors => {
                    let links = self.links(steps, prepared)?;
                    expected.expect(Field::Descriptors, descriptors(links, has_program));
                }
                Layer::NotDumpable => {
                    expected.expect(Field::Dumpable, Value::Number(0));
                    expected.expect(Field::ProcOwner, Value::Number(0));
                }
                Layer::CoreScheduling => own(&mut expected, Field::CoreCookie),
                Layer::SpeculationControl => {
                    for field in &self.speculation {
                        expected.expect(*field, Value::Bits(FORCE_DISABLED));
                        if let Some((shown, words)) = shown_as(*field) {
                            expected.expect(shown, Value::Text(words.to_owned()));
                        }
                    }
                }
            }
        }
        Ok(expected)
    }

    fn user(&self, prepared: &Prepared, expected: &mut Posture) -> Result<(), Error> {
        let id = inode(prepared.user.as_fd())?;
        let map = format!("0 {} {}", self.ids.first(), IdRange::COUNT);
        expected.expect(Field::UserNamespace, Value::Number(id));
        expected.expect(Field::UidMap, list([map.clone()]));
        expected.expect(Field::GidMap, list([map]));
        expected.expect(Field::UserIds, Value::ids(self.ids.host_id(self.user)));
        expected.expect(Field::GroupIds, Value::ids(self.ids.host_id(self.group)));
        expected.expect(Field::Groups, list::<String>([]));
        expected.expect(Field::NestedNamespaces, list::<String>([]));
        Ok(())
    }

    /// What each kept descriptor leads to, in the kernel's words. A terminal
    /// has a name that only its devpts knows.
    fn links(&self, steps: &StepList, prepared: &Prepared) -> Result<Vec<Option<String>>, Error> {
        let slots = self.found.slots.iter().enumerate();
        slots
            .map(|(at, slot)| {
                let is_terminal = self.found.has_terminal && at < 3;
                let Some(kept) = steps.at(*slot).filter(|_| !is_terminal) else {
                    return Ok(None);
                };
                let kept = prepared.descriptor(kept);
                let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
                let target = std::fs::read_link(path)
                    .map_err(|error| Error::prepare("a look at a descriptor", io_errno(&error)))?;
                Ok(Some(escaped(target.as_os_str().as_encoded_bytes())))
            })
            .collect()
    }
}

/// `PR_SPEC_PRCTL | PR_SPEC_FORCE_DISABLE`.
const FORCE_DISABLED: u64 = 1 | 8;

/// Where and how the kernel shows a control that is disabled for good.
///
/// # Source
/// proc_pid_status(5); fs/proc/array.c, `task_seccomp`
fn shown_as(control: Field) -> Option<(Field, &'static str)> {
    match control {
        Field::StoreBypassControl => Some((Field::StoreBypass, "thread force mitigated")),
        Field::IndirectBranchControl => Some((Field::IndirectBranch, "conditional force disabled")),
        _ => None,
    }
}

fn own(expected: &mut Posture, field: Field) {
    expected.expect(field, Value::Owner(Owner::Own));
}

fn refused(expected: &mut Posture, field: Field, errno: Errno) {
    expected.expect(field, Value::Outcome(errno as i32));
}

fn list<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
    Value::List(texts.into_iter().map(Into::into).collect())
}

fn inode(descriptor: BorrowedFd<'_>) -> Result<i64, Error> {
    let status = fstat(descriptor).map_err(|errno| Error::prepare("a namespace", errno))?;
    Ok(i64::try_from(status.st_ino).unwrap_or(i64::MAX))
}

/// A namespace of the caller.
fn own_namespace(path: &'static CStr) -> Result<i64, Error> {
    let status =
        nix::sys::stat::stat(path).map_err(|errno| Error::prepare("a namespace", errno))?;
    Ok(i64::try_from(status.st_ino).unwrap_or(i64::MAX))
}

fn mounts(attached: &[Attached]) -> Value {
    let names = [
        (attribute::READ_ONLY, "ro"),
        (attribute::NO_SUID, "nosuid"),
        (attribute::NO_DEV, "nodev"),
        (attribute::NO_EXEC, "noexec"),
        (attribute::IDMAP, "idmapped"),
    ];
    let entries = attached.iter().map(|mount| {
        let mut options: Vec<String> = names
            .iter()
            .filter(|(bit, _)| mount.attributes & bit != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect();
        options.sort_unstable();
        MountEntry {
            mount_point: crate::proc::escaped(mount.target.as_bytes()),
            fs_type: (!mount.file_system.is_empty()).then(|| mount.file_system.to_owned()),
            device: mount.device,
            options,
            is_propagating: false,
        }
    });
    Value::Mounts(entries.collect())
}

/// As [`Field::ProcCovers`] is read.
fn covers(covers: &[Cover]) -> Vec<String> {
    let mut all: Vec<String> = covers
        .iter()
        .map(|cover| {
            let [entry, source] =
                [&cover.entry, &cover.source].map(|name| crate::proc::escaped(name.as_bytes()));
            format!("{entry}=/{source}")
        })
        .collect();
    all.sort_unstable();
    all
}

fn limits(limits: &Limits) -> Value {
    let decided = rlimits::decided(limits);
    let entries = decided.iter().map(|&(resource, value)| Limit {
        resource: u32::try_from(resource).unwrap_or(u32::MAX),
        soft: value,
        hard: value,
    });
    Value::Limits(entries.collect())
}

fn inherited(prepared: &Prepared, vantage: &Vantage, expected: &mut Posture) -> Result<(), Error> {
    for field in [
        Field::SignalsBlocked,
        Field::SignalsIgnored,
        Field::Personality,
    ] {
        expected.expect(field, Value::Bits(0));
    }
    for field in [
        Field::Nice,
        Field::SchedulerPolicy,
        Field::MemoryPolicy,
        Field::IoPriority,
        Field::DeathSignal,
        Field::Subreaper,
    ] {
        expected.expect(field, Value::Number(NONE));
    }
    expected.expect(Field::Umask, Value::Mode(0o022));
    expected.expect(Field::Threads, Value::Number(1));
    let score = i64::from(inherited::OOM_SCORE);
    expected.expect(Field::OomScoreAdjustment, Value::Number(score));
    if let Some(owner) = vantage.owner_of_time() {
        expected.expect(Field::TimeNamespace, Value::Owner(owner));
    }
    if let Some(processors) = prepared.cgroup.processors()? {
        expected.expect(Field::Affinity, Value::Text(processors));
    }
    Ok(())
}

/// The streams and sockets, the report, the init's program. Where each leads
/// is compared where it can be foretold.
fn descriptors(links: Vec<Option<String>>, has_program: bool) -> Value {
    let report = [None];
    let program = has_program.then(|| Some("/memfd:cloison (deleted)".to_owned()));
    let entries = (0..)
        .zip(links.into_iter().chain(report).chain(program))
        .map(|(number, target)| DescriptorEntry { number, target });
    Value::Descriptors(entries.collect())
}
