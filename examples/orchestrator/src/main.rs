//! Keeps servers of tenants running: starts them side by side, watches them
//! without a thread each, starts one that dies again after a while, and ends
//! them all when it is told to end.
//!
//! It is an example to copy from. What it shows:
//! - calls that take milliseconds of work go to threads for blocking work;
//! - waiting for a server costs a descriptor, no thread;
//! - a future that is dropped while its server starts ends that server;
//! - what an earlier run left is found and replaced.

mod backoff;
mod keeper;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cloison::runtime::DEFAULT;
use cloison::settings::{FileError, ServerSettings, SettingsFile};
use cloison::{Host, HostSettings, ServerId};
use cloison_sandbox::{Hierarchies, Kernel};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::keeper::{Ground, Keeper, chain};

/// Keep servers of tenants running until this is told to end
#[derive(Debug, Parser)]
struct Options {
    /// Describe a server each
    #[arg(value_name = "FILE.toml", required = true)]
    files: Vec<PathBuf>,
    /// Read the host's settings here
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
    /// Keep the registry of tenants here
    #[arg(long, value_name = "DIR", default_value = Host::STATE)]
    state: PathBuf,
    /// Keep records of what runs here
    #[arg(long, value_name = "DIR", default_value = DEFAULT)]
    runtime: PathBuf,
    /// How many seconds a server has to end
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout_s: u64,
}

/// Why it did not begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Host(#[from] cloison::Error),
    #[error("{}: {}", .0.path.display(), .0.message)]
    File(#[from] FileError),
    #[error("the kernel could not be asked what it can do")]
    Kernel(#[from] cloison_sandbox::KernelError),
    #[error("the cgroups of this host were not found")]
    Cgroups(#[from] cloison_sandbox::CgroupError),
    #[error("signals cannot be heard")]
    Signals(#[from] std::io::Error),
}

fn main() -> ExitCode {
    let options = Options::parse();
    // On version 2 of cgroups a sandbox's stands beside our own leaf: before
    // there are threads.
    let began = Hierarchies::enter_leaf()
        .map_err(Error::from)
        .and_then(|()| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(keep(options))
        });
    match began {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orchestrator: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Keeps them all until TERM or INT.
async fn keep(options: Options) -> Result<(), Error> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let limit = Duration::from_secs(options.timeout_s);
    let ground = Arc::new(ground(&options)?);
    let servers = defined(&ground.host, &options.files)?;
    let (end, ended) = watch::channel(false);
    let mut keepers = JoinSet::new();
    for id in servers {
        let keeper = Keeper::new(Arc::clone(&ground), id);
        keepers.spawn(keeper.keep(ended.clone(), Signal::SIGTERM, limit));
    }
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        // Each gives up only when it is told to.
        _ = keepers.join_next() => {}
    }
    end.send_replace(true);
    while keepers.join_next().await.is_some() {}
    Ok(())
}

fn ground(options: &Options) -> Result<Ground, Error> {
    let settings = match &options.host {
        Some(path) => HostSettings::from_file(&SettingsFile::read(path)?)?,
        None => HostSettings::default(),
    };
    let host = Host::open(&options.state, settings)?;
    Ok(Ground {
        host: host.with_runtime(options.runtime.join("servers")),
        kernel: Kernel::assume()?,
        hierarchies: Hierarchies::find()?,
    })
}

fn defined(host: &Host, files: &[PathBuf]) -> Result<Vec<ServerId>, Error> {
    let mut servers = Vec::new();
    for path in files {
        let file = SettingsFile::read(path)?;
        let settings = ServerSettings::from_file(&file)?;
        match host.define_server(&settings) {
            Ok(_) => servers.push(settings.id),
            Err(cloison::Error::Policy(refused)) => {
                return Err(file.against_policy(&refused).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(servers)
}
