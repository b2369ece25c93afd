//! Following a program and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::task::{InCall, Task};
use super::{Call, Deed, Fault, Injection, MARKS, PHASE_MAX, Role, plausible};

const NR_KILL: u64 = 62;
/// How long a killed process may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Among how many calls the same one has to come again.
const REPEATED_WITHIN: usize = 8;
const PAUSE: Duration = Duration::from_millis(1);

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The calls that were looked at, in the order in which they began: of a
    /// run without a fault all, else those of the fault's role up to it.
    pub calls: Vec<Call>,
    /// What went wrong. `None`: the run made fewer calls.
    pub hit: Option<Hit>,
    /// How many calls had begun when a sandbox first executed something, its
    /// init or its command.
    pub executed_at: Option<usize>,
    /// How each process, and each thread, ended, by role, in that order.
    pub endings: Vec<(Role, Ending)>,
}

/// The call that went wrong.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Its place in [`Trace::calls`].
    pub at: usize,
    /// How it failed. `None`: the process was ended, or it has no such way.
    pub injection: Option<Injection>,
    /// Whether a sandbox had executed something by then.
    pub is_after_exec: bool,
    /// Whether the call that failed was made again: the same call with the same
    /// first argument, among the next few of the same thread.
    pub is_repeated: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(Signal),
}

impl Trace {
    /// The call that went wrong.
    #[must_use]
    pub fn hit_call(&self) -> Option<&Call> {
        self.calls.get(self.hit.as_ref()?.at)
    }

    /// How the last process, or thread, of `role` ended.
    #[must_use]
    pub fn ending(&self, role: Role) -> Option<Ending> {
        let found = self.endings.iter().rfind(|(of, _)| *of == role);
        found.map(|(_, ending)| *ending)
    }
}

/// Why there is no whole trace.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run did not end in time. All its processes have been killed.
    #[error("it hangs: {}", left.join(", "))]
    Hang {
        /// Those that were left, with what `/proc` said they were doing.
        left: Vec<String>,
        /// What was seen of it.
        trace: Trace,
    },
    /// The program could not be started or followed.
    #[error("it cannot be followed")]
    Untraced(#[source] io::Error),
}

/// What both threads know: who there is.
type Living = Arc<Mutex<BTreeMap<i32, Role>>>;

/// A program that runs under the tool, in a thread that follows it.
#[derive(Debug)]
pub struct Traced {
    thread: JoinHandle<io::Result<Trace>>,
    caller_ended: Receiver<()>,
    living: Living,
}

impl Traced {
    /// Starts `command`, which [`super::traced`] made.
    #[must_use]
    pub fn start(command: Command, fault: Option<Fault>) -> Self {
        let (tell, caller_ended) = channel();
        let living = Living::default();
        let tracer = Tracer {
            fault,
            living: Arc::clone(&living),
            tell,
            tasks: BTreeMap::new(),
            early: BTreeSet::new(),
            trace: Trace::default(),
            counted: 0,
            phase: 0,
            followed: None,
        };
        // Only the thread that traces may wait for, and resume, a tracee.
        let thread = thread::spawn(move || tracer.run(command));
        Self {
            thread,
            caller_ended,
            living,
        }
    }

    /// Waits until the program itself has ended, at most `limit`; what it
    /// started may live on. Whether it has.
    #[must_use]
    pub fn wait_for_caller(&self, limit: Duration) -> bool {
        self.caller_ended.recv_timeout(limit).is_ok()
    }

    /// Waits until every process of the run has ended, at most `limit`.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn end(self, limit: Duration) -> Result<Trace, RunError> {
        let left = if self.is_over(Instant::now() + limit) {
            Vec::new()
        } else {
            self.kill_all()
        };
        if !self.is_over(Instant::now() + END_TIMEOUT) {
            let stays = format!("what was killed does not end: {}", left.join(", "));
            return Err(RunError::Untraced(io::Error::other(stays)));
        }
        let joined = self.thread.join();
        let traced = joined.unwrap_or_else(|_| Err(io::Error::other("the tracer panicked")));
        let trace = traced.map_err(RunError::Untraced)?;
        if left.is_empty() {
            Ok(trace)
        } else {
            Err(RunError::Hang { left, trace })
        }
    }

    fn is_over(&self, deadline: Instant) -> bool {
        while !self.thread.is_finished() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    fn kill_all(&self) -> Vec<String> {
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        for (pid, role) in living.iter() {
            let file = |name| {
                let read = std::fs::read_to_string(format!("/proc/{pid}/{name}"));
                read.unwrap_or_default().trim().to_owned()
            };
            left.push(format!(
                "{} {pid} in call {}, {}",
                role.name(),
                file("syscall"),
                file("wchan")
            ));
        }
        for pid in living.keys() {
            // One that ended meanwhile is not there to be told.
            let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if left.is_empty() {
            left.push("nobody, but the tracer waits".to_owned());
        }
        left
    }
}

/// The state of the thread that follows.
struct Tracer {
    fault: Option<Fault>,
    living: Living,
    tell: Sender<()>,
    tasks: BTreeMap<Pid, Task>,
    /// New ones that stopped before their parent told of them.
    early: BTreeSet<Pid>,
    trace: Trace,
    /// How many calls counted for the fault.
    counted: usize,
    phase: u8,
    /// Whose calls are compared with the one that was hit, and how many yet.
    followed: Option<(Pid, usize)>,
}

impl Tracer {
    fn run(mut self, mut command: Command) -> io::Result<Trace> {
        let child = command.spawn()?;
        // The program holds the only ends of its pipes from here on.
        drop(command);
        let first = Pid::from_raw(child.id().cast_signed());
        match waitpid(first, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => return Err(io::Error::other(format!("it did not stop: {other:?}"))),
        }
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::setoptions(first, options)?;
        self.add(first, Role::Wrapper, false);
        self.resume(first, None);
        let flags = Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD);
        loop {
            match waitpid(None, flags) {
                Ok(status) => self.see(status),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(self.trace),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn see(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Stopped(pid, signal) => self.see_signal(pid, signal),
            WaitStatus::PtraceSyscall(pid) => self.see_call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.see_event(pid, event),
            WaitStatus::Exited(pid, code) => self.see_end(pid, Ending::Exited(code)),
            WaitStatus::Signaled(pid, signal, _) => self.see_end(pid, Ending::Signaled(signal)),
            WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
    }

    fn see_signal(&mut self, pid: Pid, signal: Signal) {
        match self.tasks.get_mut(&pid) {
            None => {
                self.early.insert(pid);
            }
            Some(task) if task.is_new && signal == Signal::SIGSTOP => {
                task.is_new = false;
                self.resume(pid, None);
            }
            Some(_) => self.resume(pid, Some(signal)),
        }
    }

    fn see_event(&mut self, pid: Pid, event: i32) {
        // Whatever makes an event is a call, which returns after it.
        if let Some(task) = self.tasks.get_mut(&pid)
            && task.call.is_none()
        {
            task.call = Some(InCall::default());
        }
        let makes = [
            Event::PTRACE_EVENT_CLONE,
            Event::PTRACE_EVENT_FORK,
            Event::PTRACE_EVENT_VFORK,
        ];
        if makes.iter().any(|kind| *kind as i32 == event) {
            self.adopt_child_of(pid);
        } else if event == Event::PTRACE_EVENT_EXEC as i32
            && let Some(task) = self.tasks.get_mut(&pid)
        {
            task.role = task.role.after_exec(pid);
            let role = task.role;
            if matches!(role, Role::Init | Role::Command) {
                let now = self.trace.calls.len();
                self.trace.executed_at.get_or_insert(now);
            }
            self.add_living(pid, role);
        }
        self.resume(pid, None);
    }

    fn adopt_child_of(&mut self, parent: Pid) {
        let new = ptrace::getevent(parent)
            .ok()
            .and_then(|n| i32::try_from(n).ok());
        let (Some(new), Some(task)) = (new, self.tasks.get(&parent)) else {
            return;
        };
        let (new, role) = (Pid::from_raw(new), task.role.of_new(parent));
        let is_waiting = self.early.remove(&new);
        self.add(new, role, !is_waiting);
        if is_waiting {
            self.resume(new, None);
        }
    }

    fn see_end(&mut self, pid: Pid, ending: Ending) {
        self.living
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pid.as_raw());
        self.early.remove(&pid);
        let Some(task) = self.tasks.remove(&pid) else {
            return;
        };
        let role = task.role;
        self.trace.endings.push((role, ending));
        if role == Role::Caller && !self.tasks.values().any(|task| task.role == role) {
            // Nobody need be listening.
            let _heard = self.tell.send(());
        }
    }

    fn see_call(&mut self, pid: Pid) {
        let Some(task) = self.tasks.get_mut(&pid) else {
            return;
        };
        match task.call.take() {
            Some(call) => self.see_return(pid, call),
            None => self.see_entry(pid),
        }
    }

    fn see_return(&mut self, pid: Pid, call: InCall) {
        if let Ok(mut registers) = ptrace::getregs(pid) {
            if let Some(result) = call.result {
                registers.rax = result.cast_unsigned();
                set(pid, registers);
            }
            let place = call.recorded.and_then(|at| self.trace.calls.get_mut(at));
            if let Some(recorded) = place {
                recorded.result = Some(registers.rax.cast_signed());
            }
        }
        self.resume(pid, None);
    }

    fn see_entry(&mut self, pid: Pid) {
        let (Ok(registers), Some(task)) = (ptrace::getregs(pid), self.tasks.get_mut(&pid)) else {
            return;
        };
        let role = task.role;
        task.call = Some(InCall::default());
        let mut call = Call {
            role,
            phase: self.phase,
            number: registers.orig_rax,
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
            path: None,
            data: None,
            result: None,
        };
        self.compare(pid, &call);
        if let Some(phase) = marked(&call) {
            self.phase = phase;
        } else if self.wants(role) {
            let is_hit = self.is_hit(role);
            if is_hit || self.fault.is_none() || matches!(role, Role::Child | Role::Maker) {
                call.look_closer(pid);
            }
            self.trace.calls.push(call);
            if let Some(task) = self.tasks.get_mut(&pid) {
                task.call = Some(InCall {
                    recorded: Some(self.trace.calls.len() - 1),
                    result: None,
                });
            }
            if is_hit {
                self.hit(pid);
            }
        }
        self.resume(pid, None);
    }

    /// Counts a call of `role`; whether it is the one.
    fn is_hit(&mut self, role: Role) -> bool {
        let Some(fault) = &self.fault else {
            return false;
        };
        if role != fault.role || !fault.phases.contains(&self.phase) || self.trace.hit.is_some() {
            return false;
        }
        self.counted += 1;
        self.counted - 1 == fault.nth
    }

    /// Does what is to be done to the call that was recorded last.
    fn hit(&mut self, pid: Pid) {
        let at = self.trace.calls.len() - 1;
        let (Some(fault), Some(call)) = (&self.fault, self.trace.calls.get(at)) else {
            return;
        };
        let injection = match fault.deed {
            Deed::Kill => None,
            Deed::Fail(errno) => Some(Injection::Instead(errno)),
            Deed::FailPlausibly(way) => plausible(call).get(way).copied(),
        };
        self.trace.hit = Some(Hit {
            at,
            injection,
            is_after_exec: self.trace.executed_at.is_some(),
            is_repeated: false,
        });
        if injection.is_some() {
            self.followed = Some((pid, REPEATED_WITHIN));
        }
        if fault.deed == Deed::Kill {
            // It is stopped, so it is there.
            let _told = kill(pid, Signal::SIGKILL);
            return;
        }
        let (Some(injection), Some(task)) = (injection, self.tasks.get_mut(&pid)) else {
            return;
        };
        if matches!(injection, Injection::Instead(_))
            && let Ok(mut registers) = ptrace::getregs(pid)
        {
            // No call has this number: none is made.
            registers.orig_rax = u64::MAX;
            set(pid, registers);
        }
        task.call = Some(InCall {
            recorded: Some(at),
            result: Some(-i64::from(injection.errno() as i32)),
        });
    }

    /// Notes whether `pid` makes the call again that it was told to have failed.
    fn compare(&mut self, pid: Pid, call: &Call) {
        let Some((followed, left)) = self.followed else {
            return;
        };
        if followed != pid {
            return;
        }
        self.followed = left.checked_sub(1).map(|left| (pid, left));
        let hit = self.trace.hit_call();
        let is_same = hit.is_some_and(|hit| {
            hit.number == call.number && hit.arguments.first() == call.arguments.first()
        });
        if is_same && let Some(hit) = &mut self.trace.hit {
            hit.is_repeated = true;
            self.followed = None;
        }
    }

    /// Whether calls of `role` are looked at.
    fn wants(&self, role: Role) -> bool {
        if matches!(role, Role::Wrapper | Role::Command) {
            return false;
        }
        match (&self.fault, &self.trace.hit) {
            (None, _) => true,
            (Some(fault), None) => fault.role == role,
            // A child's last words say what became of it.
            (Some(fault), Some(_)) => {
                fault.role == role && matches!(role, Role::Child | Role::Maker)
            }
        }
    }

    /// Whether `role` has to stop at its calls.
    fn stops_at_calls(&self, role: Role) -> bool {
        // A phase is marked by the caller.
        let marks = |fault: &Fault| fault.phases != (0..=PHASE_MAX) && role == Role::Caller;
        let marks = self.trace.hit.is_none() && self.fault.as_ref().is_some_and(marks);
        marks || self.wants(role)
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let Some(role) = self.tasks.get(&pid).map(|task| task.role) else {
            return;
        };
        let is_followed = self.followed.is_some_and(|(followed, _)| followed == pid);
        let stops = is_followed || self.stops_at_calls(role);
        let Some(task) = self.tasks.get_mut(&pid) else {
            return;
        };
        let is_injected = task.call.is_some_and(|call| call.result.is_some());
        // An error: it was killed meanwhile, and its end is told of.
        let _gone = if is_injected || stops {
            ptrace::syscall(pid, signal)
        } else {
            task.call = None;
            ptrace::cont(pid, signal)
        };
    }

    fn add(&mut self, pid: Pid, role: Role, is_new: bool) {
        self.tasks.insert(pid, Task::new(role, is_new));
        self.add_living(pid, role);
    }

    fn add_living(&self, pid: Pid, role: Role) {
        self.living
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid.as_raw(), role);
    }
}

fn set(pid: Pid, registers: nix::libc::user_regs_struct) {
    // An error: it was killed meanwhile, and its end is told of.
    let _gone = ptrace::setregs(pid, registers);
}

/// The phase that a call marks.
fn marked(call: &Call) -> Option<u8> {
    let [pid, signal, ..] = call.arguments;
    if call.role != Role::Caller || call.number != NR_KILL || signal != 0 {
        return None;
    }
    // An int in a register: its upper half says nothing.
    let marked = (pid as u32).cast_signed().checked_sub(MARKS)?;
    u8::try_from(marked).ok()
}
