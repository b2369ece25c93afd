//! Launches in turn, medians, ratios.

use std::error::Error;
use std::thread;
use std::time::Duration;

pub(crate) type Timed = Result<Duration, Box<dyn Error>>;

/// How a series is run.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// One launch right after the other.
    Loop,
    /// With 0.2 s of rest before each.
    Rested,
}

impl Pace {
    pub(crate) const BOTH: [Self; 2] = [Self::Loop, Self::Rested];
    const REST: Duration = Duration::from_millis(200);

    /// Waits, if it is a pace with rest.
    pub(crate) fn rest(self) {
        if matches!(self, Self::Rested) {
            thread::sleep(Self::REST);
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Rested => "rest",
        }
    }
}

/// How often each thing is launched.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) looped: usize,
    pub(crate) rested: usize,
}

impl Counts {
    /// A third as often.
    pub(crate) fn third(self) -> Self {
        Self {
            looped: self.looped.div_ceil(3),
            rested: self.rested.div_ceil(3),
        }
    }

    pub(crate) fn of(self, pace: Pace) -> usize {
        match pace {
            Pace::Loop => self.looped,
            Pace::Rested => self.rested,
        }
    }
}

/// One thing that is launched again and again.
pub(crate) struct Runner<'a> {
    pub(crate) name: &'static str,
    pub(crate) launch: Box<dyn FnMut() -> Timed + 'a>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(name: &'static str, launch: impl FnMut() -> Timed + 'a) -> Self {
        Self {
            name,
            launch: Box::new(launch),
        }
    }
}

/// What was measured of one runner.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) median: Duration,
}

/// Launches all in turn, each round in another order, so that neither drift
/// nor what one leaves to the kernel falls on the same neighbour.
pub(crate) fn in_turn(
    runners: &mut [Runner<'_>],
    pace: Pace,
    counts: Counts,
) -> Result<Vec<Series>, Box<dyn Error>> {
    let mut times: Vec<Vec<Duration>> = runners.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..runners.len()).collect();
    let warm_up = 3;
    for round in 0..counts.of(pace) + warm_up {
        match round % 4 {
            0 | 2 => order.reverse(),
            _ => order.rotate_left(1),
        }
        for &at in &order {
            pace.rest();
            let (Some(runner), Some(times)) = (runners.get_mut(at), times.get_mut(at)) else {
                continue;
            };
            let time = (runner.launch)().map_err(|error| format!("{}: {error}", runner.name))?;
            if round >= warm_up {
                times.push(time);
            }
        }
    }
    Ok(runners
        .iter()
        .zip(times)
        .map(|(runner, mut times)| {
            times.sort_unstable();
            Series {
                name: runner.name,
                count: times.len(),
                median: times.get(times.len() / 2).copied().unwrap_or_default(),
            }
        })
        .collect())
}

pub(crate) fn print_head() {
    println!(
        "{:<58} {:>4} {:>9} {:>9} {:>6} {:>7}         {:>5}",
        "ratio", "pace", "ours ms", "peer ms", "ratio", "target", "n"
    );
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints `ours` against `peer`, by their places in `series`.
pub(crate) fn print(series: &[Series], pace: Pace, ours: usize, peer: usize, target: Option<f64>) {
    let (Some(ours), Some(peer)) = (series.get(ours), series.get(peer)) else {
        return;
    };
    let ratio = ours.median.as_secs_f64() / peer.median.as_secs_f64();
    let (target, verdict) = match target {
        None => ("-".to_owned(), ""),
        Some(target) if ratio <= target => (format!("{target:.2}"), "met"),
        Some(target) => (format!("{target:.2}"), "MISSED"),
    };
    println!(
        "{:<58} {:>4} {:>9.3} {:>9.3} {:>6.2} {:>7} {:<7} {:>5}",
        format!("{} / {}", ours.name, peer.name),
        pace.name(),
        milliseconds(ours.median),
        milliseconds(peer.median),
        ratio,
        target,
        verdict,
        ours.count.min(peer.count),
    );
}
