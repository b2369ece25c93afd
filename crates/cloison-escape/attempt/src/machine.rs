//! B11 and B15 to B18: what belongs to the whole machine, and what a process
//! may make of its own execution. No call has an effect beyond this process:
//! what would have one is called with arguments that the kernel refuses once
//! every right was checked.

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const ENOMEM: Errno = Errno(12);

/// No descriptor, and no pointer.
const NOTHING: usize = usize::MAX;
const HIGH_HALF: usize = 0x1_0000_0000;

/// One system call; what is not in the kernel is nobody's.
fn judge(call: &str, answer: Answer, evidence: &str) -> Verdict {
    match answer {
        Err(sys::ENOSYS) => Verdict::Absent(format!("{call} ENOSYS")),
        answer => Verdict::of(call, answer, evidence),
    }
}

/// The same for a call that is made to fail: any answer but a refusal of
/// permission says that the right was there.
fn judge_failing(call: &str, answer: Answer) -> Verdict {
    match answer {
        Err(sys::ENOSYS) => Verdict::Absent(format!("{call} ENOSYS")),
        Err(errno @ (sys::EPERM | sys::EACCES)) => Verdict::stopped(call, errno),
        Err(errno) => Verdict::Through(format!("the right was there ({errno})")),
        Ok(_) => Verdict::Through("the right was there".to_owned()),
    }
}

/// Another execution domain, segments, ports.
pub(crate) fn b11(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const PERSONALITY: usize = 135;
    const READ_IMPLIES_EXEC: usize = 0x40_0000;
    const ADDR_NO_RANDOMIZE: usize = 0x4_0000;
    const PER_LINUX32: usize = 8;
    for (name, domain) in [
        ("personality-read-implies-exec", READ_IMPLIES_EXEC),
        ("personality-no-randomize", ADDR_NO_RANDOMIZE),
        ("personality-linux32", PER_LINUX32),
        ("personality-high-half", READ_IMPLIES_EXEC | HIGH_HALF),
    ] {
        report.way(name, || {
            // SAFETY: takes no pointer.
            let set = unsafe { sys::call(PERSONALITY, [domain]) };
            judge("personality", set, "the execution domain was changed")
        });
    }
    report.way("modify_ldt", || {
        const MODIFY_LDT: usize = 154;
        // struct user_desc: entry 0, base 0, limit 0, and the flags of an
        // entry that is empty.
        let entry = [0_u32, 0, 0, 0x28];
        let at = entry.as_ptr().expose_provenance();
        // SAFETY: the call reads the structure, whose size is passed.
        let set = unsafe { sys::call(MODIFY_LDT, [1, at, size_of_val(&entry)]) };
        // Its error numbers come back as positive ones of 32 bits.
        let answer = set.and_then(|value| sys::decode(value as u32 as i32 as isize));
        judge("modify_ldt", answer, "its segments were changed")
    });
    for (name, number, arguments) in [
        ("iopl", 172_usize, [3_usize, 0, 0]),
        // The port that delays: no driver is behind it.
        ("ioperm", 173, [0x80, 1, 1]),
    ] {
        report.way(name, || {
            // SAFETY: takes no pointer; no port is used.
            let set = unsafe { sys::call(number, arguments) };
            judge(name, set, "ports may be used")
        });
    }
    Ok(())
}

/// A better place among all processes, and the placement of memory.
pub(crate) fn b15(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (name, policy) in [("fifo", 1_usize), ("round-robin", 2)] {
        report.way(name, || {
            let priority = 1_i32;
            let at = (&raw const priority).expose_provenance();
            // SAFETY: the call reads one int, which is on this frame.
            let set = unsafe { sys::call(nr::SCHED_SETSCHEDULER, [0, policy, at]) };
            judge("sched_setscheduler", set, "it runs before all others")
        });
    }
    report.way("deadline", || {
        const SCHED_SETATTR: usize = 314;
        // struct sched_attr: size and policy, flags, nice and priority,
        // runtime, deadline, period: a tenth of a second in each, enough to say
        // how it went also on an emulated processor.
        const TENTH_NS: u64 = 100_000_000;
        let attributes: [u64; 6] = [48 | 6 << 32, 0, 0, TENTH_NS, 10 * TENTH_NS, 10 * TENTH_NS];
        let at = attributes.as_ptr().expose_provenance();
        // SAFETY: the call reads the structure, which names its own size.
        let set = unsafe { sys::call(SCHED_SETATTR, [0, at, 0]) };
        judge("sched_setattr", set, "it has a reservation")
    });
    report.way("nice", || {
        // SAFETY: takes no pointer.
        let set = unsafe { sys::call(nr::SETPRIORITY, [0, 0, int(-5)]) };
        judge("setpriority", set, "its nice value is below 0")
    });
    report.way("io-realtime", || {
        const WHO_PROCESS: usize = 1;
        const CLASS_REALTIME: usize = 1 << 13;
        // SAFETY: takes no pointer.
        let set = unsafe { sys::call(nr::IOPRIO_SET, [WHO_PROCESS, 0, CLASS_REALTIME]) };
        judge("ioprio_set", set, "its reads come before all others'")
    });
    for (name, number, arguments) in [
        // MPOL_PREFERRED without a node: the local one.
        ("set_mempolicy", 238_usize, [1_usize, 0, 0, 0, 0, 0]),
        ("mbind", 237, [0, 0, 1, 0, 0, 0]),
        ("get_mempolicy", 239, [0, 0, 0, 0, 0, 0]),
        ("migrate_pages", 256, [0, 0, 0, 0, 0, 0]),
    ] {
        report.way(name, || {
            // SAFETY: every pointer is null, and of no length.
            let answer = unsafe { sys::call(number, arguments) };
            judge_failing(name, answer)
        });
    }
    Ok(())
}

/// More than its limit on locked memory.
const LOCKED_BYTES: usize = 16 << 20;

/// A lower score when memory is short, and memory that is never taken away.
pub(crate) fn b16(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const MLOCK: usize = 149;
    const MLOCK2: usize = 325;
    const MLOCKALL: usize = 151;
    const MCL_CURRENT_FUTURE: usize = 1 | 2;
    const MAP_LOCKED: usize = 0x2000;
    const ONFAULT: usize = 1;
    report.way("oom-score", || {
        match std::fs::write("/proc/self/oom_score_adj", "-1") {
            Ok(()) => Verdict::Through("its score is lower than the host's own".to_owned()),
            Err(error) => Verdict::refused("write", &error),
        }
    });
    report.way("mlock", || {
        locked("mlock", map(0), |at| {
            // SAFETY: the range was mapped for this alone.
            unsafe { sys::call(MLOCK, [at, LOCKED_BYTES]) }
        })
    });
    report.way("mlock2", || {
        locked("mlock2", map(0), |at| {
            // SAFETY: the range was mapped for this alone.
            unsafe { sys::call(MLOCK2, [at, LOCKED_BYTES, ONFAULT]) }
        })
    });
    report.way("mlockall", || {
        locked("mlockall", map(0), |_| {
            // SAFETY: takes no pointer.
            unsafe { sys::call(MLOCKALL, [MCL_CURRENT_FUTURE]) }
        })
    });
    report.way("map-locked", || locked("mmap", map(MAP_LOCKED), Ok));
    report.way("shared-memory-locked", lock_shared);
    Ok(())
}

/// Maps memory that nothing touches.
fn map(flags: usize) -> Answer {
    const PROT_READ_WRITE: usize = 1 | 2;
    const PRIVATE_ANONYMOUS: usize = 2 | 0x20;
    let flags = PRIVATE_ANONYMOUS | flags;
    // SAFETY: a new mapping where nothing is, whose end is that of the way.
    unsafe {
        sys::call(
            nr::MMAP,
            [0, LOCKED_BYTES, PROT_READ_WRITE, flags, NOTHING, 0],
        )
    }
}

fn locked(call: &str, mapped: Answer, lock: impl FnOnce(usize) -> Answer) -> Verdict {
    match mapped.and_then(lock) {
        Err(ENOMEM) => Verdict::stopped(call, ENOMEM),
        answer => judge(call, answer, "16 MiB are locked"),
    }
}

/// System V memory is locked as a whole, and stays so.
fn lock_shared() -> Verdict {
    const SHMGET: usize = 29;
    const SHMCTL: usize = 31;
    const IPC_CREAT_0600: usize = 0o1000 | 0o600;
    const IPC_RMID: usize = 0;
    const SHM_LOCK: usize = 11;
    // SAFETY: takes no pointer.
    let made = unsafe { sys::call(SHMGET, [0, LOCKED_BYTES, IPC_CREAT_0600]) };
    let segment = match made {
        Ok(segment) => segment,
        Err(errno) => return Verdict::Untried(format!("shmget {errno}")),
    };
    // SAFETY: this command takes no pointer.
    let answer = unsafe { sys::call(SHMCTL, [segment, SHM_LOCK, 0]) };
    // SAFETY: this command takes no pointer.
    let removed = unsafe { sys::call(SHMCTL, [segment, IPC_RMID, 0]) };
    match (answer, removed) {
        (answer, Ok(_)) => judge("shmctl", answer, "16 MiB are locked"),
        (_, Err(errno)) => Verdict::Untried(format!("shmctl IPC_RMID {errno}")),
    }
}

/// The clock: calls that change nothing, and say whether they might.
pub(crate) fn b17(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const SETTIMEOFDAY: usize = 164;
    const ADJTIMEX: usize = 159;
    const CLOCK_ADJTIME: usize = 305;
    const TIMERFD_CREATE: usize = 283;
    const CLOCK_REALTIME: usize = 0;
    const CLOCK_BOOTTIME_ALARM: usize = 9;
    report.way("settimeofday", || {
        // SAFETY: null pointers: neither time nor zone.
        let set = unsafe { sys::call(SETTIMEOFDAY, [0, 0]) };
        judge("settimeofday", set, "it may set the clock")
    });
    // struct timex, with no mode: 208 bytes.
    report.way("adjtimex", || {
        let mut timex = [0_u64; 32];
        let at = timex.as_mut_ptr().expose_provenance();
        // SAFETY: the call writes one structure, which fits.
        let asked = unsafe { sys::call(ADJTIMEX, [at]) };
        judge("adjtimex", asked, "it reads how the clock is steered")
    });
    report.way("clock_adjtime", || {
        let mut timex = [0_u64; 32];
        let at = timex.as_mut_ptr().expose_provenance();
        // SAFETY: the call writes one structure, which fits.
        let asked = unsafe { sys::call(CLOCK_ADJTIME, [CLOCK_REALTIME, at]) };
        judge("clock_adjtime", asked, "it reads how the clock is steered")
    });
    report.way("wake-alarm", || {
        // SAFETY: takes no pointer; the timer is never set.
        let made = unsafe { sys::call(TIMERFD_CREATE, [CLOCK_BOOTTIME_ALARM, 0]) };
        match made {
            // EINVAL: no clock that could wake the machine.
            Err(Errno(22)) => Verdict::Absent("timerfd_create EINVAL".to_owned()),
            made => judge("timerfd_create", made, "a timer that wakes the machine"),
        }
    });
    Ok(())
}

/// Another kernel, a module, the end of this one.
pub(crate) fn b18(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let calls: [(&str, usize, [usize; 5]); 6] = [
        // No magic number, and the command that only enables a key.
        ("reboot", 169, [0, 0, 0, 0, 0]),
        // No segment list could be so long.
        ("kexec_load", 246, [0, usize::MAX >> 32, 0, 0, 0]),
        ("kexec_file_load", 320, [NOTHING, NOTHING, 0, 0, 0]),
        // A module of no bytes is none.
        ("init_module", 175, [0, 0, 0, 0, 0]),
        ("finit_module", 313, [NOTHING, 0, 0, 0, 0]),
        // A name that is at no address.
        ("delete_module", 176, [NOTHING, 0, 0, 0, 0]),
    ];
    for (name, number, arguments) in calls {
        report.way(name, || {
            // SAFETY: null or wild pointers on purpose: the kernel answers
            // with an error behind the check of the right.
            let answer = unsafe { sys::call(number, arguments) };
            judge_failing(name, answer)
        });
    }
    Ok(())
}
