//! The runner's own sight of an attempt, way by way: its word alone proves
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::spawner_pid;
use nix::unistd::Pid;

use super::error::{ProbeError, canary};
use super::handed_in::Log;
use super::itself;
use super::outside::Process;
use super::scene::is_bare_tree;
use super::traces::Trace;
use super::{Attempted, Canary, Scene, Verdict, Way};

/// How long what a way did may take to show.
const SHOWS_WITHIN: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(2);

/// What is seen of one attempt.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    scene: &'a Scene,
    sandbox: Pid,
    /// The processes that it is tried on, if it is any.
    aims: Vec<Aim>,
    /// The ways that were seen to get through.
    seen: BTreeSet<String>,
    /// What a way must hand back: what was read here while it held still.
    expected: BTreeMap<String, String>,
    /// How often the victim was seen to note something.
    noted: usize,
}

/// A process that something is tried on.
#[derive(Debug)]
struct Aim {
    /// What the names of its ways begin with.
    prefix: &'static str,
    process: Process,
    /// What others may change of it, as it was.
    attributes: BTreeMap<&'static str, String>,
}

impl Aim {
    fn new(prefix: &'static str, process: Process) -> Self {
        Self {
            prefix,
            process,
            attributes: process.attributes(),
        }
    }
}

impl<'a> Watch<'a> {
    /// Before the command of `sandbox` runs. `child`: of another launch, held.
    pub(super) fn begin(scene: &'a Scene, sandbox: Pid, child: Option<Pid>) -> Self {
        let child = child.map(|child| Process(child.as_raw()));
        let spawner = spawner_pid().and_then(|pid| i32::try_from(pid).ok());
        let all = match scene.canary() {
            Canary::Process | Canary::Namespaced => {
                vec![("", scene.victim_pid().map(Process))]
            }
            Canary::Init | Canary::Program => vec![("", Some(Process(sandbox.as_raw())))],
            Canary::Joining => vec![("", child)],
            Canary::Caller => vec![
                ("child-", child),
                ("spawner-", spawner.map(Process)),
                ("caller-", Some(Process(Pid::this().as_raw()))),
            ],
            _ => Vec::new(),
        };
        let aims = all
            .into_iter()
            .filter_map(|(prefix, process)| Some(Aim::new(prefix, process?)));
        Self {
            scene,
            sandbox,
            aims: aims.collect(),
            seen: BTreeSet::new(),
            expected: BTreeMap::new(),
            noted: 0,
        }
    }

    /// Something is tried on a process of the sandbox as well.
    pub(super) fn aim_inside(
        &mut self,
        prefix: &'static str,
        inner: i32,
    ) -> Result<(), ProbeError> {
        let found = Process::inside(self.sandbox, inner).map_err(canary("finding a process"))?;
        self.aims.extend(found.map(|found| Aim::new(prefix, found)));
        Ok(())
    }

    /// What `way` is tried on, and what is left of its name.
    fn aim<'w>(&self, way: &'w str) -> Option<(&Aim, &'w str)> {
        let fits = |aim: &Aim| Some((aim.prefix.len(), way.strip_prefix(aim.prefix)?));
        let all = self.aims.iter().filter_map(|aim| Some((aim, fits(aim)?)));
        let longest = all.max_by_key(|(_, (length, _))| *length);
        longest.map(|(aim, (_, rest))| (aim, rest))
    }

    /// Looks at the way that the process `inner` of the sandbox holds still in;
    /// whether it shows.
    pub(super) fn look(&mut self, way: &str, inner: i32) -> Result<bool, ProbeError> {
        let found = Process::inside(self.sandbox, inner).map_err(canary("finding the attempt"))?;
        let Some(attempt) = found else {
            return Ok(false);
        };
        let end = Instant::now() + SHOWS_WITHIN;
        loop {
            // What cannot be read is not seen.
            if self.shows(way, attempt).unwrap_or(false) {
                self.seen.insert(way.to_owned());
                self.scene.set_log_back()?;
                return Ok(true);
            }
            if Instant::now() > end || !self.is_noted(way) {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether a victim notes it, in its own time.
    fn is_noted(&self, way: &str) -> bool {
        match self.scene.canary() {
            Canary::Neighbour | Canary::Group | Canary::Listener => true,
            Canary::Process => SIGNALS.contains(&way),
            _ => false,
        }
    }

    fn is_unseen(&self, way: &str) -> bool {
        self.scene.probe().is_unseen(way)
    }

    fn shows(&mut self, way: &str, attempt: Process) -> io::Result<bool> {
        let sandbox = Process(self.sandbox.as_raw());
        match self.scene.canary() {
            Canary::MaskedTree | Canary::SharedTree => match way {
                "clear-nosuid-nodev" => {
                    let mounts = attempt.text("mountinfo")?;
                    Ok(mounts.lines().any(is_bare_tree))
                }
                _ => self.scene.tree_shows(way),
            },
            Canary::Process | Canary::Init | Canary::Joining | Canary::Caller => {
                self.target_shows(way, attempt)
            }
            Canary::Program => match self.aims.first().map(|aim| aim.process) {
                // Whatever the launcher makes it, others may execute it.
                Some(target) if way.ends_with("-change-mode") => {
                    Ok(target.mode("exe")? & 0o001 == 0)
                }
                Some(target) => attempt.holds(target, "exe"),
                None => Ok(false),
            },
            Canary::Namespaces => {
                for kind in kinds(way) {
                    if !attempt.left(sandbox, kind)? {
                        return Ok(false);
                    }
                }
                Ok(kinds(way).next().is_some())
            }
            Canary::HandedOut if way.contains("unshare-user") => attempt.left(sandbox, "user"),
            Canary::HandedOut if way.contains("socket") => attempt.holds_one_of("socket:["),
            Canary::HandedOut => attempt.holds_one_of("anon_inode:[io_uring]"),
            Canary::Network => network_shows(way, attempt),
            Canary::Traces(_, traces) => self.left_trace(traces, way, attempt),
            Canary::Itself => itself::shows(way, attempt, sandbox),
            Canary::Neighbour | Canary::Group | Canary::Listener => self.victim_noted(),
            Canary::Namespaced => {
                let target = self.aims.first().map(|aim| aim.process);
                let (Some(target), Some((_, kind))) = (target, way.rsplit_once('-')) else {
                    return Ok(false);
                };
                match kind {
                    "process" => attempt.holds_pidfd_of(target),
                    _ if way.starts_with("join-") => attempt.shares(target, kind),
                    _ => attempt.holds(target, &format!("ns/{kind}")),
                }
            }
            Canary::Streams => attempt.may_read_again("fd/1"),
            Canary::Log => self.scene.log().map_or(Ok(false), Log::is_changed),
            Canary::Shared => match (self.scene.shared(), way) {
                (Some(shared), "counter") => shared.is_counted(),
                (Some(shared), "set-of-waits") => {
                    self.expected.insert(way.to_owned(), shared.awaited());
                    Ok(false)
                }
                _ => Ok(false),
            },
            // Of these no process inside holds still.
            Canary::Outlived | Canary::Inherited | Canary::Careless => Ok(false),
            Canary::OpenDirectory | Canary::Key | Canary::Terminal | Canary::Unseen(_) => Ok(false),
        }
    }

    fn left_trace(
        &mut self,
        traces: &[(&str, Trace)],
        way: &str,
        attempt: Process,
    ) -> io::Result<bool> {
        let Some((_, trace)) = traces.iter().find(|(name, _)| *name == way) else {
            return Ok(false);
        };
        if let Trace::Beginning(file) = trace {
            let own = beginning(file)?;
            self.expected.insert(way.to_owned(), own);
        }
        trace.shows(attempt)
    }

    fn target_shows(&mut self, way: &str, attempt: Process) -> io::Result<bool> {
        let Some((aim, done)) = self.aim(way) else {
            return Ok(false);
        };
        if SIGNALS.contains(&done) {
            return self.victim_noted();
        }
        let target = aim.process;
        if let Some(before) = aim.attributes.get(done) {
            let now = target.attributes().remove(done);
            // Where there is nothing to change, what is set is what was.
            let is_at_end = match done {
                "sched_setaffinity" => is_one(before),
                "setpriority" => before == "19",
                _ => false,
            };
            return Ok(now.is_some_and(|now| now != *before) || is_at_end);
        }
        match done {
            "ptrace" => Ok(target.is_traced_by(attempt)),
            "pidfd_getfd" => attempt.holds(target, "fd/0"),
            "proc-environ" | "proc-maps" | "proc-auxv" | "proc-stack" => {
                let beginning = target.beginning(done.trim_start_matches("proc-"))?;
                self.expected.insert(way.to_owned(), beginning);
                Ok(false)
            }
            _ => match done.strip_prefix("proc-") {
                Some(entry @ ("root" | "cwd" | "exe" | "fd/0" | "fd/1" | "fd/2" | "ns/user")) => {
                    attempt.holds(target, entry)
                }
                _ => Ok(false),
            },
        }
    }

    /// Whether the victim noted one thing more than before.
    fn victim_noted(&mut self) -> io::Result<bool> {
        let notes = self.scene.notes()?;
        let is_more = notes == self.noted + 1;
        if is_more {
            self.noted = notes;
        }
        Ok(is_more)
    }

    /// Where the program's word and what was seen differ, a line each.
    pub(super) fn contradictions(&self, attempted: &Attempted) -> Result<Vec<String>, ProbeError> {
        let through: Vec<&Way> = attempted.with(Verdict::Through).collect();
        let said: BTreeSet<&str> = through.iter().map(|way| way.name.as_str()).collect();
        let mut faults = Vec::new();
        if self.scene.canary() == Canary::Terminal {
            let pushed = self.scene.take_marks()?;
            if pushed != through.len() {
                faults.push(format!(
                    "{} ways got through, {pushed} marks came",
                    through.len()
                ));
            }
        } else {
            let unproved = through.iter().filter(|way| !self.is_proved(way));
            faults.extend(unproved.map(|way| format!("{} was not seen: {}", way.name, way.text)));
        }
        let notes = self.scene.notes().map_err(canary("reading the record"))?;
        if notes != self.noted {
            faults.push(format!(
                "the victim noted {notes}, of which {} were said",
                self.noted
            ));
        }
        let marks = self.scene.marks().map_err(canary("reading the canary"))?;
        faults.extend(
            marks
                .iter()
                .filter(|mark| !said.contains(mark.as_str()))
                .map(|mark| format!("{mark} wrote, and did not say so")),
        );
        for aim in &self.aims {
            // An init is gone by now; a victim is not.
            let now = aim.process.attributes();
            faults.extend(aim.attributes.iter().filter_map(|(done, before)| {
                let way = format!("{}{done}", aim.prefix);
                let is_changed = now.get(done).is_some_and(|now| now != before);
                let is_said = said.contains(way.as_str());
                (is_changed && !is_said).then(|| format!("{way}: changed, and not said"))
            }));
        }
        Ok(faults)
    }

    fn is_proved(&self, way: &Way) -> bool {
        let is_handed_back = self
            .expected
            .get(&way.name)
            .is_some_and(|bytes| !bytes.is_empty() && way.text.ends_with(bytes));
        self.seen.contains(&way.name)
            || is_handed_back
            || way.text.contains(self.scene.secret())
            || self.is_unseen(&way.name)
    }
}

/// The first bytes of a file of the stage's `/proc`, as an attempt hands them
/// back.
fn beginning(file: &str) -> io::Result<String> {
    let mut bytes = [0; 16];
    let count = fs::File::open(format!("/proc/{file}"))?.read(&mut bytes)?;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.get(..count).unwrap_or_default().concat())
}

/// The ways by which a victim is signalled.
const SIGNALS: [&str; 4] = ["kill", "tgkill", "rt_sigqueueinfo", "pidfd_send_signal"];

/// The namespaces that a way makes, as `/proc` calls them.
fn kinds(way: &str) -> impl Iterator<Item = &'static str> {
    let names = [
        ("user", "user"),
        ("network", "net"),
        ("mount", "mnt"),
        ("pid", "pid"),
        ("time", "time"),
    ];
    let named = move |name: &str| way.split('-').any(|part| part == name);
    let kinds: Vec<_> = names
        .into_iter()
        .filter(|(name, _)| named(name))
        .map(|(_, kind)| kind)
        .collect();
    kinds.into_iter()
}

fn network_shows(way: &str, attempt: Process) -> io::Result<bool> {
    match way {
        "packet-raw" | "packet-datagram" => attempt.holds_socket_of("packet"),
        "raw-icmp" | "raw-ip" => attempt.holds_socket_of("raw"),
        "raw-icmp6" => attempt.holds_socket_of("raw6"),
        "xdp" => attempt.holds_one_of("socket:["),
        "link-flags-by-ioctl" => {
            // The broadcast route of lo is there while lo is up.
            Ok(!attempt.text("net/fib_trie")?.contains("127.255.255.255"))
        }
        _ if way.starts_with("link-") => Ok(attempt.text("net/dev")?.contains("cloison0:")),
        _ => Ok(false),
    }
}

/// Whether a mask of processors names one.
fn is_one(mask: &str) -> bool {
    let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
    digits.map(u32::count_ones).sum::<u32>() == 1
}

/// The lines of a file that may not be there.
pub(super) fn lines(path: &std::path::Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
