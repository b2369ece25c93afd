//! The mishaps themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Cgroup, CgroupError, Error, Exec, ExitStatus, Held, Hierarchies, Io, NetworkNamespace, Plan,
    Prepared, Sandbox, Spec, Weakening,
};
use nix::sys::signal::Signal;
use tokio::task::LocalSet;

use super::Settings;
use super::scene::Scene;
use crate::chance::Chance;

/// A command that lasts, with a child of its own.
const LASTING: &str = "sleep 600 & wait";
/// The error of a launch whose spawner died under it.
const LOST: &str = "Spawn(Gone)";
/// The most of what went wrong that is kept.
const WRONG_MAX: usize = 20;

/// Something that happens to a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// None: it runs and ends.
    Runs,
    /// It is run again in what was prepared.
    RunsAgain,
    /// Its plan is dropped.
    DroppedPlan,
    /// It is dropped while it is held.
    DroppedHeld,
    /// It is killed while it runs.
    Killed,
    /// Its process 1 is killed by a signal, and the rest goes with it.
    FirstKilled,
    /// It is stopped, with a deadline that it keeps or does not.
    Stopped,
    /// It is frozen, looked at, thawed.
    FrozenAndThawed,
    /// It is removed while it is frozen.
    RemovedFrozen,
    /// A second command runs in it, and is still there when it is removed.
    Executed,
    /// Its handle is dropped, and somebody else removes it.
    Abandoned,
    /// Its root has a mount point that is none.
    HostileRoot,
    /// It has no such command.
    NoCommand,
    /// Two of its steps are swapped.
    BadStep,
    /// The spawner is killed just before, or just after.
    SpawnerKilled,
    /// The task that launches and waits is aborted.
    Aborted,
}

impl Mishap {
    /// Each of them.
    pub const ALL: [Self; 16] = [
        Self::Runs,
        Self::RunsAgain,
        Self::DroppedPlan,
        Self::DroppedHeld,
        Self::Killed,
        Self::FirstKilled,
        Self::Stopped,
        Self::FrozenAndThawed,
        Self::RemovedFrozen,
        Self::Executed,
        Self::Abandoned,
        Self::HostileRoot,
        Self::NoCommand,
        Self::BadStep,
        Self::SpawnerKilled,
        Self::Aborted,
    ];

    /// What reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs and ends",
            Self::RunsAgain => "runs twice in what was prepared",
            Self::DroppedPlan => "plan dropped",
            Self::DroppedHeld => "dropped while held",
            Self::Killed => "killed",
            Self::FirstKilled => "process 1 killed",
            Self::Stopped => "stopped",
            Self::FrozenAndThawed => "frozen and thawed",
            Self::RemovedFrozen => "removed while frozen",
            Self::Executed => "removed under a second command",
            Self::Abandoned => "handle dropped, then taken over",
            Self::HostileRoot => "hostile root",
            Self::NoCommand => "no such command",
            Self::BadStep => "two steps swapped",
            Self::SpawnerKilled => "spawner killed",
            Self::Aborted => "task aborted",
        }
    }

    /// Whether the sandbox may be there when it is over.
    fn leaves(self) -> bool {
        matches!(self, Self::Abandoned | Self::Aborted)
    }
}

/// What one thread, or all, had.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) mishaps: BTreeMap<&'static str, u64>,
    pub(super) lost: u64,
    pub(super) wrong: Vec<String>,
}

impl Tally {
    pub(super) fn panicked() -> Self {
        Self {
            wrong: vec!["a thread panicked".to_owned()],
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (mishap, count) in other.mishaps {
            *self.mishaps.entry(mishap).or_default() += count;
        }
        self.lost += other.lost;
        self.wrong.extend(other.wrong);
        self.wrong.truncate(WRONG_MAX);
    }
}

/// Each mishap once, and then any until `end`.
pub(super) fn have_until(scene: &Scene, settings: Settings, number: u32, end: Instant) -> Tally {
    let mut chance = Chance::new(settings.seed ^ u64::from(number) << 32);
    let mut tally = Tally::default();
    let mut first = Mishap::ALL.into_iter();
    loop {
        let mishap = match first.next() {
            Some(mishap) => mishap,
            None if Instant::now() >= end || tally.wrong.len() >= WRONG_MAX => return tally,
            None => {
                let at = chance.below(Mishap::ALL.len() as u64);
                let at = usize::try_from(at).unwrap_or(0);
                Mishap::ALL.get(at).copied().unwrap_or(Mishap::Runs)
            }
        };
        let mut thread = Thread {
            scene,
            number,
            chance: &mut chance,
        };
        let before = scene.killings();
        let has_just_killed = scene.has_just_killed();
        let had = thread.have(mishap);
        let swept = thread.sweep();
        *tally.mishaps.entry(mishap.name()).or_default() += 1;
        let is_excused = before % 2 == 1 || scene.killings() != before;
        match (had, swept) {
            (Ok(()), Ok(was_there)) if !was_there || mishap.leaves() => {}
            (Ok(()), Ok(_)) => tally.wrong.push(format!("{}: it was left", mishap.name())),
            (Err(why), Ok(_)) if is_excused && is_of_a_lost_spawner(&why) => tally.lost += 1,
            (Err(why), Ok(false)) if has_just_killed && why.contains(LOST) => tally.lost += 1,
            (Err(why), _) | (_, Err(why)) => {
                tally.wrong.push(format!("{}: {why}", mishap.name()));
            }
        }
    }
}

/// Whether that is how a launch, or what comes after it, fails when the spawner
/// dies meanwhile.
fn is_of_a_lost_spawner(why: &str) -> bool {
    ["Spawn(", "no spawner", "Unknown"]
        .iter()
        .any(|part| why.contains(part))
}

/// One thread and its chance.
struct Thread<'a> {
    scene: &'a Scene,
    number: u32,
    chance: &'a mut Chance,
}

/// Why it went otherwise than it must.
type Had = Result<(), String>;

fn told(error: Error) -> String {
    format!("{error:?}")
}

impl Thread<'_> {
    fn have(&mut self, mishap: Mishap) -> Had {
        match mishap {
            Mishap::Runs => self.runs(),
            Mishap::RunsAgain => self.runs_again(),
            Mishap::DroppedPlan => self.plan("true").map(drop).map_err(told),
            Mishap::DroppedHeld => self.hold("true").map(drop).map_err(told),
            Mishap::Killed => {
                let sandbox = self.start(LASTING)?;
                sandbox
                    .kill()
                    .and_then(|()| sandbox.remove())
                    .map_err(told)?;
                Ok(())
            }
            Mishap::FirstKilled => {
                let mut sandbox = self.start(LASTING)?;
                sandbox.signal(Signal::SIGKILL).map_err(told)?;
                wants(&sandbox.wait().map_err(told)?, |status| {
                    *status != ExitStatus::Exited(0)
                })?;
                sandbox.remove().map(drop).map_err(told)
            }
            Mishap::Stopped => self.stopped(),
            Mishap::FrozenAndThawed => self.frozen(true),
            Mishap::RemovedFrozen => self.frozen(false),
            Mishap::Executed => self.executed(),
            Mishap::Abandoned => {
                drop(self.start(LASTING)?);
                Ok(())
            }
            Mishap::HostileRoot => {
                let spec = self.scene.hostile_spec(self.number, self.chance.number());
                self.fails(&spec, Vec::new())
            }
            Mishap::NoCommand => {
                let mut spec = self.scene.spec(self.number, "true");
                spec.command = vec!["/no/such/command".to_owned()];
                spec.init = cloison_sandbox::Init::Off;
                self.fails(&spec, Vec::new())
            }
            Mishap::BadStep => self.bad_step(),
            Mishap::SpawnerKilled => self.spawner_killed(),
            Mishap::Aborted => self.aborted(),
        }
    }

    /// Takes over and removes what is there; whether it was.
    fn sweep(&self) -> Result<bool, String> {
        let hierarchies = Hierarchies::find().map_err(|error| format!("{error:?}"))?;
        let name = self.scene.spec(self.number, "").name;
        match Cgroup::take_over(&hierarchies, &name) {
            Err(CgroupError::Absent { .. }) => Ok(false),
            Err(error) => Err(format!("{error:?}")),
            Ok(mut left) => left
                .kill()
                .and_then(|()| left.remove())
                .map(|()| true)
                .map_err(|error| format!("what was left stays: {error:?}")),
        }
    }

    fn plan_of(&mut self, spec: &Spec, weakenings: Vec<Weakening>) -> Result<Plan, Error> {
        let prepared = if self.chance.below(2) == 0 {
            Prepared::new(spec)?
        } else {
            Prepared::with_network(spec, NetworkNamespace::create()?)?
        };
        let Scene {
            kernel, waivers, ..
        } = self.scene;
        Plan::weakened(spec, kernel, waivers, prepared, Io::null()?, weakenings)
    }

    fn plan(&mut self, command: &str) -> Result<Plan, Error> {
        let spec = self.scene.spec(self.number, command);
        self.plan_of(&spec, Vec::new())
    }

    fn hold(&mut self, command: &str) -> Result<Held, Error> {
        self.plan(command)?.hold()
    }

    fn start(&mut self, command: &str) -> Result<Sandbox, String> {
        self.hold(command).and_then(Held::start).map_err(told)
    }

    fn runs(&mut self) -> Had {
        let code = i32::try_from(self.chance.below(120)).unwrap_or(0);
        let mut sandbox = self.start(&format!("exit {code}"))?;
        let status = sandbox.wait().map_err(told)?;
        wants(&status, |status| *status == ExitStatus::Exited(code))?;
        sandbox.remove().map(drop).map_err(told)
    }

    fn runs_again(&mut self) -> Had {
        let spec = self.scene.spec(self.number, "exit 3");
        let mut sandbox = self.start("exit 3")?;
        sandbox.wait().map_err(told)?;
        let prepared = sandbox.into_prepared().map_err(told)?;
        let Scene {
            kernel, waivers, ..
        } = self.scene;
        let io = Io::null().map_err(told)?;
        let again = Plan::new(&spec, kernel, waivers, prepared, io);
        let again = again.and_then(Plan::hold).and_then(Held::start);
        let mut again = again.map_err(told)?;
        wants(&again.wait().map_err(told)?, |status| {
            *status == ExitStatus::Exited(3)
        })?;
        again.remove().map(drop).map_err(told)
    }

    fn stopped(&mut self) -> Had {
        let command = if self.chance.below(2) == 0 {
            "trap '' TERM; sleep 600 & wait; wait"
        } else {
            LASTING
        };
        let mut sandbox = self.start(command)?;
        let limit = Duration::from_millis(self.chance.below(20));
        sandbox.stop(Signal::SIGTERM, limit).map_err(told)?;
        sandbox.remove().map(drop).map_err(told)
    }

    fn frozen(&mut self, thaws: bool) -> Had {
        let sandbox = self.start(LASTING)?;
        let cgroup = &sandbox.prepared().cgroup;
        let told_of = |error: CgroupError| format!("{error:?}");
        cgroup.freeze().map_err(told_of)?;
        wants(&cgroup.is_frozen().map_err(told_of)?, |is_frozen| {
            *is_frozen
        })?;
        sandbox.inspect().map_err(told)?;
        if thaws {
            cgroup.thaw().map_err(told_of)?;
        }
        sandbox.remove().map(drop).map_err(told)
    }

    fn executed(&mut self) -> Had {
        let spec = self.scene.spec(self.number, LASTING);
        let listener = self.scene.listener(self.number)?;
        let Scene {
            kernel, waivers, ..
        } = self.scene;
        let prepared = Prepared::new(&spec).map(|mut prepared| {
            prepared.exec = Some(listener);
            prepared
        });
        let plan = prepared.and_then(|made| Plan::new(&spec, kernel, waivers, made, Io::null()?));
        let sandbox = plan.and_then(Plan::hold).and_then(Held::start);
        let sandbox = sandbox.map_err(told)?;
        let streams = Io::null().map_err(told)?.streams;
        let command = ["/usr/bin/sleep", "600"].map(str::to_owned);
        let executed = sandbox.exec(&Exec::new(command.to_vec()), streams);
        sandbox.remove().map_err(told)?;
        executed.map(drop).map_err(|error| format!("{error:?}"))
    }

    fn fails(&mut self, spec: &Spec, weakenings: Vec<Weakening>) -> Had {
        let launched = self.plan_of(spec, weakenings);
        match launched.and_then(Plan::hold).and_then(Held::start) {
            Err(_) => Ok(()),
            Ok(sandbox) => {
                sandbox.remove().map_err(told)?;
                Err("it was launched".to_owned())
            }
        }
    }

    /// Not every pair matters: it is launched or not, and taken away.
    fn bad_step(&mut self) -> Had {
        let spec = self.scene.spec(self.number, "true");
        let at = usize::try_from(self.chance.below(80)).unwrap_or(0);
        let plan = self.plan_of(&spec, vec![Weakening::Swapped(at)]);
        match plan.map_err(told)?.hold().and_then(Held::start) {
            Err(Error::Spawn(_) | Error::Namespace(_)) => Err("no spawner".to_owned()),
            Err(_) => Ok(()),
            Ok(sandbox) => sandbox.remove().map(drop).map_err(told),
        }
    }

    fn spawner_killed(&mut self) -> Had {
        let plan = self.plan(LASTING).map_err(told)?;
        if self.chance.below(2) == 0 {
            self.scene.kill_spawner();
        }
        let held = plan.hold().map_err(told)?;
        if self.chance.below(2) == 0 {
            self.scene.kill_spawner();
        }
        let sandbox = held.start().map_err(told)?;
        self.scene.kill_spawner();
        sandbox.remove().map(drop).map_err(told)
    }

    /// A task launches and waits, one await after the other, and is aborted at
    /// any of them.
    fn aborted(&mut self) -> Had {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let limit = Duration::from_micros(self.chance.below(20_000));
        let turns = self.chance.below(4);
        let plan = self.plan("sleep 0.01").map_err(told)?;
        LocalSet::new().block_on(&runtime, async {
            let task = tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                let held = plan.hold()?;
                tokio::task::yield_now().await;
                let mut sandbox = held.start()?;
                sandbox.wait_async().await?;
                sandbox.remove()
            });
            if turns == 3 {
                tokio::time::sleep(limit).await;
            } else {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            task.abort();
            match task.await {
                Ok(ended) => ended.map(drop).map_err(told),
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

fn wants<T: std::fmt::Debug>(found: &T, is_right: impl FnOnce(&T) -> bool) -> Had {
    if is_right(found) {
        Ok(())
    } else {
        Err(format!("{found:?}"))
    }
}
