//! What a covered proc says of the machine: of the server's own limits, and
//! nothing that moves with anybody's load.
//!
//! Each file is made once, for one launch, and never changes: a reading that
//! follows what others do would tell one tenant of another, and that both are
//! on one machine.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::proc::Reader;
use crate::proc::fields::{decimal, lines, words};
use crate::spec::Spec;

/// A file of ours in a covered proc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path beneath the root of the proc.
    pub(crate) path: String,
    pub(crate) content: String,
}

/// What no processor instruction hides and no load changes: the lines of
/// `cpuinfo` that every process can ask the processor for.
const PROCESSOR_LINES: [&str; 15] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "cache size",
    "fpu",
    "fpu_exception",
    "cpuid level",
    "wp",
    "flags",
    "bugs",
    "clflush size",
    "cache_alignment",
    "address sizes",
];

/// Settings of the kernel that programs ask for and that stay as they are.
const SETTINGS: [&str; 12] = [
    "kernel/cap_last_cap",
    "kernel/ngroups_max",
    "kernel/osrelease",
    "kernel/ostype",
    "kernel/overflowgid",
    "kernel/overflowuid",
    "kernel/pid_max",
    "kernel/randomize_va_space",
    "kernel/version",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
];

/// What is said of the machine itself: none of it moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    memory_bytes: u64,
    /// The lines of one processor.
    processor: String,
    processors: u64,
    booted_at_s: u64,
    settings: Vec<(&'static str, String)>,
}

impl Machine {
    /// What `proc`, a whole one, says of it.
    ///
    /// # Errors
    /// open(2), read(2); `EBADMSG` for a `meminfo` without a total.
    pub(crate) fn of_proc(proc: impl AsFd) -> Result<Self, Errno> {
        let proc = proc.as_fd();
        let mut reader = Reader::new();
        let memory = total(reader.read(proc, c"meminfo")?).ok_or(Errno::EBADMSG)?;
        let mut settings = Vec::with_capacity(SETTINGS.len());
        let sys = openat(
            proc,
            c"sys",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        for path in SETTINGS {
            let name = std::ffi::CString::new(path).map_err(|_nul| Errno::EINVAL)?;
            match reader.read(&sys, &name) {
                Ok(text) => settings.push((path, String::from_utf8_lossy(text).into_owned())),
                // This kernel has no such setting.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self {
            memory_bytes: memory,
            processor: processor(&first_piece(proc)?),
            processors: sysconf(SysconfVar::_NPROCESSORS_ONLN)?
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(1),
            booted_at_s: booted_at_s()?,
            settings,
        })
    }
}

/// The files of the server of `spec`, which may use `processors` (a list; none:
/// all of them) and at most `memory_bytes_max`.
pub(crate) fn files(
    spec: &Spec,
    machine: &Machine,
    processors: Option<&str>,
    memory_bytes_max: Option<u64>,
) -> Vec<File> {
    let processors = match processors.and_then(numbers) {
        Some(numbers) => numbers,
        None => (0..machine.processors).collect(),
    };
    let memory = memory_bytes_max.map_or(machine.memory_bytes, |max| max.min(machine.memory_bytes));
    let file = |path: &str, content: String| File {
        path: path.to_owned(),
        content,
    };
    let mut files = vec![
        file("cpuinfo", cpuinfo(machine, &processors)),
        file("filesystems", filesystems()),
        file("loadavg", "0.00 0.00 0.00 1/1 1\n".to_owned()),
        file("meminfo", meminfo(memory)),
        file("stat", stat(machine, &processors)),
        file(
            "swaps",
            "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned(),
        ),
        file("uptime", "0.00 0.00\n".to_owned()),
        file("vmstat", vmstat()),
    ];
    let settings = machine.settings.iter().cloned();
    let own = [
        ("fs/nr_open", format!("{}\n", spec.limits.open_files_max)),
        ("kernel/domainname", "(none)\n".to_owned()),
        ("kernel/hostname", format!("{}\n", spec.name)),
        (
            "kernel/threads-max",
            format!("{}\n", spec.limits.processes_max),
        ),
        // That of every network namespace that nobody has changed.
        ("net/core/somaxconn", "4096\n".to_owned()),
    ];
    files.extend(
        settings
            .chain(own)
            .map(|(path, content)| file(&format!("sys/{path}"), content)),
    );
    files
}

/// A total of which all is free: what is in use by whom is nobody's business.
fn meminfo(bytes: u64) -> String {
    let total = bytes / 1024;
    let mut text = String::new();
    for (name, kib) in [
        ("MemTotal", total),
        ("MemFree", total),
        ("MemAvailable", total),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("CommitLimit", total),
        ("Committed_AS", 0),
        ("Hugepagesize", 2048),
    ] {
        append(
            &mut text,
            format_args!("{:<16}{kib:>8} kB\n", format!("{name}:")),
        );
    }
    text
}

fn cpuinfo(machine: &Machine, processors: &[u64]) -> String {
    let mut text = String::new();
    let count = processors.len();
    for (core, number) in processors.iter().enumerate() {
        append(&mut text, format_args!("processor\t: {number}\n"));
        text.push_str(&machine.processor);
        append(
            &mut text,
            format_args!(
                "physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {core}\ncpu cores\t: {count}\n\n"
            ),
        );
    }
    text
}

fn stat(machine: &Machine, processors: &[u64]) -> String {
    const IDLE: &str = "0 0 0 0 0 0 0 0 0 0";
    let mut text = format!("cpu  {IDLE}\n");
    for number in processors {
        append(&mut text, format_args!("cpu{number} {IDLE}\n"));
    }
    append(
        &mut text,
        format_args!(
            "intr 0\nctxt 0\nbtime {}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n",
            machine.booted_at_s
        ),
    );
    text
}

/// What has been read, written and swapped: nothing.
fn vmstat() -> String {
    let mut text = String::new();
    for name in [
        "pgpgin",
        "pgpgout",
        "pswpin",
        "pswpout",
        "pgfault",
        "pgmajfault",
    ] {
        append(&mut text, format_args!("{name} 0\n"));
    }
    text
}

/// Those that a sandbox has of its own.
fn filesystems() -> String {
    let mut text = String::new();
    for name in ["devpts", "proc", "tmpfs"] {
        append(&mut text, format_args!("nodev\t{name}\n"));
    }
    text
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let written = text.write_fmt(more);
    debug_assert!(written.is_ok());
}

/// The total of a `meminfo`, in bytes.
fn total(text: &[u8]) -> Option<u64> {
    let line = lines(text).find(|line| line.starts_with(b"MemTotal:"))?;
    decimal(words(line).nth(1)?)?.checked_mul(1024)
}

/// The numbers of a list such as `0-3,8`; `None` if it is none, or empty.
fn numbers(list: &str) -> Option<Vec<u64>> {
    const PROCESSORS_MAX: usize = 4096;
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (decimal(first.as_bytes())?, decimal(last.as_bytes())?);
        let room = PROCESSORS_MAX.saturating_sub(all.len());
        all.extend((first..=last).take(room));
    }
    (!all.is_empty()).then_some(all)
}

/// The first piece of `cpuinfo`: the whole of it asks every processor of the
/// machine for its frequency.
fn first_piece(proc: impl AsFd) -> Result<Vec<u8>, Errno> {
    let file = openat(
        proc,
        c"cpuinfo",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut piece = vec![0; 4096];
    let read = nix::unistd::read(&file, &mut piece)?;
    piece.truncate(read);
    Ok(piece)
}

/// The lines of the first processor that stay.
fn processor(cpuinfo: &[u8]) -> String {
    let text = String::from_utf8_lossy(cpuinfo);
    let first = text.split("\n\n").next().unwrap_or_default();
    let mut kept = String::new();
    for line in first.lines() {
        let name = line.split(':').next().unwrap_or_default().trim_end();
        if PROCESSOR_LINES.contains(&name) {
            append(&mut kept, format_args!("{line}\n"));
        }
    }
    kept
}

/// When the machine was booted: what the clocks tell everybody, and what the
/// start of a process is counted from.
fn booted_at_s() -> Result<u64, Errno> {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    Ok(now.saturating_sub(u64::try_from(since.tv_sec()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SandboxName;

    fn machine() -> Machine {
        Machine {
            memory_bytes: 8 << 30,
            processor: processor(
                b"processor\t: 5\nvendor_id\t: X\ncpu MHz\t\t: 1234.5\nflags\t\t: a b\n\nprocessor\t: 6\n",
            ),
            processors: 2,
            booted_at_s: 7,
            settings: vec![("kernel/ostype", "Linux\n".to_owned())],
        }
    }

    fn content(path: &str, processors: Option<&str>, memory: Option<u64>) -> String {
        let name = SandboxName::new("web").ok();
        let spec = name.map(|name| Spec::new(name, vec!["/a".to_owned()]));
        let files = spec.map(|spec| files(&spec, &machine(), processors, memory));
        files
            .into_iter()
            .flatten()
            .find(|file| file.path == path)
            .map(|file| file.content)
            .unwrap_or_default()
    }

    #[test]
    fn memory_is_the_limit_and_never_more_than_there_is() {
        for (limit, kib) in [
            (Some(64 << 20), 64 << 10),
            (Some(1 << 60), 8 << 20),
            (None, 8 << 20),
        ] {
            let text = content("meminfo", None, limit);
            assert_eq!(total(text.as_bytes()), Some(kib << 10));
            assert!(
                text.contains(&format!("MemAvailable:{kib:>11} kB")),
                "{text}"
            );
        }
    }

    #[test]
    fn processors_are_the_cgroups() {
        let text = content("cpuinfo", Some("1,3-4"), None);
        let numbers: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("processor\t: "))
            .collect();
        assert_eq!(numbers, ["1", "3", "4"]);
        assert!(
            text.contains("vendor_id\t: X") && !text.contains("MHz"),
            "{text}"
        );
        assert!(content("stat", Some("1,3-4"), None).contains("\ncpu4 0 "));
        assert_eq!(
            content("cpuinfo", None, None).matches("processor").count(),
            2
        );
    }

    #[test]
    fn sys_tells_of_the_server() {
        assert_eq!(content("sys/kernel/hostname", None, None), "web\n");
        assert_eq!(content("sys/fs/nr_open", None, None), "1024\n");
        assert_eq!(content("sys/kernel/ostype", None, None), "Linux\n");
    }

    #[test]
    fn lists_of_processors_are_numbers_or_nothing() {
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        for odd in ["", "a", "1-", "-1", "1,,2"] {
            assert_eq!(numbers(odd), None, "{odd}");
        }
        assert_eq!(numbers("0-99999999999").map(|all| all.len()), Some(4096));
    }
}
