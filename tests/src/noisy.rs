//! Noisy neighbours: one server takes what it can get, a small service runs in
//! another, and each of its requests is counted and timed.
//!
//! What a limit must do is said by two things: no request of the neighbour
//! fails, and the limit's own counter shows that it was this limit which held
//! the attack. The control is the same attack with that limit out of the way,
//! within the stage's own bounds: it gets further than the limit.

mod disk;

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_escape::stage::Enclosure;
use cloison_sandbox::cgroup::Usage;
use cloison_sandbox::seccomp::{Filters, Instruction};
use cloison_sandbox::{
    ExitStatus, IdRange, Io, Kernel, Layer, Plan, Prepared, Sandbox, SandboxName, Spec, Streams,
    Waivers, Weakening,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::case::{slowed, times_slower};
use crate::guest::IN_GUEST;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;
/// From when on a request has failed.
const REQUEST_LIMIT_S: u64 = 2;
/// Between two requests.
const PACE: Duration = Duration::from_millis(10);

/// What the service does for each request: it starts a program, writes and
/// reads a file, and answers with what was asked.
const SERVICE: &str = "while read -r line; do /usr/bin/true && echo \"$line\" >/tmp/last \
    && read -r back </tmp/last && echo \"$back\" || exit 1; done";

/// The memory of the stage: the controls' own bound.
const STAGE_BYTES: u64 = 1 << 30;
const STAGE_SWAP_BYTES: u64 = 64 << 20;

/// The stage of noisy neighbours: smaller than the usual one, since the
/// controls take all of it.
#[must_use]
pub fn enclosure() -> Enclosure {
    let mut enclosure = Enclosure::default();
    enclosure.limits.memory_bytes_max = Some(STAGE_BYTES);
    enclosure.limits.swap_bytes_max = STAGE_SWAP_BYTES;
    // An emulated processor takes longer to end a thousand than anybody waits.
    let is_emulated = std::env::var_os(IN_GUEST).is_some();
    enclosure.limits.processes_max = Some(if is_emulated { 320 } else { 1024 });
    enclosure
}

/// One attack on what servers share.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Its name, with its row in the catalogue.
    pub name: &'static str,
    /// What this place lacks for it, if it lacks something.
    pub lacks: fn() -> Option<String>,
    /// The program, run by sh.
    pub script: &'static str,
    /// Sets the limit as small as the attack needs it to be reached soon.
    pub limit: fn(&mut Spec),
    /// Takes the limit out of the way.
    pub lift: fn(&mut Spec),
    /// Takes a layer out of the way, where the limit is one.
    pub weaken: fn() -> Vec<Weakening>,
    /// How far the attack got: the limit's own counter, or what it says itself.
    pub held: fn(&Measured) -> bool,
    /// Whether it got further than the limit lets it.
    pub beyond: fn(&Measured) -> bool,
}

/// Threads of perl's own; it says how many there are when there are no more.
const THREADS: &str = "exec /usr/bin/perl -Mthreads -e 'no warnings; $| = 1; my $n = 0; \
    while (1) { if (threads->create({ stack_size => 65536 }, sub { sleep 99 })) { $n++ } \
    else { print \"$n\\n\"; select undef, undef, undef, 0.01 } }'";

/// Filters that nothing is kept from by, as many as there may be, in many
/// processes; it says in how many there is none, and a thousand for each in
/// which there are some.
const FILTERS: &str = "exec /usr/bin/perl -e '$| = 1; pipe my $r, my $w; \
    my $code = (pack \"SCCL\", 0x20, 0, 0, 16) x 4000 . pack \"SCCL\", 6, 0, 0, 0x7fff0000; \
    my $all = pack \"Sx6P\", 4001, $code; \
    for (1 .. 40) { my $p = fork; next if $p; last if !defined $p; \
      syswrite $w, syscall(317, 1, 0, $all) == 0 ? \"x\" : \"-\"; \
      1 while syscall(317, 1, 0, $all) == 0; sleep 99 } \
    my $n = 0; while (sysread $r, my $x, 1) { $n += $x eq \"x\" ? 1000 : 1; print \"$n\\n\" }'";

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
        lacks: nothing,
        script: "exec /usr/bin/perl -e 'while (1) { fork }'",
        limit: |spec| spec.cgroup.tasks_max = 64,
        lift: |spec| spec.cgroup.tasks_max = 1 << 22,
        weaken: Vec::new,
        held: |m| m.usage.task_limit_hits > Some(0) && m.tasks_peak <= 64,
        beyond: |m| m.tasks_peak > 64,
    },
    Attack {
        name: "F02 thread bomb",
        lacks: nothing,
        script: THREADS,
        limit: |spec| spec.cgroup.tasks_max = 64,
        lift: |spec| spec.cgroup.tasks_max = 1 << 22,
        weaken: Vec::new,
        held: |m| m.usage.task_limit_hits > Some(0) && m.said > 0 && m.said < 64,
        beyond: |m| m.tasks_peak > 64,
    },
    Attack {
        name: "F03 memory",
        lacks: nothing,
        script: "while :; do /usr/bin/perl -e 'my @a; push @a, \"x\" x (1 << 20) while 1'; done",
        limit: |spec| spec.cgroup.memory_bytes_max = 64 << 20,
        lift: |spec| spec.cgroup.memory_bytes_max = 1 << 50,
        weaken: Vec::new,
        held: |m| m.usage.oom_kills > Some(0) && m.memory_peak <= 64 << 20,
        beyond: |m| m.memory_peak > 64 << 20,
    },
    Attack {
        name: "F03 memory of the kernel, by pipes",
        lacks: nothing,
        script: "exec /usr/bin/perl -e 'while (1) { my $p = fork; if (!$p) { my @a; \
            while (pipe my $r, my $w) { syswrite $w, \"x\" x 65536; push @a, $r, $w } sleep 9 } \
            select undef, undef, undef, 0.02 }'",
        limit: |spec| spec.cgroup.memory_bytes_max = 32 << 20,
        lift: |spec| spec.cgroup.memory_bytes_max = 1 << 50,
        // Version 1 counts no refusal of the kernel's own memory, but who was
        // ended for it.
        weaken: Vec::new,
        held: |m| m.usage.oom_kills > Some(0) && m.memory_peak <= 32 << 20,
        beyond: |m| m.memory_peak > 32 << 20,
    },
    Attack {
        name: "F03 memory of a tmpfs",
        lacks: nothing,
        script: "dd if=/dev/zero of=/tmp/x bs=64k 2>/dev/null; stat -c %s /tmp/x; exec sleep 99",
        limit: |spec| spec.tmpfs.tmp_bytes_max = 16 << 20,
        lift: |spec| spec.tmpfs.tmp_bytes_max = 128 << 20,
        weaken: Vec::new,
        held: |m| m.said == 16 << 20,
        beyond: |m| m.said > 16 << 20,
    },
    Attack {
        name: "F06 inodes of a tmpfs",
        lacks: nothing,
        script: until_refused!(
            "do { my $f; open($f, \">\", \"/tmp/\" . scalar(@all)) && close($f) }"
        ),
        limit: |spec| spec.tmpfs.files_max = 512,
        lift: |spec| spec.tmpfs.files_max = 4096,
        weaken: Vec::new,
        held: |m| m.said > 0 && m.said < 512,
        beyond: |m| m.said >= 512,
    },
    Attack {
        name: "F04 processors",
        lacks: nothing,
        script: "for i in 1 2 3 4; do while :; do :; done & done; wait",
        limit: |spec| spec.cgroup.cpu_percent_max = 20,
        lift: |spec| {
            // As much as the stage itself has.
            spec.cgroup.cpu_percent_max = 150;
            spec.cgroup.cpu_weight = 10_000;
        },
        weaken: Vec::new,
        held: |m| m.usage.cpu_throttled_periods > Some(0) && m.processors() < 0.35,
        beyond: |m| m.processors() > 0.35,
    },
    Attack {
        name: "F07 descriptors",
        lacks: nothing,
        script: until_refused!("do { my $f; open($f, \"<\", \"/dev/null\") ? $f : 0 }"),
        limit: |spec| spec.limits.open_files_max = 256,
        lift: |spec| spec.limits.open_files_max = 1024,
        weaken: Vec::new,
        held: |m| m.said > 200 && m.said < 256,
        beyond: |m| m.said >= 256,
    },
    Attack {
        name: "F08 pseudo-terminals",
        lacks: nothing,
        script: until_refused!("do { my $f; open($f, \"+<\", \"/dev/ptmx\") ? $f : 0 }"),
        limit: |spec| spec.limits.terminals_max = 16,
        lift: |spec| spec.limits.terminals_max = 64,
        weaken: Vec::new,
        held: |m| m.said == 16,
        beyond: |m| m.said > 16,
    },
    Attack {
        name: "F09, N09 inotify",
        lacks: nothing,
        // inotify_init1(0); not more than 24: the machine's own root shares
        // the pool.
        script: until_refused!("(@all < 24 && (my $n = syscall(294, 0)) >= 0 ? $n + 1 : 0)"),
        limit: |spec| spec.limits.inotify_instances_max = 8,
        lift: |spec| spec.limits.inotify_instances_max = 64,
        weaken: Vec::new,
        held: |m| m.said == 8,
        beyond: |m| m.said > 8,
    },
    Attack {
        name: "N07 crashes, work outside of its cgroup",
        lacks: nothing,
        script: "exec /usr/bin/perl -e 'fork; fork; \
            while (1) { if (!fork) { kill SEGV => $$ } wait }'",
        limit: |spec| spec.cgroup.cpu_percent_max = 10,
        lift: |spec| spec.cgroup.cpu_percent_max = 150,
        weaken: Vec::new,
        held: |m| m.usage.cpu_throttled_periods > Some(0) && m.processors() < 0.2,
        beyond: |m| m.processors() > 0.2,
    },
    Attack {
        name: "F03 memory of the kernel, by sockets",
        lacks: nothing,
        script: "exec /usr/bin/perl -e 'while (1) { my $p = fork; if (!$p) { my @a; \
            while (socketpair my $r, my $w, 1, 1, 0) { fcntl $w, 4, 2048; \
            1 while syswrite $w, \"x\" x 65536; push @a, $r, $w } sleep 9 } \
            select undef, undef, undef, 0.02 }'",
        limit: |spec| spec.cgroup.memory_bytes_max = 32 << 20,
        lift: |spec| spec.cgroup.memory_bytes_max = 1 << 50,
        weaken: Vec::new,
        // What is in a socket already is counted also beyond the limit.
        held: |m| m.usage.oom_kills > Some(0) && m.memory_peak <= 36 << 20,
        beyond: |m| m.memory_peak > 48 << 20,
    },
    Attack {
        name: "F03 swap",
        lacks: swap,
        script: "while :; do /usr/bin/perl -e 'my @a; push @a, \"x\" x (1 << 20) while 1'; done",
        limit: |spec| {
            spec.cgroup.memory_bytes_max = 16 << 20;
            spec.cgroup.swap_bytes_max = 8 << 20;
        },
        lift: |spec| {
            spec.cgroup.memory_bytes_max = 16 << 20;
            spec.cgroup.swap_bytes_max = 1 << 50;
        },
        weaken: Vec::new,
        held: |m| m.usage.oom_kills > Some(0) && m.swap_peak > 0 && m.swap_peak <= 8 << 20,
        beyond: |m| m.swap_peak > 8 << 20,
    },
    Attack {
        name: "F11 timers, which are pending signals",
        lacks: nothing,
        // timer_create(CLOCK_MONOTONIC, NULL, &id); not more than 400.
        script: until_refused!(
            "do { my $id = pack \"L\", 0; @all < 400 && syscall(222, 1, 0, $id) == 0 }"
        ),
        limit: |spec| spec.limits.pending_signals_max = 64,
        lift: |spec| spec.limits.pending_signals_max = 512,
        weaken: Vec::new,
        held: |m| m.said == 64,
        beyond: |m| m.said > 64,
    },
    Attack {
        name: "F15 rate of a disk",
        lacks: disk::lacks,
        // The same 2 MiB again and again, past the page cache.
        script: "n=0; while dd if=/dev/zero of=/srv/file bs=256k count=8 oflag=direct \
            2>/dev/null; do n=$((n + 1)); echo $n; done",
        limit: |spec| disk::give(spec, Some(disk::RATE)),
        lift: |spec| disk::give(spec, None),
        weaken: Vec::new,
        held: |m| {
            m.usage.io_written_bytes > Some(0) && m.written_per_s() <= 2.0 * disk::RATE as f64
        },
        beyond: |m| m.written_per_s() > 2.0 * disk::RATE as f64,
    },
    Attack {
        name: "F17 memory of compiled filters",
        lacks: machine_of_its_own,
        script: FILTERS,
        limit: |_| (),
        lift: |_| (),
        weaken: || vec![Weakening::Seccomp(all_allowed())],
        held: |m| m.said > 0 && m.said < 1000,
        beyond: |m| m.said >= 1000,
    },
];

/// For what any place has.
const fn nothing() -> Option<String> {
    None
}

fn swap() -> Option<String> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let has_none = swaps.lines().count() < 2;
    has_none.then(|| "this machine has no swap".to_owned())
}

/// For a pool that the whole machine has one of.
fn machine_of_its_own() -> Option<String> {
    let shared = std::env::var_os(IN_GUEST).is_none();
    shared.then(|| "it would take what the whole machine has: only in a guest".to_owned())
}

/// Filters that keep nobody from anything.
#[must_use]
pub fn all_allowed() -> Filters {
    let allow = Instruction {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0x7fff_0000,
    };
    Filters {
        programs: vec![vec![allow]],
    }
}

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
    /// The most swap that the attacker had.
    pub swap_peak: u64,
    /// The largest number that the attacker said.
    pub said: u64,
    /// How long it went on.
    pub lasted: Duration,
    /// Whether another server could be launched meanwhile.
    pub launches: bool,
}

impl Measured {
    /// What the attacker wrote to disks, in bytes.
    #[must_use]
    pub fn written_per_s(&self) -> f64 {
        let bytes = self.usage.io_written_bytes.unwrap_or(0) as f64;
        bytes / self.lasted.as_secs_f64().max(0.001)
    }

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
    fn start(
        &self,
        name: &str,
        number: u32,
        script: &str,
        set: fn(&mut Spec),
        weakenings: Vec<Weakening>,
    ) -> Result<Server> {
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
        let (kernel, waivers) = (&self.kernel, &self.waivers);
        let plan = Plan::weakened(&spec, kernel, waivers, prepared, io, weakenings)?;
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
        let mut neighbour = self.start("neighbour", 0, SERVICE, |_| (), Vec::new())?;
        let requests = neighbour.ask_for(lasting, || Ok(true))?;
        neighbour.sandbox.remove()?;
        Ok(requests)
    }

    /// The neighbour beside the attack.
    ///
    /// # Errors
    /// What the library said.
    pub fn under(&self, attack: &Attack, lasting: Duration) -> Result<Measured> {
        let (set, until) = (attack.limit, attack.held);
        self.beside(attack, (set, Vec::new()), until, lasting)
    }

    /// The neighbour beside the attack without its limit.
    ///
    /// # Errors
    /// What the library said.
    pub fn control(&self, attack: &Attack, lasting: Duration) -> Result<Measured> {
        let (set, until) = (attack.lift, attack.beyond);
        self.beside(attack, (set, (attack.weaken)()), until, lasting)
    }

    fn beside(
        &self,
        attack: &Attack,
        (set, weakenings): (fn(&mut Spec), Vec<Weakening>),
        until: fn(&Measured) -> bool,
        lasting: Duration,
    ) -> Result<Measured> {
        let mut neighbour = self.start("neighbour", 0, SERVICE, |_| (), Vec::new())?;
        // It has answered once before the attack begins.
        neighbour.ask_for(Duration::ZERO, || Ok(true))?;
        let mut attacker = self.start("attacker", 1, attack.script, set, weakenings)?;
        let begun = Instant::now();
        let mut measured = Measured::default();
        let requests = neighbour.ask_for(lasting, || {
            attacker.hear()?;
            measured.usage = attacker.sandbox.usage()?;
            let usage = &measured.usage;
            measured.tasks_peak = measured.tasks_peak.max(usage.tasks.unwrap_or(0));
            measured.memory_peak = measured.memory_peak.max(usage.memory_bytes.unwrap_or(0));
            measured.swap_peak = measured.swap_peak.max(usage.swap_bytes.unwrap_or(0));
            measured.said = attacker.largest_said();
            measured.lasted = begun.elapsed();
            Ok(until(&measured))
        })?;
        measured.requests = requests;
        measured.launches = self.launches();
        attacker.sandbox.remove()?;
        neighbour.sandbox.remove()?;
        Ok(measured)
    }

    /// Whether a third server can be launched, and ends well.
    fn launches(&self) -> bool {
        let ended = self
            .start("third", 2, "exit 7", |_| (), Vec::new())
            .and_then(|mut third| {
                let status = third.sandbox.wait()?;
                third.sandbox.remove()?;
                Ok(status)
            });
        matches!(ended, Ok(ExitStatus::Exited(7)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        disk::take_back();
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
    /// Asks again and again, at least once; `beside` is done after each answer,
    /// and says whether it has seen enough: where a processor is emulated, it
    /// may take many times as long.
    fn ask_for(
        &mut self,
        lasting: Duration,
        mut beside: impl FnMut() -> Result<bool>,
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
            let is_enough = beside()?;
            let lasted = begun.elapsed();
            if lasted >= lasting && is_enough || lasted >= lasting * times_slower() {
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
        let end = Instant::now() + Duration::from_secs(slowed(REQUEST_LIMIT_S));
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
