//! What is left of a tenant: asked from outside, with nobody's word taken
//! but that of the kernel and of the tenant's own server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::client;
use crate::ground;
use crate::key::TenantKey;
use crate::tenants;

const FILE_BYTES_MAX: u64 = 1 << 20;
/// A server on the same machine that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The SHA-256 of some content.
pub(crate) type Hash = [u8; 32];

/// The SHA-256 of `content`.
pub(crate) fn hash(content: &[u8]) -> Hash {
    Sha256::digest(content).into()
}

/// How a canary was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// As it was made.
    Intact,
    /// Changed, emptied or ended.
    Taken,
    /// The tenant could not have it: the error number.
    Absent(i32),
    /// Nobody answers for it.
    Unknown,
}

/// How a service was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    /// It serves every file as it was.
    Whole,
    /// It serves other content than it did.
    Changed,
    /// It does not answer.
    Silent,
}

/// What a canary stands for: a way to reach a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Canary {
    /// A file that only an inherited descriptor leads to.
    Descriptor,
    /// Memory of the server.
    Process,
    /// A process that can be ended.
    Signal,
    /// A System V shared memory segment.
    SharedMemory,
    /// A System V semaphore.
    Semaphore,
    /// A System V message.
    Message,
    /// A POSIX message.
    PosixMessage,
    /// A key in the kernel.
    Key,
    /// An abstract unix socket.
    AbstractSocket,
    /// A unix socket with a path.
    PathSocket,
    /// A port of the loopback interface.
    Port,
}

impl Canary {
    /// Those that the server answers for, by the name it uses.
    const ASKED: [(&'static str, Self); 9] = [
        ("memory", Self::Process),
        ("clerk", Self::Signal),
        ("shm", Self::SharedMemory),
        ("sem", Self::Semaphore),
        ("msg", Self::Message),
        ("mqueue", Self::PosixMessage),
        ("abstract", Self::AbstractSocket),
        ("path", Self::PathSocket),
        ("port", Self::Port),
    ];
}

/// The ways to reach a neighbour besides files, and the canaries of each.
pub(crate) const CANARIES: [(&str, &[Canary]); 6] = [
    ("descriptor", &[Canary::Descriptor]),
    ("memory", &[Canary::Process]),
    ("signal", &[Canary::Signal]),
    (
        "ipc",
        &[
            Canary::SharedMemory,
            Canary::Semaphore,
            Canary::Message,
            Canary::PosixMessage,
        ],
    ),
    ("key", &[Canary::Key]),
    (
        "socket",
        &[Canary::AbstractSocket, Canary::PathSocket, Canary::Port],
    ),
];

/// Where a tenant can be measured.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    /// The folder that it serves.
    pub(crate) folder: &'a File,
    /// Its server, as reached from outside.
    pub(crate) address: SocketAddr,
    pub(crate) key: &'a TenantKey,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Found {
    pub(crate) files_intact: usize,
    pub(crate) files_total: usize,
    pub(crate) service: Service,
    pub(crate) canaries: BTreeMap<Canary, State>,
}

impl Found {
    /// Whether nothing was lost: what is absent was never there.
    pub(crate) fn is_whole(&self) -> bool {
        let kept = |state: &State| matches!(state, State::Intact | State::Absent(_));
        self.files_intact == self.files_total
            && self.service == Service::Whole
            && self.canaries.values().all(kept)
    }

    /// Whether the tenant could have at least one of these.
    pub(crate) fn has_one_of(&self, canaries: &[Canary]) -> bool {
        let mut states = canaries.iter().map(|canary| self.state(*canary));
        states.any(|state| !matches!(state, State::Absent(_)))
    }

    /// The state of one canary.
    pub(crate) fn state(&self, canary: Canary) -> State {
        self.canaries
            .get(&canary)
            .copied()
            .unwrap_or(State::Unknown)
    }
}

/// Measures one tenant.
pub(crate) fn measure(subject: &Subject<'_>) -> Found {
    let files = tenants::files(subject.name);
    let intact = files
        .iter()
        .filter(|file| is_intact(subject.folder, file))
        .count();
    let service = ask_for_all(subject.address, &files);
    let mut canaries = BTreeMap::from([
        (Canary::Descriptor, drawer(subject.name)),
        (Canary::Key, intact_or_taken(subject.key.is_intact())),
    ]);
    let answer = match service {
        Service::Silent => None,
        _ => client::get(subject.address, "/canaries", ANSWER_TIMEOUT).ok(),
    };
    let status = answer.map_or_else(String::new, |answer| {
        String::from_utf8_lossy(&answer.body).into_owned()
    });
    for (name, canary) in Canary::ASKED {
        canaries.insert(canary, state_in(&status, name));
    }
    Found {
        files_intact: intact,
        files_total: files.len(),
        service,
        canaries,
    }
}

/// Whether a file of a tenant, below `folder`, is as it was made.
pub(crate) fn is_intact(folder: &File, file: &tenants::File) -> bool {
    let found = read_beneath(folder, Path::new(file.name), FILE_BYTES_MAX);
    found.is_ok_and(|content| hash(&content) == hash(file.content.as_bytes()))
}

/// The content of a regular file of a tenant.
///
/// Its path is a tenant's to change at any time, so no link in it is followed
/// and nothing but a regular file is read.
///
/// # Errors
/// openat2(2), read(2); `InvalidData` for what is no file or larger than
/// `bytes_max`.
pub(crate) fn read_beneath(folder: &File, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    let opened: OwnedFd = openat2(folder, path, how)?;
    let file = File::from(opened);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content)
}

fn ask_for_all(address: SocketAddr, files: &[tenants::File]) -> Service {
    for file in files {
        let path = format!("/{}", file.name);
        match client::get(address, &path, ANSWER_TIMEOUT) {
            Ok(answer) if answer.status == 200 && answer.body == file.content.as_bytes() => {}
            Ok(_) => return Service::Changed,
            Err(_) => return Service::Silent,
        }
    }
    Service::Whole
}

fn drawer(name: &str) -> State {
    let content = std::fs::read(ground::drawer_of(name));
    intact_or_taken(content.is_ok_and(|content| content == ground::drawer_content(name).as_bytes()))
}

fn intact_or_taken(intact: bool) -> State {
    if intact { State::Intact } else { State::Taken }
}

/// The state of the canary called `name` in a server's answer.
fn state_in(status: &str, name: &str) -> State {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match line {
        Some("intact") => State::Intact,
        Some("taken") => State::Taken,
        Some(other) => other
            .strip_prefix("absent ")
            .and_then(|errno| errno.parse().ok())
            .map_or(State::Unknown, State::Absent),
        None => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{State, state_in};

    #[test]
    fn silence_is_not_taken_for_intact() {
        let status = "memory intact\nshm taken\nsem absent 1\nmsg absent x\nport\n";
        assert_eq!(state_in(status, "memory"), State::Intact);
        assert_eq!(state_in(status, "shm"), State::Taken);
        assert_eq!(state_in(status, "sem"), State::Absent(1));
        for unknown in ["msg", "port", "clerk", "mem"] {
            assert_eq!(state_in(status, unknown), State::Unknown, "{unknown}");
        }
    }
}
