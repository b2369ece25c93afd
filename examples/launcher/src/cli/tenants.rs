//! What can be typed of tenants.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cloison::settings::Description;
use cloison::{Host as Tenants, TenantName};

use super::{Format, Host, tenant_name};

/// Say who the tenants of this host are, and what is theirs
///
/// A tenant is one client. It owns a block of 1,048,576 user and group ids, that
/// nobody else has, and a directory of its own for what it stores.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true
)]
pub(crate) struct Tenant {
    #[command(subcommand)]
    pub(crate) verb: TenantVerb,
}

/// What is to be done with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    Add(TenantAdd),
    List(TenantList),
    Show(TenantShow),
    Remove(TenantRemove),
    Restore(TenantRestore),
}

/// Add a tenant
///
/// The first free block of the host's id_pool becomes its own, and an empty
/// directory in the storage, mode 0700, which belongs to the first id of it.
/// A block is free if no tenant has it and nothing has one of its ids. Where a
/// line of /etc/passwd, group, subuid or subgid names an id of the pool, nobody
/// is added.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is there
  125  it was not added, and all is as before

Examples:
  cloison tenant add shop
  cloison tenant add shop --description 'customer 4711' --json")]
pub(crate) struct TenantAdd {
    /// 1 to 23 lower-case letters, digits and single hyphens
    #[arg(value_parser = tenant_name)]
    pub(crate) name: TenantName,
    /// Read its settings here: what it may ask for
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Note something of it, in one line
    #[arg(long, value_name = "TEXT", value_parser = description)]
    pub(crate) description: Option<Description>,
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(flatten)]
    pub(crate) state: HostState,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// List the tenants, and the blocks of ids that wait to be handed out again
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  they are listed, also if there are none
  125  they could not be listed")]
pub(crate) struct TenantList {
    #[command(flatten)]
    pub(crate) state: HostState,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Show one tenant
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is shown
  1  there is no such tenant
  125  it could not be looked up")]
pub(crate) struct TenantShow {
    /// Which
    #[arg(value_parser = tenant_name)]
    pub(crate) name: TenantName,
    #[command(flatten)]
    pub(crate) state: HostState,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Remove a tenant, unless servers of it run
///
/// Its storage stays, and name and block with it, until it is brought back or
/// removed with --purge. Then the storage is removed, and the name is free; the
/// block is handed out again once no process, key, System V object or user
/// namespace has one of its ids.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is removed
  1  there is no such tenant
  125  it is not removed, or not yet all of it: the message says why

Examples:
  cloison tenant remove shop
  cloison tenant remove shop --purge")]
pub(crate) struct TenantRemove {
    /// Which
    #[arg(value_parser = tenant_name)]
    pub(crate) name: TenantName,
    /// Remove its storage, too, with all that is in it
    #[arg(long)]
    pub(crate) purge: bool,
    /// Look here for servers that run: what `run` calls --state
    #[arg(long, value_name = "DIR", default_value = cloison::runtime::DEFAULT)]
    pub(crate) runtime: PathBuf,
    #[command(flatten)]
    pub(crate) state: HostState,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Bring back a tenant that was removed without --purge
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is there again, or was all the time
  1  there is no such tenant
  125  it could not be brought back")]
pub(crate) struct TenantRestore {
    /// Which
    #[arg(value_parser = tenant_name)]
    pub(crate) name: TenantName,
    #[command(flatten)]
    pub(crate) state: HostState,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct HostState {
    /// Keep the registry of tenants and their storage here
    #[arg(
        id = "state",
        long = "state",
        value_name = "DIR",
        default_value = Tenants::STATE
    )]
    pub(crate) directory: PathBuf,
}

fn description(text: &str) -> Result<Description, String> {
    let parsed = text.parse::<Description>();
    parsed.map_err(|error| error.to_string())
}
