//! A caller of `cloison` that does one thing to the tenants of a host, for the
//! fault tool, or many, for a crowd of processes.
//!
//! Phase 1 is all that it does, from opening the host on.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloison::{
    Block, Error, Host, HostSettings, Pool, Removal, ServerId, StateDirectory, TenantName,
    TenantSettings,
};
use cloison_tests::fault::mark;
use serde_json::Value;

const USAGE: &str = "usage: tenant_caller STATE FIRST LAST VERB NAME|SEED";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state, first, last, verb, name] = arguments.as_slice() else {
        panic!("{USAGE}");
    };
    let pool = Pool::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let settings = HostSettings {
        id_pool: pool,
        ..HostSettings::default()
    };
    let state = Path::new(state);
    if verb == "careless" {
        return careless(state, name);
    }
    mark(1);
    let host = Host::open(state, settings).unwrap();
    if verb == "crowd" {
        return crowd(&host, name);
    }
    let name: TenantName = name.parse().unwrap();
    let nobody = || Ok::<Vec<ServerId>, Error>(Vec::new());
    let done = match verb.as_str() {
        "add" => host.add_tenant(&name, TenantSettings::default()).map(drop),
        "change" => host.change_tenant(&name, describe).map(drop),
        "restore" => host.restore_tenant(&name).map(drop),
        "keep" => host.remove_tenant(&name, Removal::Keep, nobody),
        "purge" => host.remove_tenant(&name, Removal::Purge, nobody),
        other => panic!("no such verb: {other}"),
    };
    mark(2);
    done.unwrap();
}

fn describe(settings: &mut TenantSettings) {
    settings.description = "changed".parse().unwrap();
}

/// How many things one of a crowd does.
const OPERATIONS: usize = 50;
/// How many tenants it has at most.
const TENANTS_MAX: usize = 8;

/// Adds and removes tenants of its own, as chance has it, and looks after each
/// time whether all of its own are there, with their blocks. A block is marked
/// by a file while it is somebody's: two never make the same one. Says at the
/// end which are there.
fn crowd(host: &Host, seed: &str) {
    let marks = PathBuf::from(format!("{}-marks", host.state().path().display()));
    let mut chance: u64 = seed.parse().unwrap();
    let mut own: BTreeMap<TenantName, Block> = BTreeMap::new();
    for nth in 0..OPERATIONS {
        // Knuth's generator of MMIX.
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let throw = usize::try_from(chance >> 33).unwrap();
        let is_adding = own.is_empty() || (own.len() < TENANTS_MAX && throw % 2 == 0);
        if is_adding {
            let name: TenantName = format!("of-{seed}-no-{nth}").parse().unwrap();
            let added = host.add_tenant(&name, TenantSettings::default()).unwrap();
            let mark = marks.join(added.block.first().to_string());
            let made = OpenOptions::new().write(true).create_new(true).open(mark);
            made.expect("the block is somebody else's");
            own.insert(name, added.block);
        } else {
            let (name, block) = own.iter().nth(throw / 2 % own.len()).unwrap();
            let (name, block) = (name.clone(), *block);
            std::fs::remove_file(marks.join(block.first().to_string())).unwrap();
            let nobody = || Ok::<Vec<ServerId>, Error>(Vec::new());
            host.remove_tenant(&name, Removal::Purge, nobody).unwrap();
            own.remove(&name);
        }
        for (name, block) in &own {
            let found = host.tenant(name).expect("a tenant is lost");
            assert_eq!(found.block, *block);
        }
    }
    for (name, block) in own {
        println!("{name} {}", block.first());
    }
}

/// The control: the same reading, changing and writing of one file under a lock
/// that excludes nobody. Says what it added.
fn careless(state: &Path, seed: &str) {
    let shared = StateDirectory::open(state).unwrap();
    let alone = PathBuf::from(format!("{}-alone-{seed}", state.display()));
    let alone = StateDirectory::open(&alone).unwrap();
    let lock = alone.lock(Duration::ZERO, || Ok::<(), Error>(())).unwrap();
    for nth in 0..OPERATIONS {
        let name = format!("of-{seed}-no-{nth}");
        // Two who write the same part tear it: then all is lost.
        let read = shared.read("registry.json").ok().flatten();
        let mut registry: BTreeMap<String, Value> = read.unwrap_or_default();
        registry.insert(name.clone(), Value::Null);
        // Where another's rename came in between, it is not written.
        if shared.write(&lock, "registry.json", &registry).is_ok() {
            println!("{name} 0");
        }
    }
}
