//! What the child tells of itself.

use core::ptr;

use super::{AT_FDCWD, Child, EXIT_FAILED, O_CLOEXEC};
use crate::steps::Report;
use crate::sys::{Errno, Result, by_value, close, exit, nr};

impl Child {
    pub(super) fn bind_abstract(&mut self) -> Result<()> {
        // A datagram socket, bound to a name that the kernel chooses. It is
        // left open: the last step before the filter closes it.
        let socket = self.call(nr::SOCKET, [1, 2 | O_CLOEXEC, 0, 0, 0, 0])? as u64;
        let name = &raw mut self.abstract_name;
        self.abstract_name.family = 1;
        self.done(nr::BIND, [socket, name as u64, 2, 0, 0, 0])?;
        self.abstract_name.length = 112;
        let length = &raw mut self.abstract_name.length;
        self.done(
            nr::GETSOCKNAME,
            [socket, name as u64, length as u64, 0, 0, 0],
        )
    }

    pub(super) fn gather(&mut self, port: u64, tries_node: bool) {
        let value = |number, arguments| match by_value(number, arguments) {
            Ok(value) => value,
            Err(errno) => -i64::from(errno.0),
        };
        let prctl = |option, a| value(nr::PRCTL, [option, a, 0, 0, 0, 0]);
        self.gathered.securebits = prctl(27, 0);
        self.gathered.dumpable = prctl(3, 0) as i32;
        self.gathered.store_bypass = prctl(52, 0);
        self.gathered.indirect_branch = prctl(52, 1);
        // KEYCTL_GET_KEYRING_ID of the session keyring. Without one of its
        // own it is told that of all processes of its user.
        let keyring = value(nr::KEYCTL, [0, -3_i64 as u64, 0, 0, 0, 0]);
        self.gathered.keyring = if keyring == self.keyring { keyring } else { 0 };
        self.gathered.personality = value(nr::PERSONALITY, [0xffff_ffff, 0, 0, 0, 0, 0]);
        self.gathered.io_priority = value(nr::IOPRIO_GET, [1, 0, 0, 0, 0, 0]);
        self.gathered.make_node = if tries_node {
            self.try_make_node()
        } else {
            i64::MIN
        };
        self.gathered.connect_abstract = self.try_connect();
        self.gathered.bind_tcp = self.try_bind_tcp(port);
        let mut mode: i32 = 0;
        let at = &raw mut mode as u64;
        self.gathered.memory_policy = errno_or(
            self.call(nr::GET_MEMPOLICY, [at, 0, 0, 0, 0, 0]),
            &raw const mode,
        );
        let at = &raw mut mode as u64;
        // PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER.
        let told = self.call(nr::PRCTL, [2, at, 0, 0, 0, 0]);
        self.gathered.death_signal = errno_or(told, &raw const mode);
        let told = self.call(nr::PRCTL, [37, at, 0, 0, 0, 0]);
        self.gathered.subreaper = errno_or(told, &raw const mode);
        let mut cookie: i64 = 0;
        let at = &raw mut cookie as u64;
        // PR_SCHED_CORE, PR_SCHED_CORE_GET, this thread.
        self.gathered.core_cookie = match self.call(nr::PRCTL, [62, 0, 0, 0, at, 0]) {
            Ok(_) => cookie,
            Err(errno) => -i64::from(errno.0),
        };
    }

    /// Landlock answers before the kernel looks for the capability, which
    /// is gone: EACCES with it, EPERM without, and no node either way.
    fn try_make_node(&self) -> i64 {
        const CHARACTER: u64 = 0o020_600;
        const NULL: u64 = 0x103;
        let path = c"/tmp/.cloison".as_ptr() as u64;
        errno_of(self.call(nr::MKNODAT, [AT_FDCWD, path, CHARACTER, NULL, 0, 0]))
    }

    fn try_connect(&self) -> i64 {
        let Ok(socket) = self.call(nr::SOCKET, [1, 2 | O_CLOEXEC, 0, 0, 0, 0]) else {
            return i64::MIN;
        };
        let name = &raw const self.abstract_name as u64;
        let length = u64::from(self.abstract_name.length);
        let connected = self.call(nr::CONNECT, [socket as u64, name, length, 0, 0, 0]);
        close(socket as i32);
        errno_of(connected)
    }

    fn try_bind_tcp(&self, port: u64) -> i64 {
        let Ok(socket) = self.call(nr::SOCKET, [2, 1 | O_CLOEXEC, 0, 0, 0, 0]) else {
            return i64::MIN;
        };
        // struct sockaddr_in: the family, then the port in network order,
        // then any address.
        let port = u64::from((port as u16).to_be());
        let address: [u64; 2] = [2 | port << 16, 0];
        let at = address.as_ptr() as u64;
        let bound = self.call(nr::BIND, [socket as u64, at, 16, 0, 0, 0]);
        close(socket as i32);
        errno_of(bound)
    }

    pub(super) fn tell(&mut self, kind: u32) -> Result<()> {
        self.gathered.kind = kind;
        self.send()
    }

    fn send(&self) -> Result<()> {
        let at = &raw const self.gathered as u64;
        let length = Report::BYTES as u64;
        self.done(nr::WRITE, [self.report as u64, at, length, 0, 0, 0])
    }

    pub(super) fn fail(&mut self, step: u32, errno: Errno) -> ! {
        self.gathered.kind = Report::FAILED;
        self.gathered.step = step;
        self.gathered.errno = errno.0;
        // When nobody reads the report nobody is left to be told.
        let _told = self.send();
        exit(EXIT_FAILED)
    }
}

fn errno_of(result: Result<i64>) -> i64 {
    match result {
        Ok(_) => 0,
        Err(errno) => -i64::from(errno.0),
    }
}

fn errno_or(result: Result<i64>, value: *const i32) -> i64 {
    match result {
        // SAFETY: the caller passes a live local, which the kernel filled.
        Ok(_) => i64::from(unsafe { ptr::read_volatile(value) }),
        Err(errno) => -i64::from(errno.0),
    }
}
