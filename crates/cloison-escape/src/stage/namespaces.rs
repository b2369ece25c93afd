//! Which namespaces a process is in, by the ids the kernel gives them.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

use nix::sched::CloneFlags;

/// One of the six kinds of namespace that a stage must have for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// The mount table.
    Mount,
    /// Process ids.
    Pid,
    /// Links, addresses, routes, sockets.
    Network,
    /// System V objects and message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The visible root of the cgroup hierarchies.
    Cgroup,
}

impl Namespace {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
    ];

    /// Its name below `/proc/PID/ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
        }
    }

    pub(super) const fn flag(self) -> CloneFlags {
        match self {
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        }
    }

    /// The inode that every kernel gives to its first namespace of this kind.
    ///
    /// # Kernel
    /// Fixed since 3.8 (cgroup: 4.6) but for mount and network, where only
    /// recent kernels do so: there a namespace with another inode may still
    /// be the first one, and the ids handed in decide.
    const fn first_inode(self) -> u64 {
        match self {
            Self::Ipc => 0xEFFF_FFFF,
            Self::Uts => 0xEFFF_FFFE,
            Self::Pid => 0xEFFF_FFFC,
            Self::Cgroup => 0xEFFF_FFFB,
            Self::Network => 0xEFFF_FFF9,
            Self::Mount => 0xEFFF_FFF8,
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mount => "mount",
            Self::Network => "network",
            other => other.name(),
        })
    }
}

impl FromStr for Namespace {
    type Err = NamespaceIdsError;

    fn from_str(text: &str) -> Result<Self, NamespaceIdsError> {
        Self::ALL
            .into_iter()
            .find(|namespace| namespace.name() == text)
            .ok_or(NamespaceIdsError)
    }
}

/// The kernel's name of one namespace: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// Reads the id behind `path`, a file below `/proc/PID/ns`.
    ///
    /// # Errors
    /// The process ended, or may not be inspected.
    ///
    /// # Source
    /// namespaces(7).
    pub fn read(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// The six namespaces that one process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceIds([NamespaceId; 6]);

/// A text that is not the ids of six namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the ids of six namespaces")]
pub struct NamespaceIdsError;

impl NamespaceIds {
    /// Reads them from `process`, a folder such as `/proc/self`.
    ///
    /// # Errors
    /// The process ended, or may not be inspected.
    pub fn read(process: &Path) -> io::Result<Self> {
        let folder = process.join("ns");
        let mut ids = [NamespaceId {
            device: 0,
            inode: 0,
        }; 6];
        for (id, namespace) in ids.iter_mut().zip(Namespace::ALL) {
            *id = NamespaceId::read(&folder.join(namespace.name()))?;
        }
        Ok(Self(ids))
    }

    /// The id of one namespace.
    #[must_use]
    pub fn id(&self, namespace: Namespace) -> NamespaceId {
        self.0[namespace as usize]
    }

    /// The first namespace that is the same on both sides.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Option<Namespace> {
        Namespace::ALL
            .into_iter()
            .find(|namespace| self.id(*namespace) == other.id(*namespace))
    }

    /// The first namespace that is the one the kernel booted with, as far as
    /// its inode tells.
    #[must_use]
    pub fn shared_with_boot(&self) -> Option<Namespace> {
        Namespace::ALL
            .into_iter()
            .find(|namespace| self.id(*namespace).inode == namespace.first_inode())
    }

    /// The same ids, with one taken from `other`.
    #[must_use]
    pub fn with(mut self, namespace: Namespace, other: &Self) -> Self {
        self.0[namespace as usize] = other.id(namespace);
        self
    }
}

impl fmt::Display for NamespaceIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, id) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "," };
            write!(f, "{separator}{}:{}", id.device, id.inode)?;
        }
        Ok(())
    }
}

impl FromStr for NamespaceIds {
    type Err = NamespaceIdsError;

    fn from_str(text: &str) -> Result<Self, NamespaceIdsError> {
        let ids: Vec<NamespaceId> = text
            .split(',')
            .map(|id| {
                let (device, inode) = id.split_once(':').ok_or(NamespaceIdsError)?;
                Ok(NamespaceId {
                    device: device.parse().map_err(|_| NamespaceIdsError)?,
                    inode: inode.parse().map_err(|_| NamespaceIdsError)?,
                })
            })
            .collect::<Result<_, _>>()?;
        ids.try_into().map(Self).map_err(|_| NamespaceIdsError)
    }
}

/// What the stage must differ from: the namespaces of the machine's process 1
/// and those of the process that made the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Those of process 1.
    pub first_process: NamespaceIds,
    /// Those of the process that made the stage.
    pub outer: NamespaceIds,
}

impl Machine {
    /// Reads both from the proc that this process sees.
    ///
    /// # Errors
    /// No proc, or not the right to inspect process 1 or what stands for it.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            first_process: of_first_process()?,
            outer: NamespaceIds::read(Path::new("/proc/self"))?,
        })
    }

    /// The first namespace that `ids` shares with either.
    #[must_use]
    pub fn shares(&self, ids: &NamespaceIds) -> Option<Namespace> {
        ids.shared_with(&self.first_process)
            .or_else(|| ids.shared_with(&self.outer))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.first_process, self.outer)
    }
}

impl FromStr for Machine {
    type Err = NamespaceIdsError;

    fn from_str(text: &str) -> Result<Self, NamespaceIdsError> {
        let (first_process, outer) = text.split_once(';').ok_or(NamespaceIdsError)?;
        Ok(Self {
            first_process: first_process.parse()?,
            outer: outer.parse()?,
        })
    }
}

/// Reads the namespaces of process 1. A security module may hide it also from
/// root; then the kernel's own process 2, which started where process 1 did,
/// stands for it.
pub(super) fn of_first_process() -> io::Result<NamespaceIds> {
    match NamespaceIds::read(Path::new("/proc/1")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_kernel_thread(2)? => {
            NamespaceIds::read(Path::new("/proc/2"))
        }
        read => read,
    }
}

fn is_kernel_thread(pid: u32) -> io::Result<bool> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let flags: Option<u64> = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse().ok());
    Ok(flags.is_some_and(|flags| flags & PF_KTHREAD != 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_being_written_and_read() {
        let machine = Machine {
            first_process: NamespaceIds::read(Path::new("/proc/self")).unwrap(),
            outer: NamespaceIds::read(Path::new("/proc/self")).unwrap(),
        };
        assert_eq!(machine.to_string().parse(), Ok(machine));
    }

    #[test]
    fn a_text_with_five_ids_is_refused() {
        assert_eq!(
            "1:1,1:2,1:3,1:4,1:5".parse::<NamespaceIds>(),
            Err(NamespaceIdsError)
        );
    }

    #[test]
    fn each_shared_namespace_is_named() {
        let ours: NamespaceIds = "1:1,1:2,1:3,1:4,1:5,1:6".parse().unwrap();
        let theirs: NamespaceIds = "2:1,2:2,2:3,2:4,2:5,2:6".parse().unwrap();
        assert_eq!(ours.shared_with(&theirs), None);
        for namespace in Namespace::ALL {
            let mixed = theirs.with(namespace, &ours);
            assert_eq!(ours.shared_with(&mixed), Some(namespace));
        }
    }
}
