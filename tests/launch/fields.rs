//! Each field's step broken in the child after planning: that field must turn
//! red, whatever else does. A layer of several fields could hide one.

use std::error::Error;
use std::fs::File;
use std::process::Command;

use cloison_sandbox::posture::{Field, Knowledge};
use cloison_sandbox::{Error as Launch, LayerVerdict, NumberList, Plan, Proc, Sysfs, Weakening};
use cloison_tests::{Outcome, REPORT};
use nix::pty::openpty;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, setgroups, setsid, ttyname};

use crate::ground::{hold, kernel, plan, spec, waivers};

/// The fields that no broken step turns red, and why.
const NOT_BROKEN: &[(Field, &str)] = &[
    (
        Field::CgroupMemoryNodes,
        "the machine has one node, and a list of others is refused",
    ),
    (
        Field::IoLimits,
        "the sandbox that is broken names no disk: `disk_hog_starves_no_neighbour` has one",
    ),
    (
        Field::NetworkNamespaceOwner,
        "whoever makes the network is the host: beneath the user namespace the limit is 0",
    ),
    (
        Field::MountNamespace,
        "left out, the child would build in the spawner's, and take that along",
    ),
    (
        Field::RootIds,
        "the host's `/usr` is of no tenant: `broken_map_of_ids_is_noticed` breaks that of one",
    ),
    (
        Field::PidNamespaceOwner,
        "it comes with the clone, by the host: beneath the user namespace the limit is 0",
    ),
    (
        Field::NoNewPrivs,
        "Landlock refuses a process without it: `broken_layer_is_noticed_no_new_privs`",
    ),
    (
        Field::Threads,
        "a clone has one thread, and no step makes another",
    ),
    (
        Field::TimeNamespace,
        "no step makes one, and the spawner's is the caller's",
    ),
    (
        Field::MemoryPolicy,
        "its step undoes what the caller has, and the test has no call to set one",
    ),
    (Field::DeathSignal, "a clone has none, and no step sets one"),
    (
        Field::Subreaper,
        "a clone is none, and no step makes it one",
    ),
];

pub(crate) fn every_field() -> Outcome {
    if let Err(error) = inherit_something() {
        return Outcome::Failed(error.to_string());
    }
    let mut faults = Vec::new();
    let (mut red, mut unused) = (0, Vec::new());
    for field in Field::ALL.iter().copied() {
        if matches!(field.knowledge(), Knowledge::Unreadable(_)) {
            continue;
        }
        if let LayerVerdict::Applied = kernel().verdict(field.layer(), &waivers()) {
            match (check(field), reason(field)) {
                (Ok(()), None) => red += 1,
                (Err(_), Some(_)) => {}
                (Ok(()), Some(_)) => faults.push(format!("{field:?} is listed, and turned red")),
                (Err(found), None) => faults.push(format!("{field:?}: {found}")),
            }
        } else {
            unused.push(field.name());
        }
    }
    println!(
        "{REPORT}{red} fields turned red, {} cannot be broken, not applied here: {}",
        NOT_BROKEN.len(),
        unused.join(", ")
    );
    let whole = spec("whole", &["/usr/bin/true"]);
    for ended in [
        hold(&whole, Vec::new()).map(drop),
        plan(&whole, Vec::new())
            .and_then(Plan::hold_directly)
            .map(drop),
    ] {
        if let Err(error) = ended {
            faults.push(format!("the whole plan: {error:?}"));
        }
    }
    faults.into()
}

fn reason(field: Field) -> Option<&'static str> {
    let listed = NOT_BROKEN.iter().find(|(listed, _)| *listed == field);
    listed.map(|(_, reason)| *reason)
}

/// Whether breaking it turns it red.
fn check(field: Field) -> Result<(), String> {
    let mut spec = spec("field", &["/usr/bin/true"]);
    if field == Field::SysfsOptions {
        spec.sysfs = Sysfs::ReadOnly;
    }
    if field == Field::CgroupProcessors {
        spec.cgroup.processors = NumberList::new("0").ok();
    }
    if field == Field::ProcCovers {
        spec.proc = Proc::Covered;
    }
    let broken = vec![Weakening::BrokenField(field)];
    // The spawner blocks and ignores nothing and has no terminal; the caller
    // itself does.
    let held = match field {
        Field::SignalsBlocked | Field::SignalsIgnored | Field::Terminal => {
            plan(&spec, broken).and_then(Plan::hold_directly)
        }
        _ => hold(&spec, broken),
    };
    match held {
        Ok(_) => Err("nobody noticed".to_owned()),
        Err(Launch::PostureDiffers(differences)) => {
            let fields: Vec<Field> = differences.iter().map(|d| d.expected.field()).collect();
            println!("{field:?}: {fields:?}");
            if fields.contains(&field) {
                Ok(())
            } else {
                Err(format!("others turned red: {fields:?}"))
            }
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

/// What a child must not inherit, set before the spawner starts: the steps
/// that set it back would do nothing otherwise. SIGPIPE is ignored already, by
/// the standard library.
fn inherit_something() -> Result<(), Box<dyn Error>> {
    setgroups(&[Gid::from_raw(7)])?;
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    blocked.thread_block()?;
    let pair = openpty(None, None)?;
    setsid()?;
    // The leader of a session gets the terminal that it opens, and keeps it:
    // a closed one would hang up.
    let opened = File::options()
        .read(true)
        .write(true)
        .open(ttyname(&pair.slave)?)?;
    std::mem::forget((opened, pair));
    let own = std::process::id().to_string();
    let status = Command::new("chrt")
        .args(["-b", "-p", "0", &own])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("chrt: {status}").into())
    }
}
