//! What one process may do to another: the calls, each tried so that a
//! success leaves the canary as it was, where it may.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::files;
use crate::report::{self, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const PTRACE_SEIZE: usize = 0x4206;
const MADV_COLD: usize = 20;
const KCMP_FILES: usize = 2;

/// A process that should be out of reach, by its number.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) pid: i32,
    /// A place in its memory. Where none is known any place will do: the
    /// kernel checks permission first and answers EFAULT after.
    pub(crate) address: usize,
}

/// Changes something, holds still, and sets it back where that is allowed:
/// what it is done to is a canary.
fn there_and_back(
    call: &str,
    change: impl FnOnce() -> Answer,
    set_back: impl FnOnce() -> Answer,
    evidence: &str,
) -> Verdict {
    match change() {
        Ok(_) => {
            report::hold();
            match set_back() {
                Ok(_) => Verdict::Through(evidence.to_owned()),
                Err(errno) => Verdict::Through(format!("{evidence} for good ({errno})")),
            }
        }
        Err(errno) => Verdict::stopped(call, errno),
    }
}

/// One `struct iovec`.
#[repr(C)]
struct Piece {
    base: usize,
    length: usize,
}

impl Target {
    /// Traces, reads its memory, compares, takes descriptors.
    pub(crate) fn inspect(self, token: Option<&str>, report: &mut Report) {
        report.way("ptrace", || {
            // SAFETY: PTRACE_SEIZE takes no pointer; this child's end detaches.
            let seized = unsafe { sys::call(nr::PTRACE, [PTRACE_SEIZE, int(self.pid), 0, 0]) };
            Verdict::of("ptrace", seized, "seized, then let go")
        });
        report.way("process_vm_readv", || self.read_memory(token));
        report.way("process_vm_writev", || self.write_memory_back(token));
        report.way("proc-mem", || self.open_memory(token));
        report.way("kcmp", || {
            let own = int(sys::own_pid());
            // SAFETY: this kind of comparison takes no pointer.
            let compared = unsafe { sys::call(nr::KCMP, [own, int(self.pid), KCMP_FILES, 0, 0]) };
            Verdict::of("kcmp", compared, "compared with this process")
        });
        report.way("get_robust_list", || self.robust_list());
        report.way("pidfd_getfd", || self.take_descriptor());
        report.way("process_madvise", || self.advise());
        report.way("move_pages", || {
            // SAFETY: no page is named, so no list is read or written.
            let moved = unsafe { sys::call(nr::MOVE_PAGES, [int(self.pid), 0, 0, 0, 0, 0]) };
            Verdict::of("move_pages", moved, "its pages may be moved")
        });
        for entry in ["environ", "maps", "auxv", "stack"] {
            report.way(&format!("proc-{entry}"), || self.read_entry(entry));
        }
        for entry in ["root", "cwd", "exe", "fd/0", "fd/1", "fd/2", "ns/user"] {
            report.way(&format!("proc-{entry}"), || self.follow(entry));
        }
    }

    /// Changes limits, affinity, priority and the like, and sets them back.
    pub(crate) fn set_back(self, report: &mut Report) {
        report.way("prlimit64", || self.set_limit_back());
        report.way("sched_setaffinity", || self.set_affinity_back());
        report.way("setpriority", || self.set_priority_back());
        report.way("sched_setscheduler", || self.set_scheduler_back());
        report.way("ioprio_set", || self.set_io_priority_back());
        for entry in ["oom_score_adj", "coredump_filter", "timerslack_ns"] {
            report.way(&format!("proc-{entry}"), || self.write_entry_back(entry));
        }
    }

    fn read_memory(self, token: Option<&str>) -> Verdict {
        let mut bytes = [0_u8; 64];
        let answer = self.transfer(nr::PROCESS_VM_READV, &mut bytes);
        self.judge_memory("process_vm_readv", answer, &bytes, token)
    }

    /// Writes the bytes that it read; without a reading it writes nowhere:
    /// to the null page, which no process maps.
    fn write_memory_back(self, token: Option<&str>) -> Verdict {
        let mut bytes = [0_u8; 64];
        let target = match self.transfer(nr::PROCESS_VM_READV, &mut bytes) {
            Ok(_) => self,
            Err(_) => Self { address: 0, ..self },
        };
        let answer = target.transfer(nr::PROCESS_VM_WRITEV, &mut bytes);
        target.judge_memory("process_vm_writev", answer, &bytes, token)
    }

    fn transfer(self, number: usize, bytes: &mut [u8; 64]) -> Answer {
        let here = Piece {
            base: bytes.as_mut_ptr().expose_provenance(),
            length: bytes.len(),
        };
        let there = Piece {
            base: self.address,
            length: bytes.len(),
        };
        let here = (&raw const here).expose_provenance();
        let there = (&raw const there).expose_provenance();
        // SAFETY: one piece on each side; the local one is `bytes`, whole.
        unsafe { sys::call(number, [int(self.pid), here, 1, there, 1, 0]) }
    }

    fn judge_memory(
        self,
        call: &str,
        answer: Answer,
        bytes: &[u8],
        token: Option<&str>,
    ) -> Verdict {
        match (answer, token) {
            (Ok(_), Some(token)) => match files::secret(bytes, token) {
                Some(secret) => Verdict::Through(format!("{secret} is in its memory")),
                None => Verdict::Untried(format!("{call} reached another process")),
            },
            (Ok(count), _) => Verdict::Through(format!("{count} bytes of its memory")),
            (Err(sys::EFAULT), _) => Verdict::Through("its memory is open (EFAULT)".to_owned()),
            (Err(errno), _) => Verdict::stopped(call, errno),
        }
    }

    fn open_memory(self, token: Option<&str>) -> Verdict {
        match File::open(format!("/proc/{}/mem", self.pid)) {
            Ok(file) => {
                let mut bytes = [0_u8; 64];
                match file.read_at(&mut bytes, self.address as u64) {
                    Ok(_) => self.judge_memory("read", Ok(bytes.len()), &bytes, token),
                    Err(_) => Verdict::Through("its memory was opened".to_owned()),
                }
            }
            Err(error) => Verdict::refused("open mem", &error),
        }
    }

    fn robust_list(self) -> Verdict {
        let mut head = 0_usize;
        let mut length = 0_usize;
        let head_at = (&raw mut head).expose_provenance();
        let length_at = (&raw mut length).expose_provenance();
        // SAFETY: the call writes one pointer and one size, both on this frame.
        let answer = unsafe { sys::call(nr::GET_ROBUST_LIST, [int(self.pid), head_at, length_at]) };
        Verdict::of("get_robust_list", answer, "a pointer into its memory")
    }

    fn pidfd(self) -> Answer {
        // SAFETY: pidfd_open takes no pointer.
        unsafe { sys::call(nr::PIDFD_OPEN, [int(self.pid), 0]) }
    }

    fn take_descriptor(self) -> Verdict {
        let pidfd = match self.pidfd() {
            Ok(pidfd) => pidfd,
            Err(errno) => return Verdict::stopped("pidfd_open", errno),
        };
        // SAFETY: pidfd_getfd takes no pointer.
        match unsafe { sys::call(nr::PIDFD_GETFD, [pidfd, 0, 0]) } {
            Ok(_) => Verdict::Through("its descriptor 0 was taken".to_owned()),
            Err(sys::EBADF) => Verdict::Through("its descriptors are open (EBADF)".to_owned()),
            Err(errno) => Verdict::stopped("pidfd_getfd", errno),
        }
    }

    fn advise(self) -> Verdict {
        let pidfd = match self.pidfd() {
            Ok(pidfd) => pidfd,
            Err(errno) => return Verdict::stopped("pidfd_open", errno),
        };
        let page = Piece {
            base: self.address & !4095,
            length: 4096,
        };
        let pages = (&raw const page).expose_provenance();
        // SAFETY: one piece is passed and counted; the advice only ages it.
        match unsafe { sys::call(nr::PROCESS_MADVISE, [pidfd, pages, 1, MADV_COLD, 0]) } {
            Ok(_) => Verdict::Through("a page of its memory was aged".to_owned()),
            // ENOMEM: nothing is mapped there, said after the check.
            Err(Errno(12)) => Verdict::Through("its memory is open (ENOMEM)".to_owned()),
            Err(errno) => Verdict::stopped("process_madvise", errno),
        }
    }

    fn read_entry(self, entry: &str) -> Verdict {
        let read = File::open(format!("/proc/{}/{entry}", self.pid)).and_then(|mut file| {
            let mut bytes = [0_u8; 64];
            let count = file.read(&mut bytes)?;
            Ok(bytes.get(..count).unwrap_or_default().to_vec())
        });
        match read {
            // An entry that is not the reader's to see may read as empty.
            Ok(bytes) if bytes.is_empty() => Verdict::Stopped(format!("read {entry}: nothing")),
            Ok(bytes) => {
                let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Verdict::Through(format!("{entry} begins with {}", digits.concat()))
            }
            Err(error) => Verdict::refused(&format!("read {entry}"), &error),
        }
    }

    /// Follows a link of its folder in /proc, without any access to what is
    /// there: that is what the kernel guards.
    fn follow(self, entry: &str) -> Verdict {
        let path = format!("/proc/{}/{entry}", self.pid);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(files::O_PATH)
            .open(&path);
        match opened {
            Ok(reached) => {
                // It is looked at from outside, until this process ends.
                std::mem::forget(reached);
                Verdict::Through(format!("{path} followed"))
            }
            Err(error) => Verdict::refused(&format!("open {entry}"), &error),
        }
    }

    fn set_limit_back(self) -> Verdict {
        const RLIMIT_NOFILE: usize = 7;
        let mut limits = [0_u64; 2];
        let at = (&raw mut limits).expose_provenance();
        // SAFETY: the call writes two 64-bit numbers, which `limits` holds.
        let got = unsafe { sys::call(nr::PRLIMIT64, [int(self.pid), RLIMIT_NOFILE, 0, at]) };
        if let Err(errno) = got {
            return Verdict::stopped("prlimit64", errno);
        }
        let [soft, hard] = limits;
        let lower = [soft.saturating_sub(1), hard];
        let set = |limits: &[u64; 2]| {
            let at = std::ptr::from_ref(limits).expose_provenance();
            // SAFETY: the call reads two numbers.
            unsafe { sys::call(nr::PRLIMIT64, [int(self.pid), RLIMIT_NOFILE, at, 0]) }
        };
        there_and_back(
            "prlimit64",
            || set(&lower),
            || set(&limits),
            "its RLIMIT_NOFILE was lowered",
        )
    }

    fn set_affinity_back(self) -> Verdict {
        let mut mask = [0_u64; 128];
        let at = (&raw mut mask).expose_provenance();
        let size = size_of_val(&mask);
        // SAFETY: the call writes at most `size` bytes, the array's length.
        let got = unsafe { sys::call(nr::SCHED_GETAFFINITY, [int(self.pid), size, at]) };
        let written = match got {
            Ok(written) => written,
            Err(errno) => return Verdict::stopped("sched_getaffinity", errno),
        };
        let mut one = [0_u64; 128];
        if let Some((to, from)) = one.iter_mut().zip(mask).find(|(_, word)| *word != 0) {
            *to = 1 << from.trailing_zeros();
        }
        let set = |mask: &[u64; 128]| {
            let at = std::ptr::from_ref(mask).expose_provenance();
            // SAFETY: the call reads as many bytes as were written before.
            unsafe { sys::call(nr::SCHED_SETAFFINITY, [int(self.pid), written, at]) }
        };
        there_and_back(
            "sched_setaffinity",
            || set(&one),
            || set(&mask),
            "it was bound to one processor",
        )
    }

    fn set_priority_back(self) -> Verdict {
        // SAFETY: getpriority takes no pointer.
        let got = unsafe { sys::call(nr::GETPRIORITY, [0, int(self.pid)]) };
        match got {
            Ok(biased) => {
                // The raw call answers 20 - nice.
                let nice = 20_i32.wrapping_sub(i32::try_from(biased).unwrap_or(20));
                let set = |nice: i32| {
                    // SAFETY: setpriority takes no pointer.
                    unsafe { sys::call(nr::SETPRIORITY, [0, int(self.pid), int(nice)]) }
                };
                there_and_back(
                    "setpriority",
                    || set(nice.saturating_add(1)),
                    || set(nice),
                    "its nice value was raised",
                )
            }
            Err(errno) => Verdict::stopped("getpriority", errno),
        }
    }

    fn set_scheduler_back(self) -> Verdict {
        const SCHED_BATCH: usize = 3;
        let mut parameter = 0_i32;
        let at = (&raw mut parameter).expose_provenance();
        // SAFETY: takes no pointer.
        let policy = match unsafe { sys::call(nr::SCHED_GETSCHEDULER, [int(self.pid)]) } {
            Ok(policy) => policy,
            Err(errno) => return Verdict::stopped("sched_getscheduler", errno),
        };
        // SAFETY: the call writes one int, which is on this frame.
        let got = unsafe { sys::call(nr::SCHED_GETPARAM, [int(self.pid), at]) };
        if let Err(errno) = got {
            return Verdict::stopped("sched_getparam", errno);
        }
        let set = |policy: usize| {
            // SAFETY: the call reads one int, which is on this frame.
            unsafe { sys::call(nr::SCHED_SETSCHEDULER, [int(self.pid), policy, at]) }
        };
        there_and_back(
            "sched_setscheduler",
            || set(SCHED_BATCH),
            || set(policy),
            "its policy was changed",
        )
    }

    fn set_io_priority_back(self) -> Verdict {
        const IOPRIO_WHO_PROCESS: usize = 1;
        // SAFETY: takes no pointer.
        match unsafe { sys::call(nr::IOPRIO_GET, [IOPRIO_WHO_PROCESS, int(self.pid)]) } {
            Ok(value) => {
                // SAFETY: takes no pointer.
                let set = unsafe {
                    sys::call(nr::IOPRIO_SET, [IOPRIO_WHO_PROCESS, int(self.pid), value])
                };
                Verdict::of("ioprio_set", set, "its io priority was set to what it is")
            }
            Err(errno) => Verdict::stopped("ioprio_get", errno),
        }
    }

    fn write_entry_back(self, entry: &str) -> Verdict {
        let path = format!("/proc/{}/{entry}", self.pid);
        let value = match std::fs::read_to_string(&path) {
            Ok(value) => value,
            Err(error) => return Verdict::refused(&format!("read {entry}"), &error),
        };
        // The kernel shows this one in hexadecimal and reads it as decimal.
        let base = if entry == "coredump_filter" { 16 } else { 10 };
        let Ok(value) = i64::from_str_radix(value.trim(), base) else {
            return Verdict::Untried(format!("{entry} is {value}"));
        };
        let write = |value: i64| {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.write_all(value.to_string().as_bytes())
        };
        let call = format!("write {entry}");
        let answer =
            |written: std::io::Result<()>| written.map(|()| 0).map_err(|error| Errno::of(&error));
        there_and_back(
            &call,
            || answer(write(value ^ 1)),
            || answer(write(value)),
            &format!("its {entry} was changed"),
        )
    }
}
