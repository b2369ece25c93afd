//! What the kernel says of a process, by its directory in `/proc`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use cloison_linux::host;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, major, minor};

use super::knowledge::Reason;
use super::value::DescriptorEntry;
use super::vantage::{Kind, namespace_id};
use super::{Fact, Field, Value, Vantage, mounts, root, status};
use crate::cgroup::{Bound, Directories, found_devices, memberships, opened};
use crate::proc::fields::{decimal, hexadecimal, signed};
use crate::proc::{Reader, escaped};
use crate::spawner::errno;

/// How many descriptors or device nodes are listed: a tenant may have many.
const ENTRIES_MAX: usize = 4096;

/// Namespaces, mounts, ids and cgroups of the process whose `/proc`
/// directory this is.
pub(super) fn enclosure(process: BorrowedFd<'_>, vantage: &Vantage, facts: &mut Vec<Fact>) {
    let mut reader = Reader::new();
    mounts::facts(text(&mut reader, process, c"mountinfo"), facts);
    let files: [(Field, &CStr, Parser); 4] = [
        (Field::Cgroups, c"cgroup", |text| {
            memberships(text).map(Value::Cgroups)
        }),
        (Field::UidMap, c"uid_map", status::id_map),
        (Field::GidMap, c"gid_map", status::id_map),
        (Field::OomScoreAdjustment, c"oom_score_adj", |text| {
            signed(text.trim_ascii()).map(Value::Number)
        }),
    ];
    parsed(&mut reader, process, files, facts);
    namespaces(process, vantage, facts);
    facts.push(Fact::read(
        Field::RootIds,
        root::ranges(process).map_err(reason),
    ));
    facts.push(Fact::read(
        Field::DeviceNodes,
        device_nodes(process).map_err(reason),
    ));
}

/// What the cgroup of the process keeps, by its directories.
pub(super) fn limits(directories: &Directories<'_>, facts: &mut Vec<Fact>) {
    for (field, bound) in LIMITS {
        facts.push(Fact::read(field, directories.found(bound).map_err(reason)));
    }
    let devices = found_devices(directories);
    facts.push(Fact::read(Field::DevicesAllowed, devices.map_err(reason)));
}

/// The same of a process whose cgroup nobody has open.
pub(super) fn limits_of(process: BorrowedFd<'_>, facts: &mut Vec<Fact>) {
    let mut reader = Reader::new();
    let found = text(&mut reader, process, c"cgroup")
        .and_then(|text| memberships(text).ok_or(Reason::Malformed))
        .and_then(|memberships| opened(&memberships).map_err(|_hidden| Reason::NotShown));
    match found {
        Ok(opened) => {
            let all = opened.iter().map(|(hierarchy, fd)| (hierarchy, fd.as_fd()));
            limits(&Directories::new(all), facts);
        }
        Err(reason) => {
            let fields = LIMITS.map(|(field, _)| field);
            let fields = fields.into_iter().chain([Field::DevicesAllowed]);
            facts.extend(fields.map(|field| Fact::unreadable(field, reason)));
        }
    }
}

/// Which bound each field tells of.
pub(crate) const LIMITS: [(Field, Bound); 8] = [
    (Field::MemoryMax, Bound::Memory),
    (Field::SwapMax, Bound::Swap),
    (Field::TasksMax, Bound::Tasks),
    (Field::CpuWeight, Bound::CpuWeight),
    (Field::CpuQuota, Bound::CpuQuota),
    (Field::CgroupProcessors, Bound::Processors),
    (Field::CgroupMemoryNodes, Bound::MemoryNodes),
    (Field::IoLimits, Bound::Io),
];

/// The rest that is read: credentials, filters, limits, signals,
/// descriptors.
pub(super) fn process(process: BorrowedFd<'_>, facts: &mut Vec<Fact>) {
    let mut reader = Reader::new();
    status::status(text(&mut reader, process, c"status"), facts);
    status::stat(text(&mut reader, process, c"stat"), facts);
    let files: [(Field, &CStr, Parser); 2] = [
        (Field::Limits, c"limits", status::limits),
        (Field::Personality, c"personality", |text| {
            hexadecimal(text.trim_ascii()).map(Value::Bits)
        }),
    ];
    parsed(&mut reader, process, files, facts);
    facts.push(Fact::read(
        Field::Descriptors,
        descriptors(process).map_err(reason),
    ));
    let owner = fstatat(process, c"status", AtFlags::AT_SYMLINK_NOFOLLOW)
        .map(|status| Value::Number(i64::from(status.st_uid)));
    facts.push(Fact::read(Field::ProcOwner, owner.map_err(reason)));
    for (field, reason) in [
        (Field::ForeignSockets, Reason::PlanRefuses),
        (Field::SignalScope, Reason::NoInterface),
    ] {
        facts.push(Fact::unreadable(field, reason));
    }
}

fn parsed<const N: usize>(
    reader: &mut Reader,
    process: BorrowedFd<'_>,
    files: [(Field, &CStr, Parser); N],
    facts: &mut Vec<Fact>,
) {
    for (field, file, parse) in files {
        let value =
            text(reader, process, file).and_then(|text| parse(text).ok_or(Reason::Malformed));
        facts.push(Fact::read(field, value));
    }
}

type Parser = fn(&[u8]) -> Option<Value>;

fn text<'a>(
    reader: &'a mut Reader,
    process: BorrowedFd<'_>,
    file: &CStr,
) -> Result<&'a [u8], Reason> {
    let is_list = [c"mountinfo", c"uid_map", c"gid_map"].contains(&file);
    if is_list {
        reader.read(process, file).map_err(reason)
    } else {
        reader.read_single(process, file).map_err(reason)
    }
}

fn reason(errno: Errno) -> Reason {
    match errno {
        Errno::ENOENT => Reason::NotShown,
        errno => Reason::Refused(errno as i32),
    }
}

fn namespaces(process: BorrowedFd<'_>, vantage: &Vantage, facts: &mut Vec<Fact>) {
    for (field, file) in [
        (Field::UserNamespace, c"ns/user"),
        (Field::NetworkNamespace, c"ns/net"),
    ] {
        let id = namespace_id(process, file)
            .map_err(reason)
            .and_then(|id| i64::try_from(id).map_err(|_too_large| Reason::Malformed));
        facts.push(Fact::read(field, id.map(Value::Number)));
    }
    for (field, kind) in [
        (Field::MountNamespace, Kind::Mount),
        (Field::PidNamespace, Kind::Pid),
        (Field::IpcNamespace, Kind::Ipc),
        (Field::UtsNamespace, Kind::Uts),
        (Field::CgroupNamespace, Kind::Cgroup),
        (Field::TimeNamespace, Kind::Time),
    ] {
        let owner =
            namespace_id(process, kind.file()).map(|id| Value::Owner(vantage.owner_of(kind, id)));
        facts.push(Fact::read(field, owner.map_err(reason)));
    }
    for (field, file) in [
        (Field::NetworkNamespaceOwner, c"ns/net"),
        (Field::MountNamespaceOwner, c"ns/mnt"),
        (Field::PidNamespaceOwner, c"ns/pid"),
    ] {
        let owner = owner_of_namespace(process, file).map(Value::Number);
        facts.push(Fact::read(field, owner.map_err(reason)));
    }
}

/// The id of the user namespace that owns one of a process's namespaces.
fn owner_of_namespace(process: BorrowedFd<'_>, file: &CStr) -> Result<i64, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = openat(process, file, flags, Mode::empty())?;
    let owner = host::owner_of_namespace(namespace.as_fd()).map_err(errno)?;
    let status = fstat(&owner)?;
    i64::try_from(status.st_ino).map_err(|_too_large| Errno::EOVERFLOW)
}

fn descriptors(process: BorrowedFd<'_>) -> Result<Value, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(process, c"fd", flags, Mode::empty())?;
    let mut numbers = Vec::new();
    for entry in directory.iter() {
        let number = decimal(entry?.file_name().to_bytes());
        numbers.extend(number.and_then(|number| u32::try_from(number).ok()));
        if numbers.len() > ENTRIES_MAX {
            return Err(Errno::EOVERFLOW);
        }
    }
    numbers.sort_unstable();
    let mut found = Vec::with_capacity(numbers.len());
    for number in numbers {
        let target = match readlinkat(&directory, number.to_string().as_str()) {
            // Closed meanwhile.
            Err(Errno::ENOENT) => continue,
            target => target?,
        };
        found.push(DescriptorEntry {
            number,
            target: Some(escaped(target.as_encoded_bytes())),
        });
    }
    Ok(Value::Descriptors(found))
}

/// The device nodes directly in its `/dev`, beneath its own root and through
/// no link: what stands there is the tenant's choice.
fn device_nodes(process: BorrowedFd<'_>) -> Result<Value, Errno> {
    let root = openat(
        process,
        c"root",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mut directory = match openat2(&root, c"dev", how) {
        Err(Errno::ENOENT) => return Ok(Value::List(Vec::new())),
        directory => Dir::from_fd(directory?)?,
    };
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        let is_other = matches!(
            entry.file_type(),
            Some(Type::Directory | Type::File | Type::Symlink | Type::Fifo | Type::Socket)
        );
        names.extend((!is_other).then(|| entry.file_name().to_owned()));
        if names.len() > ENTRIES_MAX {
            return Err(Errno::EOVERFLOW);
        }
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.extend(device_node(directory.as_fd(), &name)?);
    }
    found.sort_unstable();
    Ok(Value::List(found))
}

/// `NAME KIND MAJOR:MINOR MODE`, if it is a device node.
fn device_node(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<String>, Errno> {
    let status = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        status => status?,
    };
    let kind = match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => return Ok(None),
    };
    Ok(Some(format!(
        "{} {kind} {}:{} {:04o}",
        escaped(name.to_bytes()),
        major(status.st_rdev),
        minor(status.st_rdev),
        status.st_mode & 0o7777
    )))
}
