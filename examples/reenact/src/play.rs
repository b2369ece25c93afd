//! The incident from its beginning to the last measurement.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::{self, Account};
use crate::client;
use crate::error::ReenactError;
use crate::ground;
use crate::measure::{self, Found};
use crate::outcome::{Notice, Outcome, Row};
use crate::tenancy::{Condition, Tenancy};
use crate::tenants;

const READY_TIMEOUT: Duration = Duration::from_secs(3);
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);
const END_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
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
    let mut stage = Stage::start(hostile, program)?;
    stage.wait_until_ready()?;
    stage.check_whole()?;
    let attacked = stage.begin_attack()?;
    let notice = stage.watch(attacked, walls);
    let account = stage.hear_account(walls);
    let rows = stage.measure_all();
    drop(left_open);
    Ok(Outcome {
        walls,
        attacker_sha256: hex(&measure::hash(program)),
        kernel: kernel(),
        rows,
        notice,
        account,
        duration_ms: millis(began.elapsed()),
    })
}

/// All tenants while they run, and the folder of each on the ground.
struct Stage {
    tenants: Vec<Tenancy>,
    folders: Vec<PathBuf>,
    hostile: usize,
}

impl Stage {
    fn start(hostile: &'static str, program: &[u8]) -> Result<Self, ReenactError> {
        let starter = ground::place_program(program)?;
        let mut tenants = Vec::new();
        for name in tenants::NAMES {
            let is_hostile = name == hostile;
            let tenancy = Tenancy::start_ordinary(name, program, &starter, is_hostile)?;
            tenants.push(tenancy);
        }
        let folders = tenants.iter().map(|t| t.tree.served_on_ground());
        Ok(Self {
            folders: folders.collect(),
            hostile: tenants
                .iter()
                .position(|tenancy| tenancy.name == hostile)
                .ok_or_else(|| ReenactError::NoSuchTenant(hostile.to_owned()))?,
            tenants,
        })
    }

    fn hostile(&self) -> &Tenancy {
        &self.tenants[self.hostile]
    }

    fn hostile_folder(&self) -> &Path {
        &self.folders[self.hostile]
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
        self.tenants
            .iter()
            .zip(&self.folders)
            .map(|(tenancy, folder)| {
                let found = measure::measure(&tenancy.subject(folder));
                (tenancy, found)
            })
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
    fn watch(&mut self, attacked: Instant, walls: bool) -> Option<Notice> {
        let files = tenants::NAMES.map(tenants::files);
        let changed = |folder: &Path, files: &[tenants::File]| {
            files.iter().any(|file| !measure::is_intact(folder, file))
        };
        while attacked.elapsed() < NOTICE_TIMEOUT {
            let mut all = self.folders.iter().zip(&files);
            let Some(hit) = all.position(|(folder, files)| changed(folder, files)) else {
                thread::sleep(WATCH_PERIOD);
                continue;
            };
            let after_ms = millis(attacked.elapsed());
            let noticed = Instant::now();
            let tenancy = self.tenants.get_mut(hit)?;
            let frozen = walls && tenancy.freeze() == Condition::Frozen;
            let micros = u64::try_from(noticed.elapsed().as_micros()).ok();
            return Some(Notice {
                tenant: tenancy.name,
                after_ms,
                frozen_after_us: micros.filter(|_| frozen),
            });
        }
        None
    }

    /// Gives the attacker time, and reads its account.
    fn hear_account(&self, walls: bool) -> Account {
        let end = Instant::now() + if walls { SETTLE } else { END_TIMEOUT };
        loop {
            let path = Path::new(ACCOUNT);
            let text = measure::read_beneath(self.hostile_folder(), path, account::BYTES_MAX);
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
