//! Noisy neighbours: one server takes what it can get, a small service runs in
//! another, and each of its requests is counted and timed.
//!
//! What a limit must do is said by two things: no request of the neighbour
//! fails, and the limit's own counter shows that it was this limit which held
//! the attack. The control is the same attack with that limit out of the way,
//! within the stage's own bounds: it gets further than the limit.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_escape::stage::Enclosure;
use cloison_sandbox::cgroup::Usage;
use cloison_sandbox::{
    ExitStatus, IdRange, Io, Kernel, Layer, Plan, Prepared, Sandbox, SandboxName, Spec, Streams,
    Waivers,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;
/// From when on a request has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Between two requests.
const PACE: Duration = Duration::from_millis(10);

/// What the service does for each request: it starts a program, writes and
/// reads a file, and answers with what was asked.
const SERVICE: &str = "while read -r line; do /usr/bin/true && echo \"$line\" >/tmp/last \
    && read -r back </tmp/last && echo \"$back\" || exit 1; done";

/// The memory of the stage: the controls' own bound.
const STAGE_BYTES: u64 = 1 << 30;

/// The stage of noisy neighbours: smaller than the usual one, since the
/// controls take all of it.
#[must_use]
pub fn enclosure() -> Enclosure {
    let mut enclosure = Enclosure::default();
    enclosure.limits.memory_bytes_max = Some(STAGE_BYTES);
    enclosure.limits.processes_max = Some(1024);
    enclosure
}

/// One attack on what servers share.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Its name, with its row in the catalogue.
    pub name: &'static str,
    /// The program, run by sh.
    pub script: &'static str,
    /// Sets the limit as small as the attack needs it to be reached soon.
    pub limit: fn(&mut Spec),
    /// Takes the limit out of the way.
    pub lift: fn(&mut Spec),
    /// How far the attack got: the limit's own counter, or what it says itself.
    pub held: fn(&Measured) -> bool,
    /// Whether it got further than the limit lets it.
    pub beyond: fn(&Measured) -> bool,
}

/// Python's own threads, where perl and sh have none.
const THREADS: &str = "exec /usr/bin/python3 -c '
import threading, time
n = 0
while True:
    try:
        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
        n += 1
    except RuntimeError:
        print(n, flush=True)
        time.sleep(0.01)'";

/// Counts what a perl expression gives until it gives no more, and says it.
macro_rules! until_refused {
    ($take:literal) => {
        concat!(
            "exec /usr/bin/perl -e '$| = 1; my @all; while (1) { my $one = ",
            $take,
            "; if ($one) { push @all, $one } else { print scalar(@all), \"\\n\"; \
             select undef, undef, undef, 0.05 } }'"
        )
    };
}

/// Every attack.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "F01 fork bomb",
        script: "exec /usr/bin/perl -e 'while (1) { fork }'",
        limit: |spec| spec.cgroup.tasks_max = 64,
        lift: |spec| spec.cgroup.tasks_max = 1 << 22,
        held: |m| m.usage.task_limit_hits > Some(0) && m.tasks_peak <= 64,
        beyond: |m| m.tasks_peak > 64,
    },
    Attack {
        name: "F02 thread bomb",
        script: THREADS,
        limit: |spec| spec.cgroup.tasks_max = 64,
        lift: |spec| spec.cgroup.tasks_max = 1 << 22,
        held: |m| m.usage.task_limit_hits > Some(0) && m.said > 0 && m.said < 64,
        beyond: |m| m.tasks_peak > 64,
    },
    Attack {
        name: "F03 memory",
        script: "while :; do /usr/bin/perl -e 'my @a; push @a, \"x\" x (1 << 20) while 1'; done",
        limit: |spec| spec.cgroup.memory_bytes_max = 64 << 20,
        lift: |spec| spec.cgroup.memory_bytes_max = 1 << 50,
        held: |m| m.usage.oom_kills > Some(0) && m.memory_peak <= 64 << 20,
        beyond: |m| m.memory_peak > 64 << 20,
    },
    Attack {
        name: "F03 memory of the kernel, by pipes",
        script: "exec /usr/bin/perl -e 'while (1) { my $p = fork; if (!$p) { my @a; \
            while (pipe my $r, my $w) { syswrite $w, \"x\" x 65536; push @a, $r, $w } sleep 9 } \
            select undef, undef, undef, 0.02 }'",
        limit: |spec| spec.cgroup.memory_bytes_max = 32 << 20,
        lift: |spec| spec.cgroup.memory_bytes_max = 1 << 50,
        // Version 1 counts no refusal of the kernel's own memory, but who was
        // ended for it.
        held: |m| m.usage.oom_kills > Some(0) && m.memory_peak <= 32 << 20,
        beyond: |m| m.memory_peak > 32 << 20,
    },
    Attack {
        name: "F03 memory of a tmpfs",
        script: "dd if=/dev/zero of=/tmp/x bs=64k 2>/dev/null; stat -c %s /tmp/x; exec sleep 99",
        limit: |spec| spec.tmpfs.tmp_bytes_max = 16 << 20,
        lift: |spec| spec.tmpfs.tmp_bytes_max = 128 << 20,
        held: |m| m.said == 16 << 20,
        beyond: |m| m.said > 16 << 20,
    },
    Attack {
        name: "F06 inodes of a tmpfs",
        script: until_refused!(
            "do { my $f; open($f, \">\", \"/tmp/\" . scalar(@all)) && close($f) }"
        ),
        limit: |spec| spec.tmpfs.files_max = 512,
        lift: |spec| spec.tmpfs.files_max = 4096,
        held: |m| m.said > 0 && m.said < 512,
        beyond: |m| m.said >= 512,
    },
    Attack {
        name: "F04 processors",
        script: "for i in 1 2 3 4; do while :; do :; done & done; wait",
        limit: |spec| spec.cgroup.cpu_percent_max = 20,
        lift: |spec| {
            // As much as the stage itself has.
            spec.cgroup.cpu_percent_max = 150;
            spec.cgroup.cpu_weight = 10_000;
        },
        held: |m| m.usage.cpu_throttled_periods > Some(0) && m.processors() < 0.35,
        beyond: |m| m.processors() > 0.35,
    },
    Attack {
        name: "F07 descriptors",
        script: until_refused!("do { my $f; open($f, \"<\", \"/dev/null\") ? $f : 0 }"),
        limit: |spec| spec.limits.open_files_max = 256,
        lift: |spec| spec.limits.open_files_max = 1024,
        held: |m| m.said > 200 && m.said < 256,
        beyond: |m| m.said >= 256,
    },
    Attack {
        name: "F08 pseudo-terminals",
        script: until_refused!("do { my $f; open($f, \"+<\", \"/dev/ptmx\") ? $f : 0 }"),
        limit: |spec| spec.limits.terminals_max = 16,
        lift: |spec| spec.limits.terminals_max = 64,
        held: |m| m.said == 16,
        beyond: |m| m.said > 16,
    },
    Attack {
        name: "F09, N09 inotify",
        // inotify_init1(0); not more than 24: the machine's own root shares
        // the pool.
        script: until_refused!("(@all < 24 && (my $n = syscall(294, 0)) >= 0 ? $n + 1 : 0)"),
        limit: |spec| spec.limits.inotify_instances_max = 8,
        lift: |spec| spec.limits.inotify_instances_max = 64,
        held: |m| m.said == 8,
        beyond: |m| m.said > 8,
    },
    Attack {
        name: "N07 crashes, work outside of its cgroup",
        script: "exec /usr/bin/perl -e 'fork; fork; \
            while (1) { if (!fork) { kill SEGV => $$ } wait }'",
        limit: |spec| spec.cgroup.cpu_percent_max = 10,
        lift: |spec| spec.cgroup.cpu_percent_max = 150,
        held: |m| m.usage.cpu_throttled_periods > Some(0) && m.processors() < 0.2,
        beyond: |m| m.processors() > 0.2,
    },
];

/// What was seen while an attack went on.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How the neighbour's requests went.
    pub requests: Requests,
    /// What the attacker used.
    pub usage: Usage,
    /// The most tasks that the attacker had.
    pub tasks_peak: u64,
    /// The most memory that the attacker had.
    pub memory_peak: u64,
    /// The largest number that the attacker said.
    pub said: u64,
    /// How long it went on.
    pub lasted: Duration,
    /// Whether another server could be launched meanwhile.
    pub launches: bool,
}

impl Measured {
    /// How many processors the attacker had.
    #[must_use]
    pub fn processors(&self) -> f64 {
        let used = Duration::from_micros(self.usage.cpu_us.unwrap_or(0));
        used.as_secs_f64() / self.lasted.as_secs_f64().max(0.001)
    }
}

/// How requests went.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// How long each took that was answered, sorted.
    pub times: Vec<Duration>,
    /// How many were not answered, or wrongly.
    pub failed: usize,
}

impl Requests {
    /// The time that 99 of 100 stay below.
    #[must_use]
    pub fn p99(&self) -> Duration {
        let at = self.times.len() * 99 / 100;
        let at = at.min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or_default()
    }
}

/// Servers that are launched on this stage.
pub struct Host {
    kernel: Kernel,
    waivers: Waivers,
}

impl Host {
    /// Asks the kernel what it can do.
    ///
    /// # Errors
    /// What the library said.
    pub fn new() -> Result<Self> {
        let mut waivers = Waivers::none();
        for layer in [
            Layer::CoreScheduling,
            Layer::SpeculationControl,
            Layer::LandlockNetwork,
            Layer::LandlockScope,
        ] {
            waivers.waive(layer, "the tests say what this host lacks")?;
        }
        let kernel = Kernel::probe()?;
        Ok(Self { kernel, waivers })
    }

    /// Starts a server by a script, with the `number`th range of ids.
    fn start(&self, name: &str, number: u32, script: &str, set: fn(&mut Spec)) -> Result<Server> {
        let command = ["/usr/bin/sh", "-c", script].map(str::to_owned);
        let mut spec = Spec::new(SandboxName::new(name)?, command.to_vec());
        spec.ids = Some(IdRange::new(IDS + number * IdRange::COUNT)?);
        set(&mut spec);
        let (stdin, ask) = std::io::pipe()?;
        let (answers, stdout) = std::io::pipe()?;
        let streams = Streams::Descriptors {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: File::options().write(true).open("/dev/null")?.into(),
        };
        let io = Io {
            streams,
            sockets: Vec::new(),
        };
        let prepared = Prepared::new(&spec)?;
        let plan = Plan::new(&spec, &self.kernel, &self.waivers, prepared, io)?;
        Ok(Server {
            sandbox: plan.hold()?.start()?,
            ask: File::from(OwnedFd::from(ask)),
            answers: File::from(OwnedFd::from(answers)),
            pending: Vec::new(),
        })
    }

    /// The neighbour by itself.
    ///
    /// # Errors
    /// What the library said.
    pub fn at_rest(&self, lasting: Duration) -> Result<Requests> {
        let mut neighbour = self.start("neighbour", 0, SERVICE, |_| ())?;
        let requests = neighbour.ask_for(lasting, || Ok(()))?;
        neighbour.sandbox.remove()?;
        Ok(requests)
    }

    /// The neighbour beside the attack.
    ///
    /// # Errors
    /// What the library said.
    pub fn under(
        &self,
        attack: &Attack,
        set: fn(&mut Spec),
        lasting: Duration,
    ) -> Result<Measured> {
        let mut neighbour = self.start("neighbour", 0, SERVICE, |_| ())?;
        // It has answered once before the attack begins.
        neighbour.ask_for(Duration::ZERO, || Ok(()))?;
        let mut attacker = self.start("attacker", 1, attack.script, set)?;
        let begun = Instant::now();
        let mut measured = Measured::default();
        let requests = neighbour.ask_for(lasting, || {
            let usage = attacker.sandbox.usage()?;
            measured.tasks_peak = measured.tasks_peak.max(usage.tasks.unwrap_or(0));
            measured.memory_peak = measured.memory_peak.max(usage.memory_bytes.unwrap_or(0));
            attacker.hear()?;
            Ok(())
        })?;
        measured.requests = requests;
        measured.lasted = begun.elapsed();
        measured.usage = attacker.sandbox.usage()?;
        measured.said = attacker.largest_said();
        measured.launches = self.launches();
        attacker.sandbox.remove()?;
        neighbour.sandbox.remove()?;
        Ok(measured)
    }

    /// Whether a third server can be launched, and ends well.
    fn launches(&self) -> bool {
        let ended = self
            .start("third", 2, "exit 7", |_| ())
            .and_then(|mut third| {
                let status = third.sandbox.wait()?;
                third.sandbox.remove()?;
                Ok(status)
            });
        matches!(ended, Ok(ExitStatus::Exited(7)))
    }
}

/// A server with pipes to it.
struct Server {
    sandbox: Sandbox,
    ask: File,
    answers: File,
    pending: Vec<u8>,
}

impl Server {
    /// Asks again and again, at least once; `beside` is done after each answer.
    fn ask_for(
        &mut self,
        lasting: Duration,
        mut beside: impl FnMut() -> Result<()>,
    ) -> Result<Requests> {
        let mut requests = Requests::default();
        let begun = Instant::now();
        for number in 0_u64.. {
            let asked = Instant::now();
            if self.request(number) {
                requests.times.push(asked.elapsed());
            } else {
                requests.failed += 1;
                self.pending.clear();
            }
            beside()?;
            if begun.elapsed() >= lasting {
                break;
            }
            std::thread::sleep(PACE);
        }
        requests.times.sort_unstable();
        Ok(requests)
    }

    /// Whether it answers what it is asked, in time.
    fn request(&mut self, number: u64) -> bool {
        let line = format!("{number}\n");
        if self.ask.write_all(line.as_bytes()).is_err() {
            return false;
        }
        let end = Instant::now() + REQUEST_LIMIT;
        while !self.pending.ends_with(b"\n") {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.hear_within(left).unwrap_or(false) {
                return false;
            }
        }
        std::mem::take(&mut self.pending) == line.as_bytes()
    }

    /// Reads what is there by now.
    fn hear(&mut self) -> Result<()> {
        while self.hear_within(Duration::ZERO)? {}
        Ok(())
    }

    fn hear_within(&mut self, limit: Duration) -> Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(self.answers.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, timeout)? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        let count = self.answers.read(&mut bytes)?;
        self.pending.extend(bytes.iter().take(count));
        Ok(count > 0)
    }

    fn largest_said(&self) -> u64 {
        let text = String::from_utf8_lossy(&self.pending);
        text.lines()
            .filter_map(|line| line.parse().ok())
            .max()
            .unwrap_or(0)
    }
}
