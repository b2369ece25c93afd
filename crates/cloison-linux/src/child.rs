//! What runs between clone and exec.
//!
//! Everything here works on memory that was prepared before the clone, by
//! raw calls, through one entry that is neither generic nor inlined: nothing
//! reachable from it allocates, locks or panics. A test on the linked
//! binaries proves that.

// By path: the static program is compiled from these very files.
#[path = "child/mounts.rs"]
mod mounts;
#[path = "child/report.rs"]
mod report;

use core::ptr;

use crate::steps::{END, Header, NONE, Op, Report, Step};
use crate::sys::{Errno, Result, by_value, check, close, exit, nr, raw};

const AT_FDCWD: u64 = -100_i64 as u64;
const O_PATH: u64 = 0o10_000_000;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_NOFOLLOW: u64 = 0o400_000;
const AT_EMPTY_PATH: u64 = 0x1000;
/// `RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH`.
const RESOLVE_STRICT: u64 = 0x02 | 0x04 | 0x08;

/// The exit code of a child whose steps failed; the report says why.
const EXIT_FAILED: i32 = 125;

/// The child's state: where its memory is, and what it has opened.
struct Child {
    base: *mut u8,
    descriptors: *const i32,
    /// How many descriptors there are.
    count: u64,
    report: i32,
    root: i32,
    proc: i32,
    kept: i32,
    gathered: Report,
    /// The serial number of the keyring that was joined.
    keyring: i64,
    abstract_name: AbstractName,
}

/// A unix address of the abstract kind, as the kernel chose it.
#[repr(C)]
struct AbstractName {
    family: u16,
    path: [u8; 110],
    length: u32,
}

/// Runs the steps of a checked block and never returns.
///
/// # Safety
/// `image` is a block that [`crate::steps::Image::check`] accepted for as
/// many descriptors as `descriptors` points to; both are this process's own
/// to read, and `image` to write; this process has one thread.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn cloison_child_entry(
    image: *mut u64,
    descriptors: *const i32,
    report: i32,
) -> ! {
    // SAFETY: a checked block starts with a header.
    let header = unsafe { ptr::read(image.cast::<Header>()) };
    let mut child = Child {
        base: image.cast(),
        descriptors,
        count: header.descriptors,
        report,
        root: -1,
        proc: -1,
        kept: -1,
        gathered: Report::default(),
        keyring: 0,
        abstract_name: AbstractName {
            family: 0,
            path: [0; 110],
            length: 0,
        },
    };
    // SAFETY: the steps follow the header.
    let steps = unsafe { image.cast::<Header>().add(1) }.cast::<Step>();
    let mut at = 0;
    while at < header.steps {
        // SAFETY: the check counted the steps.
        let place = unsafe { steps.add(at as usize) };
        // SAFETY: as above; a step is plain words.
        let step = unsafe { ptr::read(place) };
        if let Err(errno) = child.run(&step) {
            child.fail(at as u32, errno);
        }
        at += 1;
    }
    exit(0)
}

impl Child {
    /// Address of the data at `offset`, which the check found inside.
    #[inline(always)]
    fn data(&self, offset: u64) -> u64 {
        self.base.wrapping_add(offset as usize) as u64
    }

    /// The descriptor at `slot`, which the check found to exist.
    #[inline(always)]
    fn descriptor(&self, slot: u64) -> u64 {
        // SAFETY: the check compared the slot with the number of descriptors.
        let place = unsafe { self.descriptors.add(slot as usize) };
        // SAFETY: as above.
        let descriptor = unsafe { ptr::read(place) };
        descriptor as u64
    }

    /// Calls with addresses of checked data, or of the child's own stack.
    #[inline(always)]
    fn call(&self, number: i64, arguments: [u64; 6]) -> Result<i64> {
        // SAFETY: each use below passes addresses from `data`, which the
        // check found to end inside the block, or of a live local of the
        // type that the call's manual names.
        check(unsafe { raw(number, arguments) })
    }

    fn run(&mut self, step: &Step) -> Result<()> {
        let [a, b, c, d, e] = step.arguments;
        // The check refused every number that is no operation.
        let Some(op) = Op::from_number(step.op) else {
            return Err(Errno::EINVAL);
        };
        match op {
            Op::EnterCgroup => self.enter_cgroup(a),
            Op::JoinNamespace => plain(nr::SETNS, [self.descriptor(a), b, 0, 0, 0, 0]),
            Op::MakePrivate => self.make_private(),
            Op::AttachRoot => self.attach_root(a),
            Op::Attach => self.attach(self.descriptor(a), b),
            Op::MountNew => self.mount_new([a, b, c, d, e]),
            Op::PivotRoot => self.pivot_root(),
            Op::DetachOldRoot => self.detach_old_root(),
            Op::EnterRoot => self.enter_root(),
            Op::WriteProc => self.write_beneath(self.proc as u64, a, b),
            Op::SetNice => plain(nr::SETPRIORITY, [0, 0, a, 0, 0, 0]),
            Op::SetSchedulerOther => self.set_scheduler_other(),
            Op::SetIoPriority => plain(nr::IOPRIO_SET, [1, 0, a, 0, 0, 0]),
            Op::SetLimit => self.set_limit(a, b),
            Op::Unshare => plain(nr::UNSHARE, [a, 0, 0, 0, 0, 0]),
            Op::DropGroups => self.done(nr::SETGROUPS, [0; 6]),
            Op::SetGroup => plain(nr::SETRESGID, [a, a, a, 0, 0, 0]),
            Op::SetUser => plain(nr::SETRESUID, [a, a, a, 0, 0, 0]),
            Op::SetHostName => {
                let length = self.length(a);
                self.done(nr::SETHOSTNAME, [self.data(a), length, 0, 0, 0, 0])
            }
            Op::SetAffinity => self.done(nr::SCHED_SETAFFINITY, [0, b * 8, self.data(a), 0, 0, 0]),
            Op::ResetMemoryPolicy => self.done(nr::SET_MEMPOLICY, [0; 6]),
            Op::SetPersonality => plain(nr::PERSONALITY, [a, 0, 0, 0, 0, 0]),
            Op::SetUmask => plain(nr::UMASK, [a, 0, 0, 0, 0, 0]),
            Op::ResetSignals => self.reset_signals(),
            Op::StartSession => plain(nr::SETSID, [0; 6]),
            Op::TakeTerminal => self.done(nr::IOCTL, [self.descriptor(a), 0x540e, 0, 0, 0, 0]),
            Op::JoinKeyring => {
                self.keyring = self.call(nr::KEYCTL, [1, 0, 0, 0, 0, 0])?;
                Ok(())
            }
            Op::DropBounding => drop_bounding(a),
            Op::ClearAmbient => plain(nr::PRCTL, [47, 4, 0, 0, 0, 0]),
            Op::RaiseAmbient => raise_ambient(a),
            Op::SetSecurebits => plain(nr::PRCTL, [28, a, 0, 0, 0, 0]),
            Op::SetCapabilities => self.set_capabilities(a, b),
            Op::SetNoNewPrivs => plain(nr::PRCTL, [38, 1, 0, 0, 0, 0]),
            Op::RestrictSpeculation => plain(nr::PRCTL, [53, a, 8, 0, 0, 0]),
            Op::MakeCoreCookie => plain(nr::PRCTL, [62, 1, 0, 1, 0, 0]),
            Op::AddRule => self.add_rule([a, b, c, d]),
            Op::RestrictSelf => plain(
                nr::LANDLOCK_RESTRICT_SELF,
                [self.descriptor(a), 0, 0, 0, 0, 0],
            ),
            Op::BindAbstract => self.bind_abstract(),
            Op::Gather => {
                self.gather(a, b == 1);
                Ok(())
            }
            Op::CloseOthers => self.close_others(),
            Op::TryNested => self.try_nested(),
            Op::Share => self.share(a),
            Op::Park => self.park(self.descriptor(a)),
            Op::Cover => self.cover([self.descriptor(a), b, c]),
            Op::Receive => self.receive([a, b, c]),
            Op::StageLayers => self.stage_layers(a),
            Op::MountOverlay => self.mount_overlay([a, b, c, d]),
            Op::PlaceDescriptors => self.place_descriptors(a, b, c),
            Op::InstallFilter => self.install_filter(a, b),
            Op::Announce => self.tell(Report::ENCLOSED),
            Op::Report => self.tell(Report::HELD),
            Op::Wait => self.wait(),
            Op::Execute => self.execute(a, b, c),
            Op::ExecuteKept => self.execute_kept(a, b),
            Op::ExecuteFound => self.execute_found(a, b, c),
            Op::WriteBeneath => self.write_beneath(self.descriptor(a), b, c),
            Op::SetLoopbackUp => self.set_loopback_up(),
            Op::Exit => exit(0),
            Op::MountOld => self.done(
                nr::MOUNT,
                [self.data(a), self.data(b), self.data(a), c, self.data(d), 0],
            ),
            Op::SetDumpable => plain(nr::PRCTL, [4, a, 0, 0, 0, 0]),
            Op::ExpectLimit => expect_limit(a),
            Op::MakeDirectory => self.done(nr::MKDIRAT, [AT_FDCWD, self.data(a), 0o755, 0, 0, 0]),
            Op::EnterDirectory => self.enter_directory(a),
        }
    }

    /// A call of which only success matters.
    #[inline(always)]
    fn done(&self, number: i64, arguments: [u64; 6]) -> Result<()> {
        self.call(number, arguments).map(|_| ())
    }

    fn enter_cgroup(&self, slot: u64) -> Result<()> {
        let zero = b"0";
        self.done(
            nr::WRITE,
            [self.descriptor(slot), zero.as_ptr() as u64, 1, 0, 0, 0],
        )
    }

    fn enter(&self, path: u64) -> Result<()> {
        self.done(nr::CHDIR, [path, 0, 0, 0, 0, 0])
    }

    /// No link of the kernel's own is followed: one in /proc leads to what this
    /// child has open, outside the root.
    fn enter_directory(&self, path: u64) -> Result<()> {
        const O_DIRECTORY: u64 = 0o200_000;
        const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
        let how: [u64; 3] = [O_PATH | O_CLOEXEC | O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS];
        let how_at = how.as_ptr() as u64;
        let opened = self.call(nr::OPENAT2, [AT_FDCWD, self.data(path), how_at, 24, 0, 0])?;
        let entered = plain(nr::FCHDIR, [opened as u64, 0, 0, 0, 0, 0]);
        close(opened as i32);
        entered
    }

    fn write_beneath(&self, directory: u64, path: u64, text: u64) -> Result<()> {
        const O_WRONLY: u64 = 1;
        let file = self.call(
            nr::OPENAT,
            [directory, self.data(path), O_WRONLY | O_CLOEXEC, 0, 0, 0],
        )? as u64;
        let length = self.length(text);
        let written = self.done(nr::WRITE, [file, self.data(text), length, 0, 0, 0]);
        close(file as i32);
        written
    }

    fn set_scheduler_other(&self) -> Result<()> {
        let parameter: i32 = 0;
        let at = &raw const parameter as u64;
        self.done(nr::SCHED_SETSCHEDULER, [0, 0, at, 0, 0, 0])
    }

    fn set_limit(&self, resource: u64, value: u64) -> Result<()> {
        let limit: [u64; 2] = [value, value];
        self.done(nr::PRLIMIT64, [0, resource, limit.as_ptr() as u64, 0, 0, 0])
    }

    fn reset_signals(&self) -> Result<()> {
        const SIGKILL: u64 = 9;
        const SIGSTOP: u64 = 19;
        let default: [u64; 4] = [0; 4];
        let at = default.as_ptr() as u64;
        let mut signal = 1;
        while signal <= 64 {
            if signal != SIGKILL && signal != SIGSTOP {
                self.done(nr::RT_SIGACTION, [signal, at, 0, 8, 0, 0])?;
            }
            signal += 1;
        }
        // SIG_SETMASK, to the empty set.
        self.done(nr::RT_SIGPROCMASK, [2, at, 0, 8, 0, 0])
    }

    fn set_capabilities(&self, held: u64, inheritable: u64) -> Result<()> {
        // _LINUX_CAPABILITY_VERSION_3, this thread.
        let head: [u32; 2] = [0x2008_0522, 0];
        let sets: [u32; 6] = [
            held as u32,
            held as u32,
            inheritable as u32,
            (held >> 32) as u32,
            (held >> 32) as u32,
            (inheritable >> 32) as u32,
        ];
        let sets_at = sets.as_ptr() as u64;
        self.done(nr::CAPSET, [head.as_ptr() as u64, sets_at, 0, 0, 0, 0])
    }

    fn add_rule(&self, [ruleset, access, which, path]: [u64; 4]) -> Result<()> {
        let (beneath, opened) = if which == 1 {
            (self.proc, false)
        } else {
            let flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
            let at = self.call(nr::OPENAT, [AT_FDCWD, self.data(path), flags, 0, 0, 0])?;
            (at as i32, true)
        };
        // struct landlock_path_beneath_attr: packed, so the descriptor
        // follows the eight bytes of access; the kernel reads twelve.
        let rule: [u64; 2] = [access, u64::from(beneath as u32)];
        let rule_at = rule.as_ptr() as u64;
        let added = self.done(
            nr::LANDLOCK_ADD_RULE,
            [self.descriptor(ruleset), 1, rule_at, 0, 0, 0],
        );
        if opened {
            close(beneath);
        }
        added
    }

    fn install_filter(&self, program: u64, count: u64) -> Result<()> {
        // struct sock_fprog: a 16-bit count, then an aligned address.
        let head: [u64; 2] = [count, self.data(program)];
        // SECCOMP_SET_MODE_FILTER, no flag.
        self.done(nr::SECCOMP, [1, 0, head.as_ptr() as u64, 0, 0, 0])
    }

    fn set_loopback_up(&self) -> Result<()> {
        const SIOCSIFFLAGS: u64 = 0x8914;
        // struct ifreq: sixteen bytes of name, then the flags: IFF_UP.
        let request: [u64; 5] = [u64::from(u16::from_le_bytes(*b"lo")), 0, 1, 0, 0];
        let socket = self.call(nr::SOCKET, [2, 2 | O_CLOEXEC, 0, 0, 0, 0])? as u64;
        let at = request.as_ptr() as u64;
        let set = self.done(nr::IOCTL, [socket, SIOCSIFFLAGS, at, 0, 0, 0]);
        close(socket as i32);
        set
    }

    /// What the maker had open is none of the child's: it would keep the other
    /// ends of sockets from reading end of file, and descriptors from places
    /// below the limit that is set later.
    fn close_others(&self) -> Result<()> {
        let mut first = 0;
        loop {
            // The lowest one to keep from here on.
            let mut kept = u64::from(u32::MAX);
            let mut at = 0;
            while at < self.count {
                let descriptor = self.descriptor(at);
                if descriptor >= first && descriptor < kept {
                    kept = descriptor;
                }
                at += 1;
            }
            let report = self.report as u64;
            if report >= first && report < kept {
                kept = report;
            }
            if kept > first {
                plain(nr::CLOSE_RANGE, [first, kept - 1, 0, 0, 0, 0])?;
            }
            if kept == u64::from(u32::MAX) {
                return Ok(());
            }
            first = kept + 1;
        }
    }

    /// A namespace that could be made is not left again: the report says so,
    /// and nothing is started. In another user namespace the steps to come
    /// would mean something else: that is a failure.
    fn try_nested(&mut self) -> Result<()> {
        const USER: u64 = 0x1000_0000;
        const KINDS: [u64; 4] = [USER, 0x4000_0000, 0x2000_0000, 0x80];
        const ENOSPC: Errno = Errno(28);
        let mut bit = 1;
        for kind in KINDS {
            match plain(nr::UNSHARE, [kind, 0, 0, 0, 0, 0]) {
                // EINVAL: this kernel has no such kind.
                Err(ENOSPC | Errno::EINVAL) => self.gathered.nested_refused |= bit,
                Ok(()) if kind == USER => return Err(Errno::EINVAL),
                Ok(()) | Err(_) => {}
            }
            bit <<= 1;
        }
        Ok(())
    }

    fn receive(&self, slots: [u64; 3]) -> Result<()> {
        const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
        /// struct cmsghdr with three descriptors: its length, then its level
        /// and type, `SOL_SOCKET` and `SCM_RIGHTS`.
        const RIGHTS: [u64; 2] = [28, 1 | 1 << 32];
        let mut text: u64 = 0;
        let vector: [u64; 2] = [&raw mut text as u64, 8];
        let mut control: [u64; 4] = [0; 4];
        // struct msghdr: no name, one vector, the control data, no flags.
        let control_at = &raw mut control as u64;
        let mut head: [u64; 7] = [0, 0, vector.as_ptr() as u64, 1, control_at, 32, 0];
        let at = &raw mut head as u64;
        let report = self.report as u64;
        loop {
            match self.call(nr::RECVMSG, [report, at, MSG_CMSG_CLOEXEC, 0, 0, 0]) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                // End of file: whoever was to send let go.
                Ok(0) => exit(EXIT_FAILED),
                Ok(_) => break,
            }
        }
        // SAFETY: a live local, which the kernel wrote through its address.
        let [length, kind, first, last] = unsafe { ptr::read_volatile(&raw const control) };
        if [length, kind] != RIGHTS {
            return Err(Errno::EPROTO);
        }
        let half = u64::from(u32::MAX);
        let received = [first & half, first >> 32, last & half];
        for (slot, descriptor) in slots.into_iter().zip(received) {
            let place = self.descriptor(slot);
            plain(nr::DUP3, [descriptor, place, O_CLOEXEC, 0, 0, 0])?;
            close(descriptor as i32);
        }
        Ok(())
    }

    /// Brings the descriptors that stay to 0, 1, 2, ... and closes the rest.
    fn place_descriptors(&mut self, slots: u64, count: u64, program: u64) -> Result<()> {
        let above = count + 2;
        // First out of the way of all final places, so that none is
        // overwritten before it is moved; the table takes their new numbers.
        let mut at = 0;
        while at < count {
            let slot = self.word(slots + at * 8);
            let lifted = lift(self.descriptor(slot), above)?;
            self.set_word(slots + at * 8, lifted);
            at += 1;
        }
        let report = lift(self.report as u64, above)?;
        let kept = if program == NONE {
            NONE
        } else {
            lift(self.descriptor(program), above)?
        };
        let mut at = 0;
        while at < count {
            let lifted = self.word(slots + at * 8);
            plain(nr::DUP3, [lifted, at, 0, 0, 0, 0])?;
            at += 1;
        }
        plain(nr::DUP3, [report, count, O_CLOEXEC, 0, 0, 0])?;
        self.report = count as i32;
        let mut first_closed = count + 1;
        if kept != NONE {
            plain(nr::DUP3, [kept, count + 1, O_CLOEXEC, 0, 0, 0])?;
            self.kept = (count + 1) as i32;
            first_closed += 1;
        }
        self.root = -1;
        self.proc = -1;
        let last = u64::from(u32::MAX);
        plain(nr::CLOSE_RANGE, [first_closed, last, 0, 0, 0, 0])
    }

    fn wait(&self) -> Result<()> {
        let mut byte = 0u8;
        let at = &raw mut byte as u64;
        loop {
            match self.call(nr::READ, [self.report as u64, at, 1, 0, 0, 0]) {
                Ok(1) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                // End of file: whoever held us let go.
                Ok(_) => exit(EXIT_FAILED),
            }
        }
    }

    fn execute(&self, path: u64, arguments: u64, environment: u64) -> Result<()> {
        self.make_addresses(arguments);
        self.make_addresses(environment);
        let argv = self.data(arguments);
        let envp = self.data(environment);
        self.done(nr::EXECVE, [self.data(path), argv, envp, 0, 0, 0])
    }

    fn execute_kept(&self, arguments: u64, environment: u64) -> Result<()> {
        self.make_addresses(arguments);
        self.make_addresses(environment);
        let empty = c"".as_ptr() as u64;
        let argv = self.data(arguments);
        let envp = self.data(environment);
        let program = self.kept as u64;
        self.done(nr::EXECVEAT, [program, empty, argv, envp, AT_EMPTY_PATH, 0])
    }

    /// As execvp(3) does: what may not be executed is worth more words than
    /// what is not there.
    fn execute_found(&self, paths: u64, arguments: u64, environment: u64) -> Result<()> {
        const ENOENT: Errno = Errno(2);
        const EACCES: Errno = Errno(13);
        const ENOTDIR: Errno = Errno(20);
        self.make_addresses(arguments);
        self.make_addresses(environment);
        let argv = self.data(arguments);
        let envp = self.data(environment);
        let mut why = ENOENT;
        let mut at = paths;
        loop {
            let path = self.word(at);
            if path == END {
                return Err(why);
            }
            match self.done(nr::EXECVE, [self.data(path), argv, envp, 0, 0, 0]) {
                Err(ENOENT | ENOTDIR) => {}
                Err(EACCES) => why = EACCES,
                other => return other,
            }
            at += 8;
        }
    }

    /// Turns a list of offsets into the addresses that execve(2) reads.
    fn make_addresses(&self, list: u64) {
        let mut at = list;
        loop {
            let offset = self.word(at);
            if offset == END {
                self.set_word(at, 0);
                return;
            }
            self.set_word(at, self.data(offset));
            at += 8;
        }
    }

    fn word(&self, offset: u64) -> u64 {
        let place = self.data(offset) as *const u64;
        // SAFETY: lists and words were found aligned and inside the block.
        unsafe { ptr::read(place) }
    }

    fn set_word(&self, offset: u64, value: u64) {
        let place = self.data(offset) as *mut u64;
        // SAFETY: as in `word`; the block is this process's own to write.
        unsafe { ptr::write(place, value) }
    }

    fn length(&self, text: u64) -> u64 {
        let start = self.data(text) as *const u8;
        let mut length = 0;
        loop {
            let place = start.wrapping_add(length);
            // SAFETY: the check found a NUL inside the block, and the loop
            // stops there. Volatile keeps this a loop and not a strlen.
            if unsafe { ptr::read_volatile(place) } == 0 {
                return length as u64;
            }
            length += 1;
        }
    }
}

fn plain(number: i64, arguments: [u64; 6]) -> Result<()> {
    by_value(number, arguments).map(|_| ())
}

fn lift(descriptor: u64, above: u64) -> Result<u64> {
    const F_DUPFD_CLOEXEC: u64 = 1030;
    let lifted = by_value(nr::FCNTL, [descriptor, F_DUPFD_CLOEXEC, above, 0, 0, 0])?;
    Ok(lifted as u64)
}

fn drop_bounding(keep: u64) -> Result<()> {
    const PR_CAPBSET_DROP: u64 = 24;
    let mut capability = 0;
    while capability < 64 {
        if keep >> capability & 1 == 0 {
            match plain(nr::PRCTL, [PR_CAPBSET_DROP, capability, 0, 0, 0, 0]) {
                Ok(()) => {}
                // Behind the last one that this kernel knows.
                Err(Errno::EINVAL) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        capability += 1;
    }
    Ok(())
}

fn expect_limit(kind: u64) -> Result<()> {
    const ENOSPC: Errno = Errno(28);
    match plain(nr::UNSHARE, [kind, 0, 0, 0, 0, 0]) {
        Err(ENOSPC) => Ok(()),
        Err(errno) => Err(errno),
        // It could be made, so nothing limits it.
        Ok(()) => Err(Errno::EINVAL),
    }
}

fn raise_ambient(mask: u64) -> Result<()> {
    let mut capability = 0;
    while capability < 64 {
        if mask >> capability & 1 == 1 {
            plain(nr::PRCTL, [47, 2, capability, 0, 0, 0])?;
        }
        capability += 1;
    }
    Ok(())
}
