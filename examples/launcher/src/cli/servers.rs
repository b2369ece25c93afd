//! What can be typed of tenants' servers.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use cloison::{Host as Tenants, ServerId, TenantName};
use cloison_sandbox::SandboxName;

use super::{Format, Host};

/// Start servers of tenants
///
/// FILE.toml describes a server: whose it is (`tenant`), its name and all that
/// `run` reads of a sandbox. It is written down, so that it can be started again
/// by its name, and started. A server that runs already is left alone. Nothing of
/// this program stays: the server runs until it ends or is ended.
///
/// On a host with systemd and cgroups of version 2 a server's cgroup is made in
/// that of the service this is started from, and systemd ends it with that service:
/// use the unit `cloison@.service`, which is the server itself.
///
/// What it writes goes to the journal of the host. Without one, say where it is
/// to go: with `--output discard` nowhere.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  each runs
  1  some do not; the message says which and why
  125  nothing was tried

Examples:
  cloison up examples/server.toml
  cloison up acme                    Every server of acme
  cloison up acme/web acme/mail
  cloison up                         Every server of this host")]
pub(crate) struct Up {
    /// Files, tenants or servers; none: every server that is written down
    #[arg(value_name = "FILE.toml|TENANT|TENANT/SERVER", value_parser = which)]
    pub(crate) which: Vec<Which>,
    /// Where what the servers write goes
    #[arg(long, value_enum, default_value_t = Output::Journal)]
    pub(crate) output: Output,
    /// Tell systemd that it runs, and which process it is
    ///
    /// For a service of `Type=notify` that is one server.
    #[arg(long)]
    pub(crate) notify: bool,
    /// How many are started at once
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) at_once: u8,
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Where what a server writes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// To systemd's journal, under the name of the server.
    Journal,
    /// Nowhere.
    Discard,
}

/// End servers of tenants, and strike them out
///
/// Each gets TERM and is killed when it has not ended in time. Its ids are free
/// for another server of its tenant then. `stop` ends one and leaves it written
/// down.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  none of them is there any more
  1  some are; the message says which and why
  125  nothing was tried

Examples:
  cloison down acme/web
  cloison down acme                  Every server of acme")]
pub(crate) struct Down {
    /// Tenants or servers
    #[arg(value_name = "TENANT|TENANT/SERVER", value_parser = which, required = true)]
    pub(crate) which: Vec<Which>,
    /// How many seconds each has to end; 0: it is killed at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) timeout_s: u32,
    /// How many are ended at once
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) at_once: u8,
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// List the servers of tenants, and what each is now
///
/// absent: it does not run. held: it is being launched. running, frozen,
/// stopping. dead: it has ended by itself. torn: whoever launched it died before
/// it ran; the next `up` or `down` removes what is left.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  they are listed, also if there are none
  1  there is no such tenant
  125  they could not be listed")]
pub(crate) struct Ps {
    /// Those of this tenant alone
    #[arg(value_name = "TENANT", value_parser = super::tenant_name)]
    pub(crate) tenant: Option<TenantName>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Where a host keeps what it knows.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// Keep the registry of tenants and their storage here
    #[arg(long = "state", value_name = "DIR", default_value = Tenants::STATE)]
    pub(crate) state: PathBuf,
    /// Keep records of what runs here: what `run` calls --state
    #[arg(long, value_name = "DIR", default_value = cloison::runtime::DEFAULT)]
    pub(crate) runtime: PathBuf,
}

impl Place {
    /// Where the records of servers are.
    pub(crate) fn servers(&self) -> PathBuf {
        Name::servers_in(&self.runtime)
    }
}

/// What is to be started or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    File(PathBuf),
    Tenant(TenantName),
    Server(ServerId),
}

fn which(text: &str) -> Result<Which, String> {
    let is_file = Path::new(text).extension().is_some_and(|end| end == "toml");
    if is_file {
        return Ok(Which::File(text.into()));
    }
    let server = text.contains('/').then(|| text.parse().map(Which::Server));
    let named = server.unwrap_or_else(|| text.parse().map(Which::Tenant));
    named.map_err(|error| error.to_string())
}

/// A sandbox that `run` started, by its name, or a server: `TENANT/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Sandbox(SandboxName),
    Server(ServerId),
}

impl Name {
    const SERVERS: &str = "servers";

    /// Where the records of servers are, beneath those of what `run` started.
    pub(crate) fn servers_in(directory: &Path) -> PathBuf {
        directory.join(Self::SERVERS)
    }

    /// In which directory its record is, and of which name.
    pub(crate) fn record(&self, directory: &Path) -> (PathBuf, SandboxName) {
        match self {
            Self::Sandbox(name) => (directory.to_owned(), name.clone()),
            Self::Server(id) => (Self::servers_in(directory), id.sandbox()),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let id = text.parse().map(Self::Server);
            return id.map_err(|error: cloison::NameError| error.to_string());
        }
        let name = SandboxName::new(text).map(Self::Sandbox);
        name.map_err(|error| error.to_string())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sandbox(name) => name.fmt(f),
            Self::Server(id) => id.fmt(f),
        }
    }
}
