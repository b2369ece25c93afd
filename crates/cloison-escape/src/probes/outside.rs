//! What is read of a process from outside it, in the stage's `/proc`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::unistd::Pid;

/// How much of an entry an attempt hands back at most.
const PIECE_BYTES: usize = 64;

/// A process, by its number on the stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(pub(super) i32);

impl Process {
    /// The one that has the number `inner` in the pid namespace of `sandbox`.
    pub(super) fn inside(sandbox: Pid, inner: i32) -> io::Result<Option<Self>> {
        let namespace = Self(sandbox.as_raw()).link("ns/pid")?;
        let found = all()?.into_iter().find(|process| {
            let is_its = process.field("NSpid").is_some_and(|numbers| {
                numbers.split_whitespace().last() == Some(&inner.to_string())
            });
            is_its && process.link("ns/pid").is_ok_and(|link| link == namespace)
        });
        Ok(found)
    }

    fn path(self, entry: &str) -> String {
        format!("/proc/{}/{entry}", self.0)
    }

    pub(super) fn text(self, entry: &str) -> io::Result<String> {
        fs::read_to_string(self.path(entry))
    }

    fn link(self, entry: &str) -> io::Result<String> {
        let target = fs::read_link(self.path(entry))?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Device and number of the file that an entry leads to.
    fn file(self, entry: &str) -> io::Result<(u64, u64)> {
        let found = fs::metadata(self.path(entry))?;
        Ok((found.dev(), found.ino()))
    }

    pub(super) fn mode(self, entry: &str) -> io::Result<u32> {
        Ok(fs::metadata(self.path(entry))?.mode())
    }

    /// A field of `stat`, counted from 1 as in its manual; from 3 on.
    pub(super) fn stat(self, number: usize) -> io::Result<String> {
        let stat = self.text("stat")?;
        // Behind the name, which may hold anything, stands the third field.
        let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = behind.split_whitespace();
        let field = fields.nth(number.saturating_sub(3)).unwrap_or_default();
        Ok(field.to_owned())
    }

    /// The user and the group that own what an entry leads to.
    pub(super) fn owners(self, entry: &str) -> io::Result<(u32, u32)> {
        let found = fs::metadata(self.path(entry))?;
        Ok((found.uid(), found.gid()))
    }

    pub(super) fn children(self) -> io::Result<Vec<Self>> {
        let own = self.0.to_string();
        let mut children = all()?;
        children.retain(|process| process.field("PPid").as_deref() == Some(own.as_str()));
        Ok(children)
    }

    /// The first bytes of an entry, as an attempt hands them back.
    pub(super) fn beginning(self, entry: &str) -> io::Result<String> {
        let mut bytes = [0; PIECE_BYTES];
        let count = File::open(self.path(entry))?.read(&mut bytes)?;
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(digits.get(..count).unwrap_or_default().concat())
    }

    pub(super) fn field(self, name: &str) -> Option<String> {
        let status = self.text("status").ok()?;
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(key, _)| *key == name)?;
        Some(value.trim().to_owned())
    }

    /// What its descriptors lead to.
    fn descriptors(self) -> io::Result<Vec<String>> {
        let listed: Result<Vec<_>, _> = fs::read_dir(self.path("fd"))?.collect();
        let names = listed?.into_iter().map(|entry| entry.file_name());
        Ok(names
            .map(|name| format!("fd/{}", name.to_string_lossy()))
            .collect())
    }

    /// Whether it holds a descriptor of the file that `entry` of `other` leads
    /// to.
    pub(super) fn holds(self, other: Self, entry: &str) -> io::Result<bool> {
        let wanted = other.file(entry)?;
        let own = self.descriptors()?;
        Ok(own
            .iter()
            .any(|fd| self.file(fd).is_ok_and(|file| file == wanted)))
    }

    /// Whether it holds a descriptor whose name begins so.
    pub(super) fn holds_one_of(self, start: &str) -> io::Result<bool> {
        let own = self.descriptors()?;
        Ok(own
            .iter()
            .any(|fd| self.link(fd).is_ok_and(|link| link.starts_with(start))))
    }

    /// Whether it holds a descriptor, open for writing, whose name ends so.
    pub(super) fn writes_to(self, end: &str) -> io::Result<bool> {
        let own = self.descriptors()?;
        Ok(own.iter().any(|fd| {
            let is_its = self.link(fd).is_ok_and(|link| link.ends_with(end));
            is_its && self.is_writable(fd)
        }))
    }

    fn is_writable(self, fd: &str) -> bool {
        const ACCESS: u32 = 3;
        let told = self
            .text(&fd.replacen("fd", "fdinfo", 1))
            .unwrap_or_default();
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
        flags.is_some_and(|flags| flags & ACCESS != 0)
    }

    /// Whether the kernel tells so of a descriptor, in a line that begins so.
    pub(super) fn is_told(self, start: &str) -> io::Result<bool> {
        let told = |fd: &String| self.text(&fd.replacen("fd", "fdinfo", 1));
        let is_it = |text: String| text.lines().any(|line| line.starts_with(start));
        Ok(self
            .descriptors()?
            .iter()
            .any(|fd| told(fd).is_ok_and(is_it)))
    }

    /// Whether there is a node at `path` inside, of that device.
    pub(super) fn has_node(self, path: &str, number: u64) -> io::Result<bool> {
        let found = fs::symlink_metadata(self.path(&format!("root{path}")))?;
        let kind = found.file_type();
        Ok((kind.is_char_device() || kind.is_block_device()) && found.rdev() == number)
    }

    /// Whether there is a file at `path` inside.
    pub(super) fn has_file(self, path: &str) -> io::Result<bool> {
        Ok(fs::symlink_metadata(self.path(&format!("root{path}")))?.is_file())
    }

    /// Whether it is in the same namespace of `kind` as `other`.
    pub(super) fn shares(self, other: Self, kind: &str) -> io::Result<bool> {
        let entry = format!("ns/{kind}");
        Ok(self.link(&entry)? == other.link(&entry)?)
    }

    /// Whether it holds a descriptor of the process `other`.
    pub(super) fn holds_pidfd_of(self, other: Self) -> io::Result<bool> {
        let wanted = format!("Pid:\t{}", other.0);
        let is_it = |fd: &String| {
            let told = self.text(&fd.replace("fd/", "fdinfo/"));
            told.is_ok_and(|told| told.lines().any(|line| line == wanted))
        };
        Ok(self.descriptors()?.iter().any(is_it))
    }

    /// Whether it holds a readable descriptor of what the writable one `entry`
    /// leads to.
    pub(super) fn may_read_again(self, entry: &str) -> io::Result<bool> {
        let wanted = self.file(entry)?;
        let may_read = |fd: &String| {
            let told = self.text(&fd.replace("fd/", "fdinfo/")).unwrap_or_default();
            let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
            // O_ACCMODE; O_WRONLY is 1.
            flags.is_some_and(|flags| flags & 3 != 1)
        };
        Ok(self
            .descriptors()?
            .iter()
            .any(|fd| self.file(fd).is_ok_and(|file| file == wanted) && may_read(fd)))
    }

    /// Whether a socket that it holds is in `table` of its network.
    pub(super) fn holds_socket_of(self, table: &str) -> io::Result<bool> {
        let table = self.text(&format!("net/{table}"))?;
        let listed = |fd: &String| {
            let link = self.link(fd).ok()?;
            let number = link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            Some(table.split_whitespace().any(|word| word == number))
        };
        Ok(self
            .descriptors()?
            .iter()
            .any(|fd| listed(fd) == Some(true)))
    }

    /// Whether it or a child of its is, or its children will be, in another
    /// namespace of `kind` than `other`. A pid namespace without a process
    /// has no link yet.
    pub(super) fn left(self, other: Self, kind: &str) -> io::Result<bool> {
        let own = other.link(&format!("ns/{kind}"))?;
        let of = |process: Self, entry: String| process.link(&entry).is_ok_and(|link| link != own);
        let children = self.children()?.into_iter();
        let waits = kind == "pid" && self.link("ns/pid_for_children").is_err();
        let left = children.chain([self]).any(|process| {
            of(process, format!("ns/{kind}")) || of(process, format!("ns/{kind}_for_children"))
        });
        Ok(left || waits)
    }

    pub(super) fn is_traced_by(self, other: Self) -> bool {
        self.field("TracerPid") == Some(other.0.to_string())
    }

    /// What others may change of it, each by the way that does.
    pub(super) fn attributes(self) -> BTreeMap<&'static str, String> {
        let field = |number: usize| self.stat(number).ok();
        let limits = self.text("limits").unwrap_or_default();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let entry = |name| self.text(name).ok();
        [
            ("prlimit64", files.map(str::to_owned)),
            ("sched_setaffinity", self.field("Cpus_allowed")),
            ("setpriority", field(19)),
            ("sched_setscheduler", field(41)),
            ("proc-oom_score_adj", entry("oom_score_adj")),
            ("proc-coredump_filter", entry("coredump_filter")),
            ("proc-timerslack_ns", entry("timerslack_ns")),
        ]
        .into_iter()
        .filter_map(|(way, value)| Some((way, value?)))
        .collect()
    }
}

pub(super) fn all() -> io::Result<Vec<Process>> {
    let listed: Result<Vec<_>, _> = fs::read_dir("/proc")?.collect();
    let numbers = listed?
        .into_iter()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.map(Process).collect())
}
