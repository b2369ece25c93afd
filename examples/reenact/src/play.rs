//! The incident from its beginning to the last measurement.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::account::{self, Account};
use crate::client;
use crate::error::ReenactError;
use crate::ground;
use crate::measure::{self, Found};
use crate::outcome::{Notice, Outcome, Row, Waived};
use crate::tenancy::{Condition, Tenancy};
use crate::tenants;
use crate::walls::Walls;

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const NOTICE_TIMEOUT: Duration = Duration::from_secs(8);
const END_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the outside looks at the files.
const WATCH_PERIOD: Duration = Duration::from_millis(5);
/// How long a frozen tenant is given to do what it must not be able to do.
const SETTLE: Duration = Duration::from_millis(200);
/// Where the server of the hostile tenant puts what the attacker says.
const ACCOUNT: &str = "log/cgi";

/// Plays the incident. `program` is both what tenants run and what attacks.
pub(crate) fn play(
    walls: bool,
    hostile: &'static str,
    program: &[u8],
) -> Result<Outcome, ReenactError> {
    let began = Instant::now();
    ground::make(walls)?;
    let left_open = ground::leave_open()?;
    let mut stage = if walls {
        Stage::start_enclosed(hostile, program)?
    } else {
        Stage::start_ordinary(hostile, program)?
    };
    stage.wait_until_ready()?;
    stage.check_whole()?;
    let attacked = stage.begin_attack()?;
    let notice = stage.watch(attacked, walls)?;
    let account = stage.hear_account(walls);
    let rows = stage.measure_all();
    drop(left_open);
    let waived = stage.waived.clone();
    stage.end()?;
    Ok(Outcome {
        walls,
        attacker_sha256: hex(&measure::hash(program)),
        kernel: kernel(),
        rows,
        waived,
        notice,
        account,
        duration_ms: millis(began.elapsed()),
    })
}

/// All tenants while they run.
struct Stage {
    tenants: Vec<Tenancy>,
    hostile: usize,
    waived: Vec<Waived>,
}

impl Stage {
    fn start_ordinary(hostile: &'static str, program: &[u8]) -> Result<Self, ReenactError> {
        let starter = ground::place_program(program)?;
        let start = |name| Tenancy::start_ordinary(name, program, &starter, name == hostile);
        let tenants: Result<_, _> = tenants::NAMES.into_iter().map(start).collect();
        Self::new(tenants?, hostile, Vec::new())
    }

    fn start_enclosed(hostile: &'static str, program: &[u8]) -> Result<Self, ReenactError> {
        let mut walls = Walls::raise()?;
        let start = |(place, name)| {
            Tenancy::start_enclosed(name, place, program, &mut walls, name == hostile)
        };
        let tenants: Result<_, _> = (0..).zip(tenants::NAMES).map(start).collect();
        Self::new(tenants?, hostile, walls.waived())
    }

    fn new(
        tenants: Vec<Tenancy>,
        hostile: &'static str,
        waived: Vec<Waived>,
    ) -> Result<Self, ReenactError> {
        let position = tenants.iter().position(|tenancy| tenancy.name == hostile);
        Ok(Self {
            hostile: position.ok_or_else(|| ReenactError::NoSuchTenant(hostile.to_owned()))?,
            tenants,
            waived,
        })
    }

    fn end(self) -> Result<(), ReenactError> {
        self.tenants.into_iter().try_for_each(Tenancy::end)
    }

    fn hostile(&self) -> &Tenancy {
        &self.tenants[self.hostile]
    }

    fn wait_until_ready(&self) -> Result<(), ReenactError> {
        let end = Instant::now() + READY_TIMEOUT;
        for tenancy in &self.tenants {
            while client::get(tenancy.address(), "/canaries", ANSWER_TIMEOUT).is_err() {
                if Instant::now() > end {
                    return Err(ReenactError::NotReady {
                        tenant: tenancy.name,
                        wait_s: READY_TIMEOUT.as_secs(),
                    });
                }
                thread::sleep(WATCH_PERIOD);
            }
        }
        Ok(())
    }

    fn found(&self) -> impl Iterator<Item = (&Tenancy, Found)> {
        let tenants = self.tenants.iter();
        tenants.map(|tenancy| (tenancy, measure::measure(&tenancy.subject())))
    }

    /// The measuring must find everybody whole before the attack: else what
    /// it finds afterwards says nothing.
    fn check_whole(&self) -> Result<(), ReenactError> {
        match self.found().find(|(_, found)| !found.is_whole()) {
            None => Ok(()),
            Some((tenancy, found)) => Err(ReenactError::NotWhole {
                tenant: tenancy.name,
                found: format!("{found:?}"),
            }),
        }
    }

    /// Asks the hostile tenant's server for the program that was uploaded.
    fn begin_attack(&self) -> Result<Instant, ReenactError> {
        const ACCEPTED: u16 = 202;
        let began = Instant::now();
        let request = ground::attack_request();
        let answer = client::get(self.hostile().address(), &request, ANSWER_TIMEOUT);
        match answer.map_or(0, |answer| answer.status) {
            ACCEPTED => Ok(began),
            status => Err(ReenactError::NotBegun {
                tenant: self.hostile().name,
                status,
            }),
        }
    }

    /// Looks at every file until one has changed; with walls, that tenant is
    /// frozen then.
    fn watch(&mut self, attacked: Instant, walls: bool) -> Result<Option<Notice>, ReenactError> {
        let files = tenants::NAMES.map(tenants::files);
        while attacked.elapsed() < NOTICE_TIMEOUT {
            let mut all = self.tenants.iter().zip(&files);
            let Some(hit) = all.position(|(tenancy, files)| is_changed(tenancy, files)) else {
                thread::sleep(WATCH_PERIOD);
                continue;
            };
            let after_ms = millis(attacked.elapsed());
            let noticed = Instant::now();
            let tenancy = &mut self.tenants[hit];
            tenancy.freeze()?;
            let frozen = walls && tenancy.condition() == Condition::Frozen;
            let micros = u64::try_from(noticed.elapsed().as_micros()).ok();
            return Ok(Some(Notice {
                tenant: tenancy.name,
                after_ms,
                frozen_after_us: micros.filter(|_| frozen),
            }));
        }
        Ok(None)
    }

    /// Gives the attacker time, and reads its account.
    fn hear_account(&self, walls: bool) -> Account {
        let end = Instant::now() + if walls { SETTLE } else { END_TIMEOUT };
        loop {
            let path = Path::new(ACCOUNT);
            let text = measure::read_beneath(&self.hostile().tree.folder, path, account::BYTES_MAX);
            let account = Account::parse(&text.unwrap_or_default());
            if Instant::now() > end || (account.ended && !walls) {
                return account;
            }
            thread::sleep(WATCH_PERIOD);
        }
    }

    fn measure_all(&mut self) -> Vec<Row> {
        let found: Vec<Found> = self.found().map(|(_, found)| found).collect();
        let hostile = self.hostile;
        let rows = self.tenants.iter_mut().zip(found).enumerate();
        rows.map(|(number, (tenancy, found))| Row {
            tenant: tenancy.name,
            hostile: number == hostile,
            condition: tenancy.condition(),
            found,
        })
        .collect()
    }
}

fn is_changed(tenancy: &Tenancy, files: &[tenants::File]) -> bool {
    let folder = &tenancy.tree.folder;
    files.iter().any(|file| !measure::is_intact(folder, file))
}

fn kernel() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(
        |_| "an unknown kernel".to_owned(),
        |name| format!("Linux {}", name.release().to_string_lossy()),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
