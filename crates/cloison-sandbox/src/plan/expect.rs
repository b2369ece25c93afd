//! What the read-back should find.

use std::os::fd::{AsFd, BorrowedFd};

use cloison_linux::host::attribute;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::Layer;
use crate::error::Error;
use crate::kernel::Feature;
use crate::layers::mounts::{Attached, NODES};
use crate::layers::{capabilities, inherited, rlimits};
use crate::plan::Composition;
use crate::posture::{DescriptorEntry, Field, Limit, MountEntry, Owner, Posture, Value};
use crate::spec::Proc;

/// `SCHED_OTHER` and no I/O class.
const NONE: i64 = 0;

pub(super) fn posture(
    composition: &Composition<'_>,
    kept: u64,
    filters: usize,
    links: &[Option<String>],
    (has_program, takes_terminal): (bool, bool),
) -> Result<Posture, Error> {
    let mut expected = Posture::new();
    for layer in Layer::ALL {
        if !composition.applies(layer) {
            continue;
        }
        expected.expect_unreadable(layer);
        match layer {
            Layer::Cgroup => {
                let paths = composition.prepared.cgroup.membership();
                expected.expect(Field::Cgroups, Value::Cgroups(paths));
            }
            Layer::NetworkNamespace => {
                let id = inode(composition.prepared.network.as_fd())?;
                expected.expect(Field::NetworkNamespace, Value::Number(id));
                expected.expect(Field::NetworkNamespaceOwner, Value::Number(own_user()?));
            }
            Layer::UserNamespace => user(composition, &mut expected)?,
            Layer::MountNamespace => {
                expected.expect(Field::MountNamespace, Value::Owner(Owner::Own));
                let owner = if composition.applies(Layer::UserNamespace) {
                    inode(composition.prepared.user.as_fd())?
                } else {
                    own_user()?
                };
                expected.expect(Field::MountNamespaceOwner, Value::Number(owner));
                expected.expect(Field::Mounts, mounts(&composition.mounts));
            }
            Layer::PidNamespace => {
                expected.expect(Field::PidNamespace, Value::Owner(Owner::Own));
                expected.expect(Field::PidNamespaceOwner, Value::Number(own_user()?));
                expected.expect(Field::InnerPid, Value::Number(1));
            }
            Layer::IpcNamespace => own(&mut expected, Field::IpcNamespace),
            Layer::UtsNamespace => own(&mut expected, Field::UtsNamespace),
            Layer::CgroupNamespace => own(&mut expected, Field::CgroupNamespace),
            Layer::Proc => {
                let options = match composition.spec.proc {
                    Proc::Pid => "/proc hidepid=invisible subset=pid",
                };
                expected.expect(Field::ProcOptions, list([options]));
            }
            Layer::Sysfs => {
                let shown = composition.wants_sysfs().then_some("/sys");
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
                let spec = composition.spec;
                let text = format!(
                    "/dev/pts gid={} max={} mode=620 ptmxmode=666 uid={}",
                    composition.ids.host_id(5),
                    spec.limits.terminals_max,
                    composition.ids.host_id(spec.user),
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
                let filters = i64::try_from(filters).unwrap_or(i64::MAX);
                expected.expect(Field::SeccompMode, Value::Number(2));
                expected.expect(Field::SeccompFilters, Value::Number(filters));
            }
            Layer::LandlockFiles => refused(&mut expected, Field::MakeNode, Errno::EACCES),
            Layer::LandlockNetwork => refused(&mut expected, Field::BindTcp, Errno::EACCES),
            Layer::LandlockScope => refused(&mut expected, Field::ConnectAbstract, Errno::EPERM),
            Layer::Rlimits => {
                expected.expect(Field::Limits, limits(composition));
            }
            Layer::SessionKeyring => own(&mut expected, Field::SessionKeyring),
            Layer::Session => {
                // Among the caller's processes its session has any number.
                if composition.applies(Layer::PidNamespace) {
                    expected.expect(Field::InnerSession, Value::Number(1));
                }
                // A terminal has a number that only its devpts knows.
                if !takes_terminal {
                    expected.expect(Field::Terminal, Value::Number(0));
                }
            }
            Layer::InheritedState => inherited(composition, &mut expected)?,
            Layer::Descriptors => {
                expected.expect(Field::Descriptors, descriptors(links, has_program));
            }
            Layer::NotDumpable => {
                expected.expect(Field::Dumpable, Value::Number(0));
                expected.expect(Field::ProcOwner, Value::Number(0));
            }
            Layer::CoreScheduling => own(&mut expected, Field::CoreCookie),
            Layer::SpeculationControl => {
                for (feature, field) in [
                    (Feature::StoreBypassControl, Field::StoreBypassControl),
                    (Feature::IndirectBranchControl, Field::IndirectBranchControl),
                ] {
                    if composition.kernel.has(feature) {
                        expected.expect(field, Value::Bits(FORCE_DISABLED));
                    }
                }
            }
        }
    }
    Ok(expected)
}

/// `PR_SPEC_PRCTL | PR_SPEC_FORCE_DISABLE`.
const FORCE_DISABLED: u64 = 1 | 8;

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

/// The caller's own user namespace, which owns what the host makes.
fn own_user() -> Result<i64, Error> {
    let status = nix::sys::stat::stat("/proc/self/ns/user")
        .map_err(|errno| Error::prepare("/proc/self/ns/user", errno))?;
    Ok(i64::try_from(status.st_ino).unwrap_or(i64::MAX))
}

fn user(composition: &Composition<'_>, expected: &mut Posture) -> Result<(), Error> {
    let (spec, ids) = (composition.spec, composition.ids);
    let id = inode(composition.prepared.user.as_fd())?;
    let map = format!("0 {} {}", ids.first(), crate::IdRange::COUNT);
    expected.expect(Field::UserNamespace, Value::Number(id));
    expected.expect(Field::UidMap, list([map.clone()]));
    expected.expect(Field::GidMap, list([map]));
    expected.expect(Field::UserIds, Value::ids(ids.host_id(spec.user)));
    expected.expect(Field::GroupIds, Value::ids(ids.host_id(spec.group)));
    expected.expect(Field::Groups, list::<String>([]));
    expected.expect(Field::NestedNamespaces, list(["0"; 4]));
    Ok(())
}

fn mounts(attached: &[Attached]) -> Value {
    let names = [
        (attribute::READ_ONLY, "ro"),
        (attribute::NO_SUID, "nosuid"),
        (attribute::NO_DEV, "nodev"),
        (attribute::NO_EXEC, "noexec"),
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
            device: None,
            options,
            is_propagating: false,
        }
    });
    Value::Mounts(entries.collect())
}

/// Whose the time namespace stays: the caller's, which may be the host's.
fn time_owner() -> Option<Owner> {
    // The links' words: to follow them would make an inode of each.
    let id = |path: &str| std::fs::read_link(path).ok();
    let own = id("/proc/self/ns/time")?;
    Some(if id("/proc/1/ns/time") == Some(own) {
        Owner::Host
    } else {
        Owner::Caller
    })
}

fn limits(composition: &Composition<'_>) -> Value {
    let decided = rlimits::decided(&composition.spec.limits);
    let entries = decided.iter().map(|&(resource, value)| Limit {
        resource: u32::try_from(resource).unwrap_or(u32::MAX),
        soft: value,
        hard: value,
    });
    Value::Limits(entries.collect())
}

fn inherited(composition: &Composition<'_>, expected: &mut Posture) -> Result<(), Error> {
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
    if let Some(owner) = time_owner() {
        expected.expect(Field::TimeNamespace, Value::Owner(owner));
    }
    if let Some(processors) = composition.prepared.cgroup.processors()? {
        expected.expect(Field::Affinity, Value::Text(processors));
    }
    Ok(())
}

/// The streams and sockets, the report, the init's program. Where each leads
/// is compared where it can be foretold.
fn descriptors(links: &[Option<String>], has_program: bool) -> Value {
    let report = [None];
    let program = has_program.then(|| Some("/memfd:cloison (deleted)".to_owned()));
    let entries = (0..)
        .zip(links.iter().cloned().chain(report).chain(program))
        .map(|(number, target)| DescriptorEntry { number, target });
    Value::Descriptors(entries.collect())
}
