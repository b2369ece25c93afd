//! Who looks: what a sandbox must not share.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::Owner;
use crate::proc::fields::decimal;

/// The namespaces, keyring and core cookie of the caller and the namespaces
/// of the host's process 1: what a sandbox's own are told apart from.
///
/// It is taken once and used for many sandboxes; it is stale after the caller
/// has joined another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vantage {
    caller: Namespaces,
    host: Namespaces,
    /// The serial number of the caller's session keyring, if it has one.
    pub keyring: Option<i64>,
    /// The caller's core scheduling cookie, 0 for none.
    pub core_cookie: i64,
}

/// Kinds of namespaces that are told apart by whose they are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Mount,
    Pid,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Mount,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    pub(super) fn file(self) -> &'static CStr {
        match self {
            Self::Mount => c"ns/mnt",
            Self::Pid => c"ns/pid",
            Self::Ipc => c"ns/ipc",
            Self::Uts => c"ns/uts",
            Self::Cgroup => c"ns/cgroup",
            Self::Time => c"ns/time",
        }
    }

    /// The number of the namespace that the kernel starts with. That of the
    /// first mount namespace is fixed since 6.18 only.
    ///
    /// # Source
    /// The kernel's `include/uapi/linux/nsfs.h`
    fn first_id(self) -> u64 {
        match self {
            Self::Ipc => 0xefff_ffff,
            Self::Uts => 0xefff_fffe,
            Self::Pid => 0xefff_fffc,
            Self::Cgroup => 0xefff_fffb,
            Self::Time => 0xefff_fffa,
            Self::Mount => 0xefff_fff8,
        }
    }
}

type Namespaces = [Option<u64>; Kind::ALL.len()];

impl Vantage {
    /// Looks at the caller and at process 1 in `proc`, a proc of the caller's
    /// pid namespace. Keyring and core cookie are for the caller to add.
    ///
    /// Where the caller may not look at process 1, the numbers that the kernel
    /// gives to the first namespace of each kind stand in.
    ///
    /// # Errors
    /// What the kernel said. A kind of namespace that it lacks is no error.
    pub fn of_caller(proc: impl AsFd) -> Result<Self, Errno> {
        let look = |process: &CStr| {
            let process = openat(
                &proc,
                process,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            namespaces(process.as_fd())
        };
        let host = match look(c"1") {
            Err(Errno::EACCES | Errno::EPERM) => Kind::ALL.map(|kind| Some(kind.first_id())),
            host => host?,
        };
        Ok(Self {
            // A thread may have left the namespaces of the others.
            caller: look(c"thread-self")?,
            host,
            keyring: None,
            core_cookie: 0,
        })
    }

    pub(super) fn owner_of(&self, kind: Kind, id: u64) -> Owner {
        let at = |namespaces: &Namespaces| namespaces.get(kind as usize).copied().flatten();
        if at(&self.host) == Some(id) {
            Owner::Host
        } else if at(&self.caller) == Some(id) {
            Owner::Caller
        } else {
            Owner::Own
        }
    }

    /// Whose the caller's time namespace is, which a sandbox keeps; `None`
    /// where the kernel has no such namespaces.
    pub(crate) fn owner_of_time(&self) -> Option<Owner> {
        let own = self.caller.get(Kind::Time as usize).copied().flatten()?;
        Some(self.owner_of(Kind::Time, own))
    }

    pub(super) fn owner_of_keyring(&self, serial: i64) -> Owner {
        match serial {
            0 => Owner::Nobody,
            serial if self.keyring == Some(serial) => Owner::Caller,
            _ => Owner::Own,
        }
    }

    pub(super) fn owner_of_cookie(&self, cookie: i64) -> Owner {
        match cookie {
            0 => Owner::Nobody,
            cookie if self.core_cookie == cookie => Owner::Caller,
            _ => Owner::Own,
        }
    }
}

fn namespaces(process: BorrowedFd<'_>) -> Result<Namespaces, Errno> {
    let mut ids = Namespaces::default();
    for (id, kind) in ids.iter_mut().zip(Kind::ALL) {
        *id = match namespace_id(process, kind.file()) {
            Ok(found) => Some(found),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
    }
    Ok(ids)
}

/// The number that names a namespace, from its link: half the price of
/// following it.
pub(super) fn namespace_id(process: BorrowedFd<'_>, file: &CStr) -> Result<u64, Errno> {
    let link = readlinkat(process, file)?;
    link.as_encoded_bytes()
        .strip_suffix(b"]")
        .and_then(|rest| rest.rsplit(|byte| *byte == b'[').next())
        .and_then(decimal)
        .ok_or(Errno::EBADMSG)
}
