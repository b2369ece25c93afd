//! One system call as the tool saw it.

use std::fmt;
use std::fs;

use cloison_sandbox::seccomp::call_name;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::Role;

/// How much of a path is read.
const TEXT_BYTES_MAX: usize = 160;

/// Calls whose first argument is a path.
const PATH_FIRST: &[&str] = &[
    "open",
    "stat",
    "lstat",
    "access",
    "chdir",
    "mkdir",
    "rmdir",
    "unlink",
    "readlink",
    "execve",
    "umount2",
    "fsopen",
    "memfd_create",
    "rename",
    "chmod",
    "statfs",
];
/// Calls whose second argument is one.
const PATH_SECOND: &[&str] = &[
    "openat",
    "openat2",
    "mkdirat",
    "mknodat",
    "unlinkat",
    "newfstatat",
    "readlinkat",
    "statx",
    "faccessat",
    "faccessat2",
    "execveat",
    "open_tree",
    "renameat",
    "renameat2",
    "fchmodat",
    "fchownat",
    "mount",
];

/// Calls whose first argument is an open file.
const FILE_FIRST: &[&str] = &["read", "pread64", "write", "getdents64", "lseek"];

/// A system call of a process that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whose.
    pub role: Role,
    /// The phase that was marked last.
    pub phase: u8,
    /// Its number in the x86-64 table.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The path that it names, or that of the file it reads or writes.
    pub path: Option<String>,
    /// The first bytes that a write(2) writes.
    pub data: Option<[u8; 16]>,
    /// What it returned, a negative error number included. `None`: it did not
    /// return, or that was not looked at.
    pub result: Option<i64>,
}

impl Call {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        u32::try_from(self.number)
            .ok()
            .and_then(call_name)
            .unwrap_or("unknown")
    }

    /// The error that it returned.
    #[must_use]
    pub fn error(&self) -> Option<Errno> {
        let number = i32::try_from(self.result?).ok()?;
        (-4095..0)
            .contains(&number)
            .then(|| Errno::from_raw(-number))
    }

    /// Reads what the arguments lead to, from a stopped process.
    pub(super) fn look_closer(&mut self, pid: Pid) {
        let name = self.name();
        let [first, second, third, ..] = self.arguments;
        if PATH_FIRST.contains(&name) {
            self.path = text(pid, first);
        } else if PATH_SECOND.contains(&name) {
            self.path = text(pid, second);
        } else if FILE_FIRST.contains(&name) {
            let link = fs::read_link(format!("/proc/{pid}/fd/{first}"));
            self.path = link.ok().map(|path| path.to_string_lossy().into_owned());
        }
        if name == "write" && third > 0 {
            self.data = word(pid, second).map(|low| {
                let high = if third > 8 {
                    word(pid, second + 8)
                } else {
                    None
                };
                let mut data = [0; 16];
                let bytes = low.to_ne_bytes().into_iter();
                let bytes = bytes.chain(high.unwrap_or(0).to_ne_bytes());
                for (to, from) in data.iter_mut().zip(bytes) {
                    *to = from;
                }
                data
            });
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role.name(), self.name())?;
        match &self.path {
            Some(path) => write!(f, "({path:?})")?,
            None => {
                let [a, b, c, ..] = self.arguments;
                write!(f, "({a:#x}, {b:#x}, {c:#x})")?;
            }
        }
        match (self.error(), self.result) {
            (Some(errno), _) => write!(f, " = {errno:?}"),
            (None, Some(result)) => write!(f, " = {result}"),
            (None, None) => Ok(()),
        }
    }
}

/// One word of a stopped process's memory.
pub(super) fn word(pid: Pid, address: u64) -> Option<u64> {
    let address = usize::try_from(address).ok()?;
    let word = ptrace::read(pid, std::ptr::without_provenance_mut(address)).ok()?;
    Some(word.cast_unsigned())
}

/// A string of it.
fn text(pid: Pid, address: u64) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < TEXT_BYTES_MAX {
        let next = word(pid, address + bytes.len() as u64)?;
        for byte in next.to_ne_bytes() {
            if byte == 0 {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.push(byte);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
