//! B02 and B20: into a namespace of somebody outside, by its entry in /proc,
//! by a descriptor of the process, by a handle.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Errno, int, name, nr};

const NAME_TO_HANDLE_AT: usize = 303;
const OPEN_BY_HANDLE_AT: usize = 304;
const SETNS: usize = 308;
const AT_EMPTY_PATH: usize = 0x1000;
/// Handles of processes and of namespaces are found without a mount.
const FD_PIDFS_ROOT: i32 = -10_002;
const FD_NSFS_ROOT: i32 = -10_003;
const EINVAL: Errno = Errno(22);
const EOPNOTSUPP: Errno = Errno(95);

/// Name in /proc, flag of the kind, request that hands it out of a pidfd.
const KINDS: [(&str, usize, usize); 5] = [
    ("net", 0x4000_0000, 0xff04),
    ("mnt", 0x2_0000, 0xff03),
    ("ipc", 0x800_0000, 0xff02),
    ("uts", 0x400_0000, 0xff0a),
    ("cgroup", 0x200_0000, 0xff01),
];

/// Joins each namespace of `victim`.
pub(crate) fn b02(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let victim: i32 = arguments.number("victim")?;
    for (kind, flag, _) in KINDS {
        report.way(&format!("join-proc-{kind}"), || {
            match File::open(format!("/proc/{victim}/ns/{kind}")) {
                Ok(namespace) => join(namespace.as_raw_fd(), 0, kind),
                Err(error) => Verdict::refused("open", &error),
            }
        });
        report.way(&format!("join-pidfd-{kind}"), || match pidfd(victim) {
            Ok(pidfd) => join(pidfd, flag, kind),
            Err(errno) => Verdict::stopped("pidfd_open", errno),
        });
    }
    Ok(())
}

fn join(descriptor: i32, flags: usize, kind: &str) -> Verdict {
    // SAFETY: takes no pointer; the program has one thread.
    let joined = unsafe { sys::call(SETNS, [int(descriptor), flags]) };
    Verdict::of("setns", joined, &format!("in the {kind} namespace outside"))
}

fn pidfd(pid: i32) -> Result<i32, Errno> {
    // SAFETY: pidfd_open takes no pointer.
    let opened = unsafe { sys::call(nr::PIDFD_OPEN, [int(pid), 0]) }?;
    i32::try_from(opened).map_err(|_| sys::EBADF)
}

/// struct file_handle with room for any.
#[repr(C)]
#[derive(Clone, Copy)]
struct Handle {
    length: u32,
    kind: i32,
    bytes: [u8; 128],
}

impl Handle {
    /// The one of what a descriptor leads to.
    fn of(descriptor: i32) -> Result<Self, Errno> {
        let mut handle = Self {
            length: 128,
            kind: 0,
            bytes: [0; 128],
        };
        let mut mount = [0_u64; 2];
        let at = (&raw mut handle).expose_provenance();
        let mount_at = mount.as_mut_ptr().expose_provenance();
        // SAFETY: the call reads an empty string and writes a handle of at
        // most the length that it was told, and a number.
        unsafe {
            sys::call(
                NAME_TO_HANDLE_AT,
                [int(descriptor), name(c""), at, mount_at, AT_EMPTY_PATH],
            )
        }?;
        Ok(handle)
    }

    fn encode(self) -> String {
        let bytes = self.bytes.get(..self.length as usize).unwrap_or_default();
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{}", self.kind, digits.concat())
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, digits) = text.split_once(':')?;
        let mut bytes = [0; 128];
        let mut length = 0;
        for (place, at) in bytes.iter_mut().zip((0..digits.len()).step_by(2)) {
            *place = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
            length += 1;
        }
        Some(Self {
            length,
            kind: kind.parse().ok()?,
            bytes,
        })
    }

    fn open(self, root: i32) -> Verdict {
        let at = (&raw const self).expose_provenance();
        // SAFETY: the call reads the handle, which names its own length.
        let opened = unsafe { sys::call(OPEN_BY_HANDLE_AT, [int(root), at, 0]) };
        Verdict::of("open_by_handle_at", opened, "its handle was opened")
    }
}

/// Says the handles of a process outside, `pid`, and of its namespaces; those
/// that the kernel does not give are `-`.
pub(crate) fn handles(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let pid: i32 = arguments.number("pid")?;
    let mut words = Vec::new();
    for (kind, ..) in KINDS {
        let namespace = File::open(format!("/proc/{pid}/ns/{kind}"))
            .map_err(|error| CouldNotTry(format!("ns/{kind}: {error}")))?;
        words.push(format!(
            "{kind}={}",
            said(Handle::of(namespace.as_raw_fd()))?
        ));
    }
    let pidfd = pidfd(pid).map_err(|errno| CouldNotTry(format!("pidfd_open: {errno}")))?;
    words.push(format!("process={}", said(Handle::of(pidfd))?));
    println!("{}", words.join(" "));
    Ok(ExitCode::SUCCESS)
}

fn said(handle: Result<Handle, Errno>) -> Result<String, CouldNotTry> {
    match handle {
        Ok(handle) => Ok(handle.encode()),
        Err(EOPNOTSUPP) => Ok("-".to_owned()),
        Err(errno) => Err(CouldNotTry(format!("name_to_handle_at: {errno}"))),
    }
}

/// Opens process and namespaces of `victim` by their handles, which are small
/// numbers, and lets its pidfd hand its namespaces out.
pub(crate) fn b20(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let victim: i32 = arguments.number("victim")?;
    let mut handles = Vec::new();
    for (kind, root) in KINDS
        .map(|(kind, ..)| (kind, FD_NSFS_ROOT))
        .into_iter()
        .chain([("process", FD_PIDFS_ROOT)])
    {
        let text = arguments.text(kind)?;
        handles.push((kind, root, Handle::decode(text)));
    }
    for (kind, root, handle) in handles {
        report.way(&format!("handle-{kind}"), || match handle {
            Some(handle) => handle.open(root),
            None => Verdict::Absent("name_to_handle_at EOPNOTSUPP".to_owned()),
        });
    }
    for (kind, _, request) in KINDS {
        report.way(&format!("pidfd-{kind}"), || hand_out(victim, request));
    }
    Ok(())
}

fn hand_out(victim: i32, request: usize) -> Verdict {
    let pidfd = match pidfd(victim) {
        Ok(pidfd) => pidfd,
        Err(errno) => return Verdict::stopped("pidfd_open", errno),
    };
    // SAFETY: these requests take no pointer.
    match unsafe { sys::call(nr::IOCTL, [int(pidfd), request, 0]) } {
        Err(errno @ (EINVAL | Errno(25))) => Verdict::Absent(format!("ioctl {errno}")),
        answer => Verdict::of("ioctl", answer, "its namespace was handed out"),
    }
}
