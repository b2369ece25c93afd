//! `cloison tenant`: who the tenants of this host are.

use std::fmt::Write;
use std::path::Path;

use cloison::settings::{HostSettings, SettingsFile, TenantSettings};
use cloison::{Host, Removal, Retired, Tenant, TenantName};
use serde::Serialize;

use crate::cli;
use crate::cli::servers::Name;
use crate::cli::tenants::{
    TenantAdd, TenantList, TenantRemove, TenantRestore, TenantShow, TenantVerb,
};
use crate::error::Error;
use crate::report::{escaped, print, print_json, utc};
use crate::settings;

/// A tenant as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    tenant: &'a Tenant,
    /// The last of its ids.
    block_last: u32,
    storage: String,
}

/// All of them.
#[derive(Serialize)]
struct Listed<'a> {
    tenants: Vec<Shown<'a>>,
    retired: &'a [Retired],
}

/// What became of one.
#[derive(Serialize)]
struct Removed<'a> {
    name: &'a TenantName,
    purged: bool,
}

/// Does what was asked; gives the exit code.
pub(crate) fn tenant(verb: TenantVerb) -> Result<u8, Error> {
    match verb {
        TenantVerb::Add(options) => add(options),
        TenantVerb::List(options) => list(&options),
        TenantVerb::Show(options) => show(&options),
        TenantVerb::Remove(options) => remove(&options),
        TenantVerb::Restore(options) => restore(&options),
    }?;
    Ok(0)
}

fn add(options: TenantAdd) -> Result<(), Error> {
    let settings = settings::host(options.host.file.as_deref())?;
    let host = Host::open(&options.state.directory, settings)?;
    let mut settings = match &options.file {
        Some(file) => TenantSettings::from_file(&SettingsFile::read(file)?)?,
        None => TenantSettings::default(),
    };
    if let Some(description) = options.description {
        settings.description = description;
    }
    let tenant = host.add_tenant(&options.name, settings)?;
    tell(&host, &tenant, &options.format)
}

fn list(options: &TenantList) -> Result<(), Error> {
    let host = opened(&options.state.directory)?;
    let (tenants, retired) = match &host {
        Some(host) => (host.tenants()?, host.retired()?),
        None => (Vec::new(), Vec::new()),
    };
    if options.format.json {
        let shown = |host| tenants.iter().map(|tenant| shown(host, tenant)).collect();
        return print_json(&Listed {
            tenants: host.as_ref().map_or_else(Vec::new, shown),
            retired: &retired,
        });
    }
    print(&table(&tenants, &retired))
}

fn show(options: &TenantShow) -> Result<(), Error> {
    let (host, tenant) = found(&options.state.directory, &options.name)?;
    tell(&host, &tenant, &options.format)
}

fn remove(options: &TenantRemove) -> Result<(), Error> {
    let (host, _) = found(&options.state.directory, &options.name)?;
    let removal = match options.purge {
        true => Removal::Purge,
        false => Removal::Keep,
    };
    let host = host.with_runtime(Name::servers_in(&options.runtime));
    host.remove_tenant(&options.name, removal, || host.running_servers())?;
    let (name, purged) = (&options.name, options.purge);
    if options.format.json {
        return print_json(&Removed { name, purged });
    }
    print(&match purged {
        true => format!("{name} is removed, and its storage with it\n"),
        false => format!(
            "{name} is removed; its storage stays: {}\n",
            escaped(&host.storage_path(name).display().to_string())
        ),
    })
}

fn restore(options: &TenantRestore) -> Result<(), Error> {
    let (host, _) = found(&options.state.directory, &options.name)?;
    let tenant = host.restore_tenant(&options.name)?;
    tell(&host, &tenant, &options.format)
}

/// The host, unless there is none yet. Another directory than the usual one is
/// mistyped if it is not there.
fn opened(state: &Path) -> Result<Option<Host>, Error> {
    if !state.is_dir() {
        return match state == Path::new(Host::STATE) {
            true => Ok(None),
            false => Err(cloison::Error::NoState(state.to_owned()).into()),
        };
    }
    Ok(Some(Host::open(state, HostSettings::default())?))
}

fn found(state: &Path, name: &TenantName) -> Result<(Host, Tenant), Error> {
    let absent = || cloison::Error::NoTenant(name.clone());
    let host = opened(state)?.ok_or_else(absent)?;
    let tenant = host.tenant(name)?;
    Ok((host, tenant))
}

fn shown<'a>(host: &Host, tenant: &'a Tenant) -> Shown<'a> {
    Shown {
        tenant,
        block_last: *tenant.block.ids().end(),
        storage: host.storage_path(&tenant.name).display().to_string(),
    }
}

fn tell(host: &Host, tenant: &Tenant, format: &cli::Format) -> Result<(), Error> {
    if format.json {
        return print_json(&shown(host, tenant));
    }
    let storage = host.storage_path(&tenant.name).display().to_string();
    print(&format!(
        "tenant {}: {}\n  ids          {}\n  storage      {}\n  on disk      {}\n  \
         added        {}\n  description  {}\n",
        tenant.name,
        tenant.state.name(),
        tenant.block,
        escaped(&storage),
        tenant.block.disk().first(),
        utc(tenant.created_s),
        escaped(tenant.settings.description.as_str()),
    ))
}

fn table(tenants: &[Tenant], retired: &[Retired]) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        writeln!(
            text,
            "{:<23} {:<8} {:<24} {:<20} description",
            "tenant", "state", "ids", "added"
        )?;
        for tenant in tenants {
            writeln!(
                text,
                "{:<23} {:<8} {:<24} {:<20} {}",
                tenant.name.as_str(),
                tenant.state.name(),
                tenant.block.to_string(),
                utc(tenant.created_s),
                escaped(tenant.settings.description.as_str()),
            )?;
        }
        for retired in retired {
            writeln!(
                text,
                "not handed out again yet: {}, of {} until {}",
                retired.block,
                retired.tenant,
                utc(retired.since_s)
            )?;
        }
        Ok(())
    };
    // Writing to a String cannot fail.
    match write() {
        Ok(()) | Err(std::fmt::Error) => text,
    }
}
