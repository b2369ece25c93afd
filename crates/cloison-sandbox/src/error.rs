//! What can go wrong, by what the caller can do about it.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::CgroupError;
use crate::kernel::{Absence, Unavailable};
use crate::posture::Difference;
use crate::seccomp::ProfileError;
use crate::{Feature, IdRange, Layer, NamespaceError, SpawnError};

/// Why a sandbox was not launched, or could not be asked or told something.
///
/// Whatever it is, all that was done before is undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spec asks for what cannot be.
    #[error("the spec is refused")]
    Refused(#[from] Refused),
    /// The kernel cannot give a layer.
    #[error("a layer cannot be had on this host")]
    Unavailable(#[from] Box<Unavailable>),
    /// The seccomp profile could not be compiled.
    #[error("the seccomp profile failed")]
    Seccomp(#[from] ProfileError),
    /// A path of the host that the spec names could not be used.
    #[error("{}: {errno}", path.display())]
    HostPath {
        /// The path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Something that a plan is made of could not be made.
    #[error("making {what}: {errno}")]
    Prepare {
        /// What.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// This kernel cannot show a tree with other ids than it has on disk.
    #[error(
        "{}: {file_system} cannot be id-mapped by this kernel{}: keep the tree on ext4, xfs or \
         btrfs",
        path.display(),
        since.map_or_else(String::new, |since| format!(" (Linux {since} and later can)"))
    )]
    NotMappable {
        /// The tree.
        path: PathBuf,
        /// Its file system.
        file_system: String,
        /// The version of Linux that brought it, if one did.
        since: Option<&'static str>,
    },
    /// A namespace could not be made beforehand.
    #[error("a namespace could not be made")]
    Namespace(#[from] NamespaceError),
    /// The cgroup could not be made, changed or removed.
    #[error("the cgroup failed")]
    Cgroup(#[source] CgroupError),
    /// The process could not be made.
    #[error("the sandbox's process could not be made")]
    Spawn(#[from] SpawnError),
    /// A step of the child failed.
    #[error("{}: {step}: {errno}", layer.map_or("command", Layer::name))]
    Step {
        /// The layer that the step belongs to; none for the command's own.
        layer: Option<Layer>,
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// Nothing could be mounted where the spec names a target.
    #[error("mounting on {}, which must be there in the root: {errno}", target.display())]
    MountPoint {
        /// The target.
        target: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Every layer was on, and the command could not be executed.
    #[error("the command cannot be executed: {0}")]
    Execute(Errno),
    /// The child ended before it was held or had executed the command.
    #[error("the sandbox's process ended before the command started")]
    Died,
    /// The child did not get ready in time.
    #[error("the sandbox's process did not get ready in time")]
    Deadline,
    /// What was read back is not what was asked for.
    #[error("what encloses the sandbox is not what was asked for: {}", list(.0))]
    PostureDiffers(Vec<Difference>),
    /// What encloses a process could not be read.
    #[error("reading what encloses process {pid}: {errno}")]
    Unreadable {
        /// The process.
        pid: i32,
        /// Why.
        errno: Errno,
    },
    /// It was killed and stands still: somebody freezes it again and again, or
    /// has frozen a cgroup above it. It ends when it is thawed.
    #[error("process {0} was killed and cannot end: somebody keeps it frozen")]
    KeptFrozen(i32),
    /// It was killed and does not end, though nobody freezes it.
    #[error(
        "process {0} was killed and does not end: a process of the sandbox is stuck in the kernel"
    )]
    StaysAlive(i32),
    /// The process could not be signalled, or waited for.
    #[error("process {pid}: {errno}")]
    Process {
        /// The process.
        pid: i32,
        /// Why.
        errno: Errno,
    },
}

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No range of ids is assigned.
    #[error("`ids` is not set, and whoever launches it assigned none")]
    NoIds,
    /// The user namespace maps another range.
    #[error("the user namespace maps ids from {mapped}, the spec asks for {asked}")]
    OtherIds {
        /// What is mapped.
        mapped: u32,
        /// What is asked.
        asked: u32,
    },
    /// The user namespace has other limits on inotify(7).
    #[error(
        "the user namespace that was prepared has other limits on inotify than the spec asks for: \
         prepare another"
    )]
    OtherInotify,
    /// There is no command.
    #[error("`command` is empty")]
    NoCommand,
    /// The program has to be named in full.
    #[error("`command` starts with `{0}`, which is not an absolute path inside the sandbox")]
    CommandNotAbsolute(String),
    /// The working directory has to be named in full.
    #[error("`working_directory` is {0:?}, which is not an absolute path")]
    WorkingDirectory(PathBuf),
    /// A NUL ends strings for the kernel.
    #[error("command, environment and paths may not hold a NUL byte")]
    Nul,
    /// A name of a variable is not one.
    #[error("`environment` names {0:?}, which is empty or holds a `=` or a control character")]
    Variable(String),
    /// A target of a mount is not a plain absolute path.
    #[error(
        "`mounts` has the target {0:?}, which is not an absolute path without `.` and `..`, without \
         empty parts, of at most 32 parts and 255 bytes each"
    )]
    MountTarget(PathBuf),
    /// A path of the host is not named in full.
    #[error("{0:?} is not an absolute path of the host")]
    HostPathNotAbsolute(PathBuf),
    /// What is to be shown inside is neither a directory nor a file.
    #[error("{0:?} of the host is neither a directory nor a file")]
    MountSource(PathBuf),
    /// What is to be shown inside is a file system that shows the kernel.
    #[error(
        "{path:?} stands in the host's {file_system}, which shows the kernel itself: a sandbox has \
         a `/proc` and a `/dev` of its own, and a `/sys` with `sysfs`"
    )]
    OfTheKernel {
        /// The path on the host.
        path: PathBuf,
        /// The kind of file system.
        file_system: &'static str,
    },
    /// What is to be shown inside is all of the host.
    #[error("{0:?} is the root of the host: name the directory that is wanted")]
    WholeHost(PathBuf),
    /// What is to be written inside is not written by the host itself.
    #[error(
        "{} is read-only on the host, and the sandbox is to write to it: make it writable there, \
         or ask for read-only",
        .0.display()
    )]
    ReadOnlyOnHost(PathBuf),
    /// A layer and the tree that it lies over are not apart.
    #[error(
        "the layer {} and the tree {} lie within each other: give the layer a directory elsewhere",
        layer.display(),
        tree.display()
    )]
    LayerWithinTree {
        /// The layer.
        layer: PathBuf,
        /// The tree.
        tree: PathBuf,
    },
    /// A later mount would hide this one.
    #[error("`mounts` has the target {}, which a later one, on {}, would hide", target.display(), hidden_by.display())]
    MountHidden {
        /// The target.
        target: PathBuf,
        /// The target above it.
        hidden_by: PathBuf,
    },
    /// A target of a mount is where the sandbox mounts something of its own.
    #[error("`mounts` has the target {}, where the sandbox has a mount of its own", .0.display())]
    MountOnOurs(PathBuf),
    /// Two mounts have the same target.
    #[error("`mounts` has the target {} twice", .0.display())]
    MountTwice(PathBuf),
    /// A variable that only the launch itself may set.
    #[error("`environment` names `{0}`, which the launch itself sets where sockets are handed in")]
    ListenVariable(String),
    /// A socket for `exec` of a sandbox whose process 1 would not listen.
    #[error(
        "`init` is off, and only an init can start a second command: leave exec out or set it on"
    )]
    ExecWithoutInit,
    /// A root lacks a directory, or file, to mount on.
    #[error("the root {} has nothing to mount on at `{name}`: {found}", root.display())]
    MountPointMissing {
        /// The root.
        root: PathBuf,
        /// What is missing in it.
        name: String,
        /// What stands there.
        found: Found,
    },
    /// The id-mapping that was prepared is another.
    #[error("the ids that were prepared for the root are not those that the spec asks for")]
    OtherDiskIds,
    /// The directory of a tenant's tree is not the tenant's.
    #[error(
        "{} belongs to user {user} and group {group}, which are not of the {} ids from {first} \
         that `disk_ids` names: chown it",
        path.display(),
        IdRange::COUNT
    )]
    TreeOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        user: u32,
        /// Its group.
        group: u32,
        /// The first id of the range.
        first: u32,
    },
    /// What a sandbox can write would be honoured by the host as set-user-id.
    #[error(
        "{} can be written by the sandbox and lies on a mount without nosuid: mount its file \
         system nosuid, or bind it over itself so (mount --bind -o nosuid)",
        .0.display()
    )]
    HostHonoursSetuid(PathBuf),
    /// A capability that no sandbox may keep.
    #[error("`capabilities` asks for {0}, which no sandbox may keep: it would undo other layers")]
    Capability(caps::Capability),
    /// A number that a launch could not do with, or that the kernel would take
    /// for something else.
    #[error("`{field}` is {value}: it may be {least} to {most}")]
    OutOfBounds {
        /// The field, as a file spells it: tables and keys joined by dots.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// Command, environment and paths do not fit into one launch.
    #[error(
        "command, environment and paths take {bytes} bytes together: at most {bytes_max} can be"
    )]
    TooLarge {
        /// What they take: each string, a NUL and eight bytes for its place.
        bytes: usize,
        /// What they may take.
        bytes_max: usize,
    },
    /// The layer could not be shown to refuse any port.
    #[error("`tcp.bind` names every port from 1024 on: leave one out, by which the layer is tried")]
    EveryPort,
    /// A terminal is wanted, and none may be.
    #[error("a terminal is wanted, and `limits.terminals_max` is 0")]
    NoTerminals,
    /// More descriptors than a launch can carry.
    #[error("{0} sockets are handed in: at most 28 can be")]
    Sockets(usize),
    /// A socket that is handed in was made in another network namespace.
    #[error(
        "descriptor {0} of the sandbox is a socket of another network namespace: make it in the \
         sandbox's own"
    )]
    ForeignSocket(u32),
    /// More trees than a launch can carry.
    #[error("`mounts` has {0} entries: at most 64 can be")]
    Mounts(usize),
    /// More devices than limits are kept for.
    #[error("`cgroup.io` has {0} entries: at most 32 can be")]
    IoDevices(usize),
    /// Two limits for one device.
    #[error("`cgroup.io` has the device {} twice", .0.display())]
    IoDeviceTwice(PathBuf),
}

/// What stands where a place to mount on should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Found {
    /// There is nothing.
    #[error("there is nothing; make it (mkdir -p)")]
    Nothing,
    /// It, or what leads there, is a symbolic link.
    #[error("a symbolic link is in the way, and none is followed")]
    Link,
    /// What leads there is no directory.
    #[error("what leads there is no directory")]
    NoDirectoryAbove,
    /// A directory.
    #[error("a directory is there")]
    Directory,
    /// A file.
    #[error("a file is there")]
    File,
    /// A device node, a FIFO or a socket.
    #[error("neither a directory nor a file is there")]
    Special,
    /// It cannot be looked at.
    #[error("it cannot be looked at: {0}")]
    Refused(Errno),
}

impl From<CgroupError> for Error {
    fn from(error: CgroupError) -> Self {
        match error {
            CgroupError::Lacking { feature } => {
                let layer = match feature {
                    Feature::DeviceControl => Layer::DeviceControl,
                    _ => Layer::CgroupLimits,
                };
                let lacking = Unavailable::new(layer, feature, Absence::NoHierarchy);
                Self::Unavailable(Box::new(lacking))
            }
            CgroupError::Device { path, source } => Self::HostPath {
                path,
                errno: source,
            },
            error => Self::Cgroup(error),
        }
    }
}

impl Error {
    pub(crate) fn host_path(path: &Path, errno: Errno) -> Self {
        Self::HostPath {
            path: path.to_owned(),
            errno,
        }
    }

    pub(crate) fn prepare(what: &'static str, errno: Errno) -> Self {
        Self::Prepare { what, errno }
    }
}

fn list(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
    all.join("; ")
}
