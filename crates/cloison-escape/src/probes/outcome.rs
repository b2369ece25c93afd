//! How a probe went, and all of them together.

use std::fmt;

use cloison_sandbox::Layer;

use super::{Attempted, Machines, Probe, Verdict, Way};

/// Whether the control shows that the attack is real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It got through in these ways.
    Alive(Vec<Way>),
    /// It got through in none: the probe proves nothing.
    Silent,
}

/// How far it got in a sandbox that should stop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every way was refused.
    Stopped,
    /// These ways got through.
    Through(Vec<Way>),
}

/// How one probe went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The probe.
    pub probe: &'static Probe,
    /// What the control said.
    pub control: Liveness,
    /// How far it got in the whole sandbox.
    pub whole: Reach,
    /// How far it got in one that has all layers, a covered proc and a sysfs.
    pub open: Reach,
    /// How many ways there were.
    pub ways: usize,
    /// The ways that not even the control finds open, with what stops them
    /// there: of them nothing is proved.
    pub silent: Vec<Way>,
    /// For each layer of the probe: how far it got where that one is missing,
    /// without the ways that are excepted in [`Probe::only`]. Empty in a sweep
    /// without knock-outs.
    pub left_out: Vec<(Layer, Reach)>,
    /// For each layer of the probe: how many of the ways that the control
    /// found open it stops when it is the only one left of the control's. Empty
    /// in a sweep without knock-outs.
    pub left_alone: Vec<(Layer, usize)>,
    /// The layers of the probe that this host goes without: of them nothing is
    /// proved here.
    pub lacking: Vec<Layer>,
}

impl Liveness {
    pub(super) fn of(attempted: &Attempted) -> Self {
        let through: Vec<Way> = attempted.with(Verdict::Through).cloned().collect();
        if through.is_empty() {
            Self::Silent
        } else {
            Self::Alive(through)
        }
    }

    /// Whether it is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Alive(_))
    }
}

impl Reach {
    pub(super) fn of<'a>(through: impl Iterator<Item = &'a Way>) -> Self {
        let through: Vec<Way> = through.cloned().collect();
        if through.is_empty() {
            Self::Stopped
        } else {
            Self::Through(through)
        }
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl Outcome {
    /// Whether the control is alive, the whole sandbox holds, it also holds
    /// with any one layer missing, and each layer stops something.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.faults().is_empty()
    }

    /// What is wrong, a line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let kernel = running();
        if !self.control.is_alive() && !self.is_absent(kernel) {
            faults.push("the control is silent".to_owned());
        }
        faults.extend(self.undeclared(kernel));
        if let Reach::Through(ways) = &self.whole {
            faults.push(format!("through the whole sandbox: {}", listed(ways)));
        }
        if let Reach::Through(ways) = &self.open {
            let ways = listed(ways);
            faults.push(format!(
                "through one with a covered proc and a sysfs: {ways}"
            ));
        }
        for (layer, reach) in &self.left_out {
            if let Reach::Through(ways) = reach {
                faults.push(format!("{layer} alone stops it: {}", listed(ways)));
            }
        }
        for (layer, stopped) in &self.left_alone {
            if *stopped == 0 {
                faults.push(format!("{layer} stops nothing of it: unproved"));
            }
        }
        faults
    }
}

/// The version of this machine's kernel, major and minor.
fn running() -> (u32, u32) {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    version(&release)
}

/// The numbers that a release begins with. What cannot be read is the newest:
/// nothing is excused by it.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    number().zip(number()).unwrap_or((u32::MAX, u32::MAX))
}

impl Outcome {
    /// Whether `kernel` is too old for any of its ways: there is nothing to try.
    fn is_absent(&self, kernel: (u32, u32)) -> bool {
        let is_too_new = |way: &Way| {
            let on = self.probe.silent_on(&way.name);
            on.is_some_and(|on| on.is_too_old(kernel))
        };
        !self.control.is_alive() && !self.silent.is_empty() && self.silent.iter().all(is_too_new)
    }

    /// Where the silent ways are not those that the probe declares.
    fn undeclared(&self, kernel: (u32, u32)) -> Vec<String> {
        let alive: &[Way] = match &self.control {
            Liveness::Alive(ways) => ways,
            Liveness::Silent => &[],
        };
        let mut faults = Vec::new();
        let is_undeclared = |way: &&Way| {
            let on = self.probe.silent_on(&way.name);
            !on.is_some_and(|on| on.may_be(kernel))
        };
        for way in self.silent.iter().filter(is_undeclared) {
            faults.push(format!(
                "{} is silent, which nobody declared: {}",
                way.name, way.text
            ));
        }
        for way in alive {
            if self.probe.silent_on(&way.name) == Some(Machines::All) {
                faults.push(format!(
                    "{} speaks, and is declared silent: {}",
                    way.name, way.text
                ));
            }
        }
        let is_tried = |name: &str| alive.iter().chain(&self.silent).any(|way| way.name == name);
        let declared = self
            .probe
            .silent
            .iter()
            .flat_map(|silent| silent.ways.names);
        let untried = declared.copied().filter(|name| !is_tried(name));
        faults.extend(untried.map(|name| format!("{name} is declared silent and was not tried")));
        faults
    }

    /// The silent ways by why they are so.
    fn silences(&self) -> impl Iterator<Item = String> {
        self.probe.silent.iter().filter_map(|silent| {
            let is_its = |way: &&Way| silent.ways.names.contains(&way.name.as_str());
            let ways: Vec<Way> = self.silent.iter().filter(is_its).cloned().collect();
            let on = match silent.on {
                Machines::All => String::new(),
                Machines::Some => " on this machine".to_owned(),
                Machines::Before(major, minor) => format!(" before Linux {major}.{minor}"),
                Machines::BeforeAndSome(major, minor) => {
                    format!(" before Linux {major}.{minor} and on some others")
                }
            };
            let reason = silent.ways.reason;
            (!ways.is_empty()).then(|| format!("silent{on}: {}: {reason}", listed(&ways)))
        })
    }
}

fn listed(ways: &[Way]) -> String {
    let ways: Vec<_> = ways
        .iter()
        .map(|way| format!("{} ({})", way.name, way.text))
        .collect();
    ways.join(", ")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alive = match &self.control {
            Liveness::Alive(ways) => ways.len(),
            Liveness::Silent => 0,
        };
        let whole = if self.whole.is_stopped() && self.open.is_stopped() {
            "stopped"
        } else {
            "THROUGH"
        };
        write!(
            f,
            "{} {whole}, control {alive} of {} ways: {}",
            self.probe.id, self.ways, self.probe.title
        )?;
        let stops: Vec<String> = self
            .left_alone
            .iter()
            .map(|(layer, stopped)| format!("{layer} {stopped}"))
            .collect();
        if !stops.is_empty() {
            write!(f, "; alone each stops: {}", stops.join(", "))?;
        }
        for silence in self.silences() {
            write!(f, "\n     {silence}")?;
        }
        for layer in &self.lacking {
            write!(
                f,
                "\n     {layer} cannot be had on this host: nothing of it is proved here"
            )?;
        }
        for only in self.probe.only {
            let ways = only.ways.join(", ");
            write!(
                f,
                "\n     only {} stops {ways}: {}",
                only.layer, only.reason
            )?;
        }
        for fault in self.faults() {
            write!(f, "\n     {fault}")?;
        }
        Ok(())
    }
}

/// All probes together: the closing line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many probes were meant to be run.
    pub probes: usize,
    /// How many controls were alive.
    pub controls_alive: usize,
    /// How many probes got through a whole sandbox.
    pub through: usize,
    /// How many have another fault.
    pub faulty: usize,
    /// How many this kernel is too old for: none of their ways is there.
    pub absent: usize,
}

impl Summary {
    /// Counts `outcomes` of `probes` probes: one without an outcome counts as
    /// silent.
    pub fn of<'a>(probes: usize, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut summary = Self {
            probes,
            ..Self::default()
        };
        let kernel = running();
        for outcome in outcomes {
            summary.absent += usize::from(outcome.is_absent(kernel));
            summary.controls_alive += usize::from(outcome.control.is_alive());
            let stopped = outcome.whole.is_stopped() && outcome.open.is_stopped();
            summary.through += usize::from(!stopped);
            summary.faulty += usize::from(!outcome.passes());
        }
        summary
    }

    /// Whether every control is alive that this kernel has a way of, nothing
    /// got through, and no layer is a fault.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.probes > 0
            && self.controls_alive > 0
            && self.controls_alive + self.absent == self.probes
            && self.through == 0
            && self.faulty == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "controls alive / probes: {} / {}, through: {}, faulty: {}",
            self.controls_alive, self.probes, self.through, self.faulty
        )?;
        if self.absent > 0 {
            let absent = self.absent;
            write!(f, ", of which this kernel has no way: {absent}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::b_namespaces::B20;
    use super::super::{Machines, PROBES, Verdict, Way};
    use super::{Liveness, Outcome, Reach, Summary, version};

    fn way() -> Way {
        named("remount-bind")
    }

    fn named(name: &str) -> Way {
        Way {
            name: name.to_owned(),
            verdict: Verdict::Through,
            text: "evidence".to_owned(),
        }
    }

    fn declared() -> Vec<Way> {
        let declared = PROBES[0].silent.iter();
        let names = declared.flat_map(|silent| silent.ways.names);
        names.map(|name| named(name)).collect()
    }

    fn good() -> Outcome {
        Outcome {
            probe: PROBES[0],
            control: Liveness::Alive(vec![way()]),
            whole: Reach::Stopped,
            open: Reach::Stopped,
            ways: 1,
            silent: declared(),
            left_out: vec![(PROBES[0].layers[0], Reach::Stopped)],
            left_alone: vec![(PROBES[0].layers[0], 1)],
            lacking: Vec::new(),
        }
    }

    #[test]
    fn a_silent_control_fails_the_closing_line() {
        let silent = Outcome {
            control: Liveness::Silent,
            ..good()
        };
        assert!(Summary::of(1, &[good()]).is_good());
        assert!(!Summary::of(1, &[silent]).is_good());
    }

    #[test]
    fn a_probe_without_an_outcome_fails_the_closing_line() {
        assert!(!Summary::of(2, &[good()]).is_good());
        assert!(!Summary::of(0, &[]).is_good());
    }

    #[test]
    fn one_way_through_fails_the_closing_line() {
        let through = Outcome {
            whole: Reach::Through(vec![way()]),
            ..good()
        };
        assert!(!Summary::of(1, &[through]).is_good());
    }

    #[test]
    fn one_way_through_what_shows_more_fails_the_closing_line() {
        let through = Outcome {
            open: Reach::Through(vec![way()]),
            ..good()
        };
        let summary = Summary::of(1, &[through]);
        assert_eq!(summary.through, 1);
        assert!(!summary.is_good());
    }

    #[test]
    fn a_probe_is_absent_only_before_its_kernel_and_only_whole() {
        let b20 = &B20;
        let names = b20.silent.iter().flat_map(|silent| silent.ways.names);
        let silent: Vec<Way> = names.map(|name| named(name)).collect();
        let absent = Outcome {
            probe: b20,
            control: Liveness::Silent,
            silent,
            ..good()
        };
        assert!(absent.is_absent((6, 1)));
        assert!(!absent.is_absent((6, 12)));
        assert!(absent.undeclared((6, 1)).is_empty());
        // The handles of namespaces may be silent on newer ones too.
        assert_eq!(absent.undeclared((6, 18)).len(), absent.silent.len() - 5);
        let a_way_more = Outcome {
            silent: [absent.silent.clone(), vec![named("another")]].concat(),
            ..absent
        };
        assert!(!a_way_more.is_absent((6, 1)));
    }

    #[test]
    fn a_version_is_read_and_what_is_none_is_new() {
        assert_eq!(version("6.1.0-50-cloud-amd64"), (6, 1));
        assert_eq!(version("6.12.117+deb13"), (6, 12));
        assert_eq!(version("unknown"), (u32::MAX, u32::MAX));
    }

    #[test]
    fn a_silent_way_that_is_not_declared_is_a_fault() {
        let mut silent = declared();
        silent.push(named("another"));
        assert!(!Outcome { silent, ..good() }.passes());
    }

    #[test]
    fn a_declared_way_that_speaks_or_is_not_tried_is_a_fault() {
        assert_eq!(PROBES[0].silent_on("open"), Some(Machines::All));
        let silent: Vec<Way> = declared()
            .into_iter()
            .filter(|way| way.name != "open")
            .collect();
        let untried = Outcome {
            silent: silent.clone(),
            ..good()
        };
        let speaks = Outcome {
            control: Liveness::Alive(vec![way(), named("open")]),
            silent,
            ..good()
        };
        assert_eq!(untried.faults().len(), 1);
        assert_eq!(speaks.faults().len(), 1);
        assert!(good().passes());
    }

    #[test]
    fn a_layer_that_stands_alone_or_for_nothing_is_a_fault() {
        let layer = PROBES[0].layers[0];
        let alone = Outcome {
            left_out: vec![(layer, Reach::Through(vec![way()]))],
            ..good()
        };
        let nothing = Outcome {
            left_alone: vec![(layer, 0)],
            lacking: Vec::new(),
            ..good()
        };
        for outcome in [alone, nothing] {
            assert!(!outcome.passes());
            assert!(!Summary::of(1, &[outcome]).is_good());
        }
    }
}
