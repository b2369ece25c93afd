//! The runner's own sight of an attempt, way by way: its word alone proves
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::error::{ProbeError, canary};
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
    /// The process that it is tried on, if it is one.
    target: Option<Process>,
    attributes: BTreeMap<&'static str, String>,
    /// The ways that were seen to get through.
    seen: BTreeSet<String>,
    /// What a way must hand back: what was read here while it held still.
    expected: BTreeMap<String, String>,
    /// How often the victim was seen to note something.
    noted: usize,
}

impl<'a> Watch<'a> {
    /// Before the command of `sandbox` runs.
    pub(super) fn begin(scene: &'a Scene, sandbox: Pid) -> Self {
        let target = match scene.canary() {
            Canary::Process => scene.victim_pid().map(Process),
            Canary::Init | Canary::Program => Some(Process(sandbox.as_raw())),
            _ => None,
        };
        Self {
            scene,
            sandbox,
            target,
            attributes: target.map(Process::attributes).unwrap_or_default(),
            seen: BTreeSet::new(),
            expected: BTreeMap::new(),
            noted: 0,
        }
    }

    /// Looks at the way that the process `inner` of the sandbox holds still in.
    pub(super) fn look(&mut self, way: &str, inner: i32) -> Result<(), ProbeError> {
        let found = Process::inside(self.sandbox, inner).map_err(canary("finding the attempt"))?;
        let Some(attempt) = found else { return Ok(()) };
        let end = Instant::now() + SHOWS_WITHIN;
        loop {
            // What cannot be read is not seen.
            if self.shows(way, attempt).unwrap_or(false) {
                self.seen.insert(way.to_owned());
                return Ok(());
            }
            if Instant::now() > end || !self.is_noted(way) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether a victim notes it, in its own time.
    fn is_noted(&self, way: &str) -> bool {
        match self.scene.canary() {
            Canary::Neighbour => true,
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
            Canary::Process | Canary::Init => self.target_shows(way, attempt),
            Canary::Program => match self.target {
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
            Canary::Neighbour => self.victim_noted(),
            Canary::Traces(_, traces) => self.left_trace(traces, way, attempt),
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
        let Some(target) = self.target else {
            return Ok(false);
        };
        if SIGNALS.contains(&way) {
            return self.victim_noted();
        }
        if let Some(before) = self.attributes.get(way) {
            let now = target.attributes().remove(way);
            // Where there is nothing to change, what is set is what was.
            let is_at_end = match way {
                "sched_setaffinity" => is_one(before),
                "setpriority" => before == "19",
                _ => false,
            };
            return Ok(now.is_some_and(|now| now != *before) || is_at_end);
        }
        match way {
            "ptrace" => Ok(target.is_traced_by(attempt)),
            "pidfd_getfd" => attempt.holds(target, "fd/0"),
            "proc-environ" | "proc-maps" | "proc-auxv" | "proc-stack" => {
                let entry = way.trim_start_matches("proc-");
                self.expected
                    .insert(way.to_owned(), target.beginning(entry)?);
                Ok(false)
            }
            _ => match way.strip_prefix("proc-") {
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
        // An init is gone by now; a victim is not.
        let now = self.target.map(Process::attributes).unwrap_or_default();
        faults.extend(self.attributes.iter().filter_map(|(way, before)| {
            let is_changed = now.get(way).is_some_and(|now| now != before);
            (is_changed && !said.contains(way)).then(|| format!("{way}: changed, and not said"))
        }));
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
