//! `cloison up`, `down` and `ps`: the servers of tenants.

mod journal;
mod notify;
mod parallel;

use std::collections::BTreeSet;
use std::time::Duration;

use cloison::runtime::{Ground, Life};
use cloison::settings::{ServerSettings, SettingsFile};
use cloison::{Host, ServerId, ServerStatus};
use cloison_sandbox::{Hierarchies, Io, Kernel};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::cli::servers::{Down, Output, Place, Ps, Up, Which};
use crate::error::Error;
use crate::report::{self, print, print_json};
use crate::{kernel, settings};

/// What became of one server.
#[derive(Serialize)]
struct Became {
    server: ServerId,
    /// What it is now.
    life: Life,
    pid: Option<i32>,
    /// Why it is not what was wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<String>,
}

/// Starts servers; gives the exit code.
pub(crate) fn up(options: &Up) -> Result<u8, Error> {
    let host = open(options.host.file.as_deref(), &options.place)?;
    let mut chosen = BTreeSet::new();
    for which in &options.which {
        chosen.extend(defined(&host, which)?);
    }
    if options.which.is_empty() {
        chosen.extend(host.servers(None)?.into_iter().map(|server| server.id));
    }
    let kernel = kernel::for_a_launch()?;
    let hierarchies = Hierarchies::find().map_err(|error| Error::Start(error.into()))?;
    let starting = Starting {
        host: &host,
        kernel: &kernel,
        hierarchies: &hierarchies,
        output: options.output,
    };
    // A launch needs it, whichever is the first.
    cloison_sandbox::start_spawner().map_err(|error| Error::Start(error.into()))?;
    let all: Vec<ServerId> = chosen.into_iter().collect();
    if options.notify && all.len() != 1 {
        return Err(Error::NotOneServer(all.len()));
    }
    let became = parallel::each("starting", all, options.at_once.into(), |id| {
        starting.start(id)
    });
    let code = told(&became, options.format.json, Life::Running)?;
    if options.notify && code == 0 {
        let pid = became.first().and_then(|one| one.pid);
        notify::runs(pid.ok_or(Error::NotAService)?)?;
    }
    Ok(code)
}

/// Ends servers and strikes them out; gives the exit code.
pub(crate) fn down(options: &Down) -> Result<u8, Error> {
    let host = open(options.host.file.as_deref(), &options.place)?;
    let mut chosen = BTreeSet::new();
    for which in &options.which {
        match which {
            Which::Server(id) => chosen.extend([id.clone()]),
            which => chosen.extend(defined(&host, which)?),
        }
    }
    let limit = Duration::from_secs(options.timeout_s.into());
    let all: Vec<ServerId> = chosen.into_iter().collect();
    let became = parallel::each("ending", all, options.at_once.into(), |id| {
        let ended = match host.stop_server(id, Signal::SIGTERM, limit) {
            Ok(_) | Err(cloison::Error::NotRunning(_)) => host.forget_server(id),
            Err(error) => Err(error),
        };
        became(&host, id, ended.map_err(Into::into))
    });
    told(&became, options.format.json, Life::Absent)
}

/// Lists servers; gives the exit code.
pub(crate) fn ps(options: &Ps) -> Result<u8, Error> {
    let host = open(None, &options.place)?;
    let all = host.servers(options.tenant.as_ref())?;
    if options.format.json {
        print_json(&all)?;
        return Ok(0);
    }
    let width = all.iter().map(|server| server.id.to_string().len()).max();
    let width = width.unwrap_or(0).max("SERVER".len());
    let mut text = format!(
        "{:<width$}  {:<8}  {:>4}  {:>7}\n",
        "SERVER", "STATE", "SLOT", "PID"
    );
    for server in &all {
        let ServerStatus {
            id,
            slot,
            life,
            pid,
        } = server;
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let (id, life) = (id.to_string(), life.name());
        text.push_str(&format!(
            "{id:<width$}  {life:<8}  {:>4}  {pid:>7}\n",
            u8::from(*slot)
        ));
    }
    print(&text)?;
    Ok(0)
}

/// The host, as its files say.
pub(crate) fn open(file: Option<&std::path::Path>, place: &Place) -> Result<Host, Error> {
    let host = Host::open(&place.state, settings::host(file)?)?;
    Ok(host.with_runtime(place.servers()))
}

/// The servers that are meant; a file's is written down.
fn defined(host: &Host, which: &Which) -> Result<Vec<ServerId>, Error> {
    Ok(match which {
        Which::File(path) => {
            let file = SettingsFile::read(path)?;
            let settings = ServerSettings::from_file(&file)?;
            match host.define_server(&settings) {
                Ok(_) => vec![settings.id],
                Err(cloison::Error::Policy(refused)) => {
                    return Err(file.against_policy(&refused).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Which::Tenant(name) => {
            let all = host.servers(Some(name))?.into_iter();
            all.map(|server| server.id).collect()
        }
        Which::Server(id) => {
            host.spec_of(id)?;
            vec![id.clone()]
        }
    })
}

/// What every start goes by.
struct Starting<'a> {
    host: &'a Host,
    kernel: &'a Kernel,
    hierarchies: &'a Hierarchies,
    output: Output,
}

impl Starting<'_> {
    fn start(&self, id: &ServerId) -> Became {
        let started = match self.host.life_of(id) {
            Ok(Life::Running | Life::Frozen) => Ok(()),
            Ok(_) => self.launch(id),
            Err(error) => Err(error.into()),
        };
        became(self.host, id, started)
    }

    fn launch(&self, id: &ServerId) -> Result<(), Error> {
        let waivers = &self.host.settings().waive;
        let ground = Ground {
            kernel: self.kernel,
            waivers,
            hierarchies: self.hierarchies,
        };
        let streams = match self.output {
            Output::Journal => journal::streams(id)?,
            Output::Discard => Io::null().map_err(Error::Start)?.streams,
        };
        match self.host.start_server(id, ground, streams) {
            Ok(sandbox) => {
                drop(sandbox);
                Ok(())
            }
            Err(cloison::Error::Launch(error)) => Err(kernel::explained(error, waivers)),
            Err(error) => Err(error.into()),
        }
    }
}

fn became(host: &Host, id: &ServerId, done: Result<(), Error>) -> Became {
    let tenant = Some(&id.tenant);
    let found = host.servers(tenant).ok().and_then(|all| {
        let mut all = all.into_iter();
        all.find(|server| server.id == *id)
    });
    Became {
        server: id.clone(),
        life: found.as_ref().map_or(Life::Absent, |server| server.life),
        pid: found.and_then(|server| server.pid),
        because: done
            .err()
            .map_or_else(Vec::new, |error| report::reasons(&error)),
    }
}

/// Says what became of each; the exit code.
fn told(all: &[Became], as_json: bool, wanted: Life) -> Result<u8, Error> {
    let is_as_wanted = |one: &Became| {
        one.because.is_empty()
            && (one.life == wanted || {
                // What was up and frozen before is left so.
                wanted == Life::Running && one.life == Life::Frozen
            })
    };
    if as_json {
        print_json(&all)?;
    } else {
        let mut text = String::new();
        for one in all {
            text.push_str(&format!("{} {}", one.server, one.life.name()));
            if let Some(pid) = one.pid {
                text.push_str(&format!(", process {pid}"));
            }
            text.push('\n');
            for reason in &one.because {
                text.push_str(&format!("  {}\n", report::escaped(reason)));
            }
            if one.because.is_empty() && !is_as_wanted(one) {
                text.push_str("  it has ended by itself: see what it wrote\n");
            }
        }
        print(&text)?;
    }
    Ok(if all.iter().all(is_as_wanted) { 0 } else { 1 })
}
