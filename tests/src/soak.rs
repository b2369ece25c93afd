//! The soak: a week of mishaps in one minute.
//!
//! Threads launch sandboxes and let each of them meet something: it ends, it
//! is killed, frozen, dropped at every stage, abandoned, stopped, started again;
//! its spawner dies; the launch itself must fail; a task that launches is
//! aborted. At the end all is compared with the beginning: descriptors, mounts,
//! cgroups, namespaces, processes, memory.
//!
//! What is done is drawn from a seed. When it happens the scheduler decides: a
//! seed is a start for a search, not a replay.

mod measure;
mod mishap;
mod scene;

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

pub use measure::{Measure, Measures};
pub use mishap::Mishap;

use crate::Snapshot;
use mishap::Tally;
use scene::Scene;

/// How long and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long mishaps begin.
    pub seconds: u64,
    /// What decides which.
    pub seed: u64,
    /// How many threads have them at once.
    pub threads: u32,
}

impl Settings {
    /// A minute of four threads.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self {
            seconds: 60,
            seed,
            threads: 4,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Soaked {
    settings: Settings,
    /// How often each mishap was had.
    pub mishaps: BTreeMap<&'static str, u64>,
    /// How often a spawner died under a launch, which then failed.
    pub lost: u64,
    /// Each thing, before and after.
    pub measures: Vec<Measure>,
    /// What went otherwise than it must.
    pub wrong: Vec<String>,
}

impl Soaked {
    /// Whether everything is as it was.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty() && self.measures.iter().all(Measure::is_back)
    }

    /// How many mishaps there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.mishaps.values().sum()
    }
}

/// Has mishaps on the stage, in this process, which is left as it was.
///
/// # Panics
/// If the stage itself cannot be read.
#[must_use]
pub fn soak(settings: Settings) -> Soaked {
    let stage = Snapshot::of_stage();
    let scene = Scene::new();
    // Each kind once: what stays for good, such as threads' memory, is there.
    let mut tally = Tally::default();
    have(&scene, settings, Duration::ZERO, &mut tally);
    let warmed = std::mem::take(&mut tally.wrong);
    scene.look_at_spawner();
    scene.end_spawner();
    let before = Measures::take();
    let mut tally = Tally::default();
    // What each mishap leaks shows in the second half, when what the allocator
    // keeps of the threads is there.
    let half = Duration::from_secs(settings.seconds) / 2;
    have(&scene, settings, half, &mut tally);
    let at_half_time = Measures::take();
    let first_half: u64 = tally.mishaps.values().sum();
    have(&scene, settings, half, &mut tally);
    let second_half = tally.mishaps.values().sum::<u64>() - first_half;
    let spawners = scene.spawners();
    scene.end_spawner();
    let after = Measures::settled(&before);
    let mut measures = before.beside(&after);
    measures.push(at_half_time.memory_beside(&after, second_half));
    measures.extend(spawners);
    let mut wrong = warmed;
    wrong.append(&mut tally.wrong);
    drop(scene);
    wrong.extend(
        Snapshot::settled(Snapshot::of_stage, &stage)
            .iter()
            .map(|difference| format!("left: {difference}")),
    );
    Soaked {
        settings,
        mishaps: tally.mishaps,
        lost: tally.lost,
        measures,
        wrong,
    }
}

/// Lets each thread have each mishap once, and then any until the time is over.
fn have(scene: &Scene, settings: Settings, time: Duration, tally: &mut Tally) {
    let end = Instant::now() + time;
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let threads: Vec<_> = (0..settings.threads)
            .map(|number| scope.spawn(move || mishap::have_until(scene, settings, number, end)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .map(|tally| tally.unwrap_or_else(|_| Tally::panicked()))
            .collect()
    });
    tallies.into_iter().for_each(|one| tally.add(one));
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            seconds,
            seed,
            threads,
        } = self.settings;
        writeln!(
            f,
            "{} mishaps in {seconds} s of {threads} threads, seed {seed}; {} launches lost with \
             their spawner",
            self.count(),
            self.lost
        )?;
        for (mishap, count) in &self.mishaps {
            writeln!(f, "  {count:6}  {mishap}")?;
        }
        writeln!(
            f,
            "  {:28} {:>10} {:>10}  may grow by",
            "", "before", "after"
        )?;
        for measure in &self.measures {
            writeln!(f, "  {measure}")?;
        }
        for wrong in &self.wrong {
            writeln!(f, "  wrong: {wrong}")?;
        }
        write!(
            f,
            "{}",
            if self.is_clean() {
                "all is as it was"
            } else {
                "NOT as it was"
            }
        )
    }
}
