//! A21, C01, C02, C03, C14, C15, C20, C21: calls that open a part of the
//! kernel. A descriptor that is handed out is held until it was looked at and
//! never used; where there is none, the arguments are made to fail behind every
//! check.

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, EBADF, EFAULT, ENOENT, ENOSYS, Errno, int, name, nr};

/// # Source
/// syscalls(2), table of x86-64.
mod number {
    pub(super) const MADVISE: usize = 28;
    pub(super) const SYSLOG: usize = 103;
    pub(super) const USTAT: usize = 136;
    pub(super) const SYSFS: usize = 139;
    pub(super) const PRCTL: usize = 157;
    pub(super) const ACCT: usize = 163;
    pub(super) const SWAPON: usize = 167;
    pub(super) const SWAPOFF: usize = 168;
    pub(super) const REMAP_FILE_PAGES: usize = 216;
    pub(super) const VMSPLICE: usize = 278;
    pub(super) const PERF_EVENT_OPEN: usize = 298;
    pub(super) const FANOTIFY_INIT: usize = 300;
    pub(super) const FANOTIFY_MARK: usize = 301;
    pub(super) const NAME_TO_HANDLE_AT: usize = 303;
    pub(super) const BPF: usize = 321;
    pub(super) const USERFAULTFD: usize = 323;
    pub(super) const MEMFD_SECRET: usize = 447;
    pub(super) const LSM_LIST_MODULES: usize = 461;
}

const AT_FDCWD: i32 = -100;
const EINVAL: Errno = Errno(22);
/// An address that no process has.
const WILD: usize = 1;
/// The kernel takes 32 bits of the option; a filter may compare all 64.
pub(crate) const HIGH_HALF: usize = 0x1_0000_0000;

/// Watches a file system, and reaches for what belongs to the machine.
pub(crate) fn a21(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const FILE_SYSTEM: usize = 0x100;
    const MOUNT: usize = 0x10;
    report.way("fanotify_init", || handed_out("fanotify_init", fanotify()));
    report.way("fanotify-file-system", || watch(FILE_SYSTEM));
    report.way("fanotify-mount", || watch(MOUNT));
    report.way("swapon", || {
        // SAFETY: a null name.
        let answer = unsafe { sys::call(number::SWAPON, [0, 0]) };
        reached("swapon", answer, &[EFAULT])
    });
    report.way("swapoff", || {
        // SAFETY: a null name.
        let answer = unsafe { sys::call(number::SWAPOFF, [0]) };
        reached("swapoff", answer, &[EFAULT])
    });
    report.way("acct", || {
        // SAFETY: an address that is wild on purpose; null would turn it off.
        let answer = unsafe { sys::call(number::ACCT, [WILD]) };
        reached("acct", answer, &[EFAULT])
    });
    report.way("name_to_handle_at", || {
        // struct file_handle: bytes that there are, type, bytes.
        let mut handle = [0_u32; 34];
        handle[0] = 128;
        let mut mount = 0_i32;
        let (at, mount) = (address(&raw mut handle), address(&raw mut mount));
        // SAFETY: the call reads a C string and writes a handle and an int.
        let answer = unsafe {
            sys::call(
                number::NAME_TO_HANDLE_AT,
                [int(AT_FDCWD), name(c"/tmp"), at, mount, 0],
            )
        };
        Verdict::of("name_to_handle_at", answer, "a file's handle was told")
    });
    Ok(())
}

fn fanotify() -> Answer {
    const CLOEXEC: usize = 1;
    // SAFETY: no pointer.
    unsafe { sys::call(number::FANOTIFY_INIT, [CLOEXEC, 0]) }
}

fn watch(kind: usize) -> Verdict {
    const ADD: usize = 1;
    const OPENED: usize = 0x20;
    let group = match fanotify() {
        Ok(group) => group,
        Err(errno) => return Verdict::stopped("fanotify_init", errno),
    };
    // SAFETY: the call reads a path, a C string.
    let marked = unsafe {
        sys::call(
            number::FANOTIFY_MARK,
            [group, ADD | kind, OPENED, int(AT_FDCWD), name(c"/tmp")],
        )
    };
    Verdict::of("fanotify_mark", marked, "a mark was set")
}

/// Makes a map and a program, and asks for those of others.
pub(crate) fn c01(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const MAP_CREATE: usize = 0;
    const PROGRAM_LOAD: usize = 5;
    const PROGRAM_NEXT_ID: usize = 11;
    const ARRAY: u64 = 2;
    const SOCKET_FILTER: u64 = 1;
    report.way("map", || {
        // Type and size of a key, then size of a value and entries.
        handed_out("bpf", bpf(MAP_CREATE, &[ARRAY | 4 << 32, 4 | 1 << 32]))
    });
    report.way("program", || {
        // r0 = 0; exit.
        let code: [u64; 2] = [0xb7, 0x95];
        let license = c"GPL";
        let attributes = [
            SOCKET_FILTER | 2 << 32,
            address(&raw const code) as u64,
            name(license) as u64,
        ];
        handed_out("bpf", bpf(PROGRAM_LOAD, &attributes))
    });
    report.way("next-id", || {
        reached("bpf", bpf(PROGRAM_NEXT_ID, &[]), &[ENOENT])
    });
    Ok(())
}

fn bpf(command: usize, attributes: &[u64]) -> Answer {
    // union bpf_attr, the rest of it zero.
    let mut all = [0_u64; 16];
    for (place, value) in all.iter_mut().zip(attributes) {
        *place = *value;
    }
    let at = address(&raw mut all);
    // SAFETY: the call reads and writes the union, whose size is passed; what
    // it points to lives in the caller's frame.
    unsafe { sys::call(number::BPF, [command, at, size_of_val(&all)]) }
}

/// Counts an event that never happens: of itself, of the kernel, of a
/// processor.
pub(crate) fn c02(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const DISABLED: u64 = 1;
    const NO_KERNEL: u64 = 1 << 5 | 1 << 6;
    report.way("own", || {
        handed_out("perf_event_open", perf(DISABLED | NO_KERNEL, 0, -1))
    });
    report.way("kernel", || {
        handed_out("perf_event_open", perf(DISABLED, 0, -1))
    });
    report.way("processor", || {
        handed_out("perf_event_open", perf(DISABLED | NO_KERNEL, -1, 0))
    });
    Ok(())
}

fn perf(flags: u64, pid: i32, processor: i32) -> Answer {
    const SOFTWARE: u64 = 1;
    const DUMMY: u64 = 9;
    const CLOEXEC: usize = 8;
    // struct perf_event_attr of its first size: type and size, event, period,
    // sample type, read format, flags.
    let attributes: [u64; 8] = [SOFTWARE | 64 << 32, DUMMY, 0, 0, 0, flags, 0, 0];
    let at = address(&raw const attributes);
    // SAFETY: the call reads the structure, whose size it names.
    unsafe {
        sys::call(
            number::PERF_EVENT_OPEN,
            [at, int(pid), int(processor), int(-1), CLOEXEC],
        )
    }
}

/// Asks for odd memory.
pub(crate) fn c03(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const CLOEXEC: usize = 0o2_000_000;
    const USER_MODE_ONLY: usize = 1;
    let faults = |flags| {
        // SAFETY: no pointer.
        unsafe { sys::call(number::USERFAULTFD, [CLOEXEC | flags]) }
    };
    report.way("userfaultfd", || {
        handed_out("userfaultfd", faults(USER_MODE_ONLY))
    });
    report.way("userfaultfd-kernel", || {
        handed_out("userfaultfd", faults(0))
    });
    report.way("memfd_secret", || {
        // SAFETY: no pointer.
        let answer = unsafe { sys::call(number::MEMFD_SECRET, [CLOEXEC]) };
        handed_out("memfd_secret", answer)
    });
    report.way("remap_file_pages", || {
        // SAFETY: no memory is named: the answer is EINVAL.
        let answer = unsafe { sys::call(number::REMAP_FILE_PAGES, [0; 5]) };
        reached("remap_file_pages", answer, &[EINVAL])
    });
    report.way("vmsplice", || {
        // SAFETY: no descriptor and no pointer.
        let answer = unsafe { sys::call(number::VMSPLICE, [usize::MAX, 0, 0, 0]) };
        reached("vmsplice", answer, &[EBADF])
    });
    Ok(())
}

/// Asks for the kernel's log and tables.
pub(crate) fn c14(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const SIZE_UNREAD: usize = 9;
    const SIZE_BUFFER: usize = 10;
    const COUNT: usize = 3;
    for (way, action) in [("log-unread", SIZE_UNREAD), ("log-size", SIZE_BUFFER)] {
        report.way(way, || {
            // SAFETY: both only tell a size; no pointer.
            let answer = unsafe { sys::call(number::SYSLOG, [action, 0, 0]) };
            Verdict::of("syslog", answer, "a size was told")
        });
    }
    report.way("sysfs", || {
        // SAFETY: this option takes no pointer.
        let answer = unsafe { sys::call(number::SYSFS, [COUNT, 0, 0]) };
        Verdict::of("sysfs", answer, "the file systems were counted")
    });
    report.way("ustat", || {
        // SAFETY: no device, and a null pointer.
        let answer = unsafe { sys::call(number::USTAT, [0, 0]) };
        reached("ustat", answer, &[EINVAL])
    });
    report.way("lsm_list_modules", || {
        // SAFETY: null pointers.
        let answer = unsafe { sys::call(number::LSM_LIST_MODULES, [0, 0, 0]) };
        reached("lsm_list_modules", answer, &[EFAULT])
    });
    Ok(())
}

fn prctl(option: usize, arguments: [usize; 4]) -> Answer {
    let [a, b, c, d] = arguments;
    // SAFETY: numbers, null, or the address of an int that the caller keeps.
    unsafe { sys::call(number::PRCTL, [option, a, b, c, d]) }
}

/// Controls of one's own process that no program needs.
pub(crate) fn c15(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const SET_SECCOMP: usize = 22;
    const SET_MM: usize = 35;
    const MM_MAP_SIZE: usize = 15;
    const SET_DISPATCH: usize = 59;
    const UNKNOWN_MODE: usize = 99;
    for (kind, high) in [("", 0), ("-high-half", HIGH_HALF)] {
        report.way(&format!("memory-map{kind}"), || {
            let mut size = 0_u32;
            let arguments = [MM_MAP_SIZE, address(&raw mut size), 0, 0];
            Verdict::of("prctl", prctl(SET_MM | high, arguments), "a size was told")
        });
        report.way(&format!("call-dispatch{kind}"), || {
            let answer = prctl(SET_DISPATCH | high, [0; 4]);
            Verdict::of("prctl", answer, "it was turned off, as it was")
        });
        report.way(&format!("filter{kind}"), || {
            let answer = prctl(SET_SECCOMP | high, [UNKNOWN_MODE, 0, 0, 0]);
            reached("prctl", answer, &[EINVAL])
        });
    }
    Ok(())
}

/// Lets the processor speculate again.
pub(crate) fn c20(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const SET_SPECULATION: usize = 53;
    const ENABLE: usize = 2;
    for (way, control) in [("store-bypass", 0), ("indirect-branch", 1)] {
        for (kind, high) in [("", 0), ("-high-half", HIGH_HALF)] {
            report.way(&format!("{way}{kind}"), || {
                let answer = prctl(SET_SPECULATION | high, [control, ENABLE, 0, 0]);
                match answer {
                    Err(Errno(6 | 19)) => {
                        Verdict::Absent("this processor has no switch".to_owned())
                    }
                    answer => Verdict::of("prctl", answer, "it may speculate"),
                }
            });
        }
    }
    Ok(())
}

/// Offers its memory for merging with that of others.
pub(crate) fn c21(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const MERGEABLE: usize = 12;
    for (way, high) in [("madvise", 0), ("madvise-high-half", HIGH_HALF)] {
        report.way(way, || {
            const READ_WRITE: usize = 3;
            const PRIVATE_ANONYMOUS: usize = 0x22;
            // SAFETY: a new mapping, wherever the kernel puts it.
            let made = unsafe {
                let all = [0, 4096, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0];
                sys::call(nr::MMAP, all)
            };
            let at = match made {
                Ok(at) => at,
                Err(errno) => return Verdict::Untried(format!("mmap {errno}")),
            };
            // SAFETY: advice on the page that was just made.
            let answer = unsafe { sys::call(number::MADVISE, [at, 4096, MERGEABLE | high]) };
            Verdict::of("madvise", answer, "a page may be merged")
        });
    }
    Ok(())
}

/// Through if a descriptor was handed out. It is looked at from outside, until
/// this process ends.
pub(crate) fn handed_out(call: &str, answer: Answer) -> Verdict {
    match answer {
        Err(ENOSYS) => Verdict::Absent(format!("{call} ENOSYS")),
        answer => Verdict::of(call, answer, "a descriptor was handed out"),
    }
}

/// Through as well by the errors that come behind every check.
pub(crate) fn reached(call: &str, answer: Answer, behind: &[Errno]) -> Verdict {
    match answer {
        Ok(_) => Verdict::Through(format!("{call} answered")),
        Err(ENOSYS) => Verdict::Absent(format!("{call} ENOSYS")),
        Err(errno) if behind.contains(&errno) => {
            Verdict::Through(format!("{call} was reached ({errno})"))
        }
        Err(errno) => Verdict::stopped(call, errno),
    }
}

fn address<T>(of: *const T) -> usize {
    of.expose_provenance()
}
