//! What is decided for one launch.

mod cgroup;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

use caps::CapsHashSet;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use cgroup::{CgroupLimits, IoLimit, NumberList, NumberListError};

use crate::{Error, IdRange, Refused};

/// All that is decided for one launch: plain comparable data, no descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The label of the sandbox: its host name, and part of its cgroup's.
    pub name: SandboxName,
    /// The set of layers and their settings.
    #[serde(default)]
    pub profile: Profile,
    /// The host ids it owns. `None`: whoever launches it assigns a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdRange>,
    /// Its root file system.
    #[serde(default)]
    pub root: Root,
    /// The program and its arguments. The program is an absolute path inside.
    pub command: Vec<String>,
    /// The whole environment of the command.
    #[serde(default, deserialize_with = "without_duplicates")]
    pub environment: BTreeMap<String, String>,
    /// Where the command starts, an absolute path inside.
    #[serde(default = "root_directory")]
    pub working_directory: PathBuf,
    /// The user id inside.
    #[serde(default)]
    pub user: u16,
    /// The group id inside.
    #[serde(default)]
    pub group: u16,
    /// Whether a small init of ours runs as process 1.
    #[serde(default)]
    pub init: Init,
    /// What its proc shows.
    #[serde(default)]
    pub proc: Proc,
    /// What its sysfs shows.
    #[serde(default)]
    pub sysfs: Sysfs,
    /// TCP ports that its Landlock domain allows.
    #[serde(default)]
    pub tcp: Tcp,
    /// Capabilities that its root keeps in its own user namespace.
    #[serde(default)]
    pub capabilities: CapsHashSet,
    /// Further trees of the host.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// How much its memory file systems may hold.
    #[serde(default)]
    pub tmpfs: TmpfsSizes,
    /// Resource limits of each of its processes.
    #[serde(default)]
    pub limits: Limits,
    /// Limits of all its processes together.
    #[serde(default)]
    pub cgroup: CgroupLimits,
}

impl Spec {
    /// What runs `command` with the defaults of everything else: as a file
    /// that sets only these two.
    #[must_use]
    pub fn new(name: SandboxName, command: Vec<String>) -> Self {
        Self {
            name,
            profile: Profile::default(),
            ids: None,
            root: Root::default(),
            command,
            environment: BTreeMap::new(),
            working_directory: root_directory(),
            user: 0,
            group: 0,
            init: Init::default(),
            proc: Proc::default(),
            sysfs: Sysfs::default(),
            tcp: Tcp::default(),
            capabilities: CapsHashSet::new(),
            mounts: Vec::new(),
            tmpfs: TmpfsSizes::default(),
            limits: Limits::default(),
            cgroup: CgroupLimits::default(),
        }
    }

    /// Refuses what no host could launch, before anything is opened or made.
    /// A plan checks the same.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self) -> Result<(), Refused> {
        crate::plan::check_spec(self)
    }

    /// Refuses what this host cannot show inside: a path that is not there, or
    /// is neither a directory nor a file, or stands in a file system that
    /// shows the kernel. Nothing is made. A plan checks the same.
    ///
    /// # Errors
    /// [`Error::HostPath`]; [`Error::Refused`] with [`Refused::MountSource`]
    /// or [`Refused::OfTheKernel`].
    pub fn check_sources(&self) -> Result<(), Error> {
        crate::layers::tree::check_sources(self)
    }
}

/// A map in which no key stands twice: serde keeps the last of two, in silence.
pub(crate) fn without_duplicates<'de, D, K, V>(input: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + std::fmt::Debug,
    V: Deserialize<'de>,
{
    struct Unique<K, V>(PhantomData<(K, V)>);

    impl<'de, K, V> Visitor<'de> for Unique<K, V>
    where
        K: Deserialize<'de> + Ord + std::fmt::Debug,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some(key) = entries.next_key::<K>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format!("duplicate key {key:?}")));
                }
                map.insert(key, entries.next_value()?);
            }
            Ok(map)
        }
    }

    input.deserialize_map(Unique(PhantomData))
}

fn root_directory() -> PathBuf {
    PathBuf::from("/")
}

/// A name of 1 to 48 lower-case letters, digits and hyphens that starts with
/// a letter and does not end with a hyphen: safe as a host name, as a file
/// name and in a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxName(String);

/// Why a string is not a [`SandboxName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 48 lower-case letters, digits and hyphens, starts with a letter and does not end with a hyphen"
)]
pub struct SandboxNameError;

impl SandboxName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`SandboxNameError`], with the rule.
    pub fn new(name: impl Into<String>) -> Result<Self, SandboxNameError> {
        let name = name.into();
        let bytes = name.as_bytes();
        let fits = (1..=48).contains(&bytes.len())
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last() != Some(&b'-')
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if fits {
            Ok(Self(name))
        } else {
            Err(SandboxNameError)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SandboxName {
    type Error = SandboxNameError;

    fn try_from(name: String) -> Result<Self, SandboxNameError> {
        Self::new(name)
    }
}

impl From<SandboxName> for String {
    fn from(name: SandboxName) -> Self {
        name.0
    }
}

impl std::fmt::Display for SandboxName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named set of layers with their settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// One service.
    #[default]
    App,
}

/// A root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Root {
    /// The host's own `/usr`, read-only: for a first try. Every sandbox with
    /// this root shares the inodes of the host and of every other one.
    #[default]
    SharedBase,
    /// A directory of one's own. It must hold the mount points `proc`, `dev`,
    /// `tmp` and `run`.
    Directory {
        /// The directory on the host.
        path: PathBuf,
        /// What the sandbox may do with it.
        #[serde(default)]
        access: Access,
    },
    /// A tree of the tenant's own, whose files belong to the sandbox's ids.
    Own(OwnRoot),
}

/// A tree of a tenant's own as a root, through an id-mapped mount: on disk its
/// files carry one range of ids, whichever of the tenant's servers uses them;
/// each server sees them as its own.
///
/// The directory itself belongs to an id of that range, and holds the mount
/// points `proc`, `dev`, `tmp` and `run`. The path is the operator's: links in
/// it are followed. Of what lies beneath nothing is believed.
///
/// # Kernel
/// 5.12, and a file system that can be id-mapped: ext4 and xfs from 5.12, btrfs
/// from 5.15, squashfs from 6.2, tmpfs from 6.3. It is tried.
///
/// # Source
/// mount_setattr(2), "ID-mapped mounts"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRoot {
    /// The directory on the host.
    pub path: PathBuf,
    /// The ids that its files carry on disk: the first range of the tenant's
    /// block. Never the host's own.
    pub disk_ids: IdRange,
    /// What the sandbox may do with it.
    #[serde(default)]
    pub access: OwnAccess,
}

/// What a sandbox may do with a tree of its tenant's own.
///
/// What it may change on disk must lie, on the host, on a mount with `nosuid`:
/// a set-user-id file that a root inside makes is one of the tenant's id there.
/// `noexec` on the host is of no account inside: a root holds what is executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OwnAccess {
    /// Read and execute.
    #[default]
    ReadOnly,
    /// Read, execute and write, in place.
    ReadWrite,
    /// What is written stays in memory and is gone with the sandbox.
    ///
    /// # Kernel
    /// 5.19, `CONFIG_OVERLAY_FS`.
    MemoryLayer {
        /// How much may be written.
        ///
        /// # Units
        /// Bytes; rounded up to whole pages by the kernel.
        #[serde(default = "layer_bytes_max")]
        bytes_max: u64,
        /// How many files may be made or changed.
        #[serde(default = "layer_files_max")]
        files_max: u64,
    },
    /// What is written goes to another directory, and is there again at the
    /// next start.
    ///
    /// # Kernel
    /// 5.19, `CONFIG_OVERLAY_FS`. A second sandbox with the same directory is
    /// refused where the file system has file handles, as ext4, xfs and btrfs;
    /// where it has none, the kernel only warns.
    DiskLayer {
        /// The directory on the host. `upper`, with what was written, and `work`
        /// are made in it. It belongs to one tree, and is of no use with another;
        /// it lies neither within that tree nor around it, and is the host's
        /// root's or the tenant's.
        path: PathBuf,
    },
}

fn layer_bytes_max() -> u64 {
    TmpfsSizes::default().tmp_bytes_max
}

fn layer_files_max() -> u64 {
    TmpfsSizes::default().files_max
}

/// What a sandbox may do with a tree of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and execute.
    #[default]
    ReadOnly,
    /// Read, execute and write.
    ReadWrite,
}

/// TCP ports that a sandbox may use by itself. What is not named is refused;
/// a socket that is handed in needs no entry.
///
/// # Kernel
/// 6.7 (Landlock ABI 4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Ports that it may bind.
    pub bind: Vec<u16>,
    /// Ports that it may connect to.
    pub connect: Vec<u16>,
}

/// A tree of the host that is shown inside. Never id-mapped. What the host
/// mounts with `noexec` is not executed inside either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The directory or file on the host.
    pub source: PathBuf,
    /// Where it stands inside, an absolute path.
    pub target: PathBuf,
    /// What the sandbox may do with it.
    #[serde(default)]
    pub access: Access,
}

/// Whether a small init of ours runs as process 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// It does: it reaps orphans, forwards signals, and makes what
    /// [`Sandbox::exec`] asks for.
    ///
    /// [`Sandbox::exec`]: crate::Sandbox::exec
    #[default]
    On,
    /// The command is process 1 itself. That saves one process and its start,
    /// and costs: nothing can be started in the sandbox later, the command must
    /// reap what is orphaned, a signal that it does not handle is ignored, so
    /// that a stop waits for its deadline and kills, and the command has no
    /// inner Landlock domain.
    Off,
}

/// What a sandbox's proc shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proc {
    /// Its own processes and nothing else (`subset=pid`).
    #[default]
    Pid,
    /// A whole one, for programs that ask for `cpuinfo`, `meminfo`, `stat`,
    /// `uptime`, `loadavg` or `sys`. These are files of ours, made for the
    /// launch of the server's own limits, and never change; everything else
    /// that tells of the kernel or the machine is there and empty. What a
    /// kernel module adds to proc after the launch is not covered.
    Covered,
}

/// What a sandbox's sysfs shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sysfs {
    /// There is none.
    #[default]
    Absent,
    /// A read-only one. Of networks it shows the sandbox's own; of all else,
    /// the machine: devices and their counters, modules, memory of each node,
    /// caches of the kernel, whatever everybody may read on the host.
    ReadOnly,
}

/// How much each memory file system of a sandbox may hold.
///
/// # Units
/// Bytes, at least a page of 4096; rounded up to whole pages by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TmpfsSizes {
    /// `/tmp`.
    pub tmp_bytes_max: u64,
    /// `/run`.
    pub run_bytes_max: u64,
    /// `/dev/shm`.
    pub shm_bytes_max: u64,
    /// How many files each may hold, at least 16.
    pub files_max: u64,
}

impl Default for TmpfsSizes {
    fn default() -> Self {
        Self {
            tmp_bytes_max: 64 << 20,
            run_bytes_max: 16 << 20,
            shm_bytes_max: 64 << 20,
            files_max: 16_384,
        }
    }
}

/// Resource limits of each process, soft and hard alike, and limits of each
/// user.
///
/// # Source
/// setrlimit(2), namespaces(7) (`/proc/sys/user`)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open descriptors (`RLIMIT_NOFILE`), 256 to 1,048,576.
    pub open_files_max: u64,
    /// Processes and threads of its user (`RLIMIT_NPROC`), at least 3.
    pub processes_max: u64,
    /// Bytes of a core file (`RLIMIT_CORE`).
    pub core_bytes_max: u64,
    /// Bytes of locked memory (`RLIMIT_MEMLOCK`).
    pub locked_bytes_max: u64,
    /// Queued signals of its user (`RLIMIT_SIGPENDING`).
    pub pending_signals_max: u64,
    /// Bytes in POSIX message queues of its user (`RLIMIT_MSGQUEUE`).
    pub message_queue_bytes_max: u64,
    /// Pseudo-terminals of its devpts, at most 1,048,575.
    pub terminals_max: u32,
    /// Queues of inotify(7) of each of its users. The host bounds those of all
    /// servers together (`fs.inotify.max_user_instances`).
    pub inotify_instances_max: u64,
    /// Paths that each of its users watches by inotify(7). The host bounds
    /// those of all servers together (`fs.inotify.max_user_watches`).
    pub inotify_watches_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_files_max: 1024,
            processes_max: 4096,
            core_bytes_max: 0,
            locked_bytes_max: 8 << 20,
            pending_signals_max: 4096,
            message_queue_bytes_max: 819_200,
            terminals_max: 64,
            inotify_instances_max: 16,
            inotify_watches_max: 8192,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SandboxName;

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["a", "web-1", "x1"] {
            assert!(SandboxName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(49);
        for bad in [
            "",
            "-a",
            "a-",
            "1a",
            "A",
            "a/b",
            "a.b",
            "a\0",
            "é",
            long.as_str(),
        ] {
            assert!(SandboxName::new(bad).is_err(), "{bad:?}");
        }
    }
}
