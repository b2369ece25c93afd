//! Whoever changes the tenants is killed at each of his system calls. Whoever
//! opens the host next finds all as before, or as after, and nothing halfway.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloison::{Host, Removal, TenantSettings, TenantState};
use cloison_tests::fault::{Deed, Ending, Fault, Role, Trace, Traced, traced};
use cloison_tests::{Outcome, REPORT};
use nix::sys::signal::Signal;

use super::crowd::CALLER;
use super::ground::{Place, name, nobody};

const WRAPPER: &str = env!("CARGO_BIN_EXE_traced");
const LIMIT: Duration = Duration::from_secs(30);
/// Who is killed over.
const WHO: &str = "who";
/// Who is there all the time.
const WITNESS: &str = "witness";

/// One verb, and what may be after a death in it.
struct Sweep {
    verb: &'static str,
    /// Whether the whole state goes each time, the mount included.
    from_nothing: bool,
    /// Brings back what the verb begins with.
    prepare: fn(&Place, &Host),
    /// What is there of the tenant before, and after.
    before: Seen,
    after: Seen,
}

/// His state, and whether he is described; `None`: he is not there.
type Seen = Option<(TenantState, bool)>;

const PLAIN: Seen = Some((TenantState::Present, false));

pub(crate) fn add() -> Outcome {
    sweep(30, &ADD)
}

pub(crate) fn first() -> Outcome {
    let first = Sweep {
        from_nothing: true,
        prepare: |_, _| (),
        ..ADD
    };
    sweep(31, &first)
}

const ADD: Sweep = Sweep {
    verb: "add",
    from_nothing: false,
    prepare: |_, host| absent(host),
    before: None,
    after: PLAIN,
};

pub(crate) fn change() -> Outcome {
    let change = Sweep {
        verb: "change",
        prepare: |_, host| {
            present(host);
            let plain = |settings: &mut TenantSettings| *settings = TenantSettings::default();
            host.change_tenant(&name(WHO), plain).unwrap();
        },
        before: PLAIN,
        after: Some((TenantState::Present, true)),
        ..ADD
    };
    sweep(32, &change)
}

pub(crate) fn keep() -> Outcome {
    let keep = Sweep {
        verb: "keep",
        prepare: |_, host| present(host),
        before: PLAIN,
        after: Some((TenantState::Kept, false)),
        ..ADD
    };
    sweep(33, &keep)
}

pub(crate) fn restore() -> Outcome {
    let restore = Sweep {
        verb: "restore",
        prepare: |_, host| {
            present(host);
            host.remove_tenant(&name(WHO), Removal::Keep, nobody)
                .unwrap();
        },
        before: Some((TenantState::Kept, false)),
        after: PLAIN,
        ..ADD
    };
    sweep(34, &restore)
}

pub(crate) fn purge() -> Outcome {
    let purge = Sweep {
        verb: "purge",
        prepare: |place, host| {
            present(host);
            let root = place.storage(WHO);
            fs::create_dir_all(root.join("a/b/c")).unwrap();
            for file in ["file", "a/file", "a/b/file", "a/b/c/file"] {
                fs::write(root.join(file), "his").unwrap();
            }
        },
        before: PLAIN,
        after: None,
        ..ADD
    };
    sweep(35, &purge)
}

fn absent(host: &Host) {
    if host.tenant(&name(WHO)).is_ok() {
        host.remove_tenant(&name(WHO), Removal::Purge, nobody)
            .unwrap();
    }
}

fn present(host: &Host) {
    match host.tenant(&name(WHO)) {
        Ok(_) => host.restore_tenant(&name(WHO)),
        Err(_) => host.add_tenant(&name(WHO), TenantSettings::default()),
    }
    .unwrap();
}

fn arguments(place: &Place, verb: &str) -> Vec<OsString> {
    let ids = place.pool.ids();
    let mut arguments = vec![place.path.clone().into_os_string()];
    let words = [ids.start().to_string(), ids.end().to_string()];
    arguments.extend(words.map(OsString::from));
    arguments.extend([verb, WHO].map(OsString::from));
    arguments
}

fn run(place: &Place, verb: &str, fault: Option<Fault>) -> Trace {
    let arguments = arguments(place, verb);
    let mut command = traced(Path::new(WRAPPER), CALLER.as_ref(), &arguments);
    let silent = fs::File::create("/dev/null").unwrap();
    command.stderr(silent);
    Traced::start(command, fault).end(LIMIT).unwrap()
}

fn seen(host: &Host) -> Seen {
    let tenant = host.tenant(&name(WHO)).ok()?;
    let is_described = tenant.settings != TenantSettings::default();
    Some((tenant.state, is_described))
}

/// Begins anew: the witness is there, and what the verb needs.
fn prepare(place: &Place, sweep: &Sweep) {
    if sweep.from_nothing {
        place.clear();
        return;
    }
    let host = place.host();
    if host.tenant(&name(WITNESS)).is_err() {
        host.add_tenant(&name(WITNESS), TenantSettings::default())
            .unwrap();
        fs::write(place.storage(WITNESS).join("file"), "his").unwrap();
    }
    (sweep.prepare)(place, &host);
}

fn sweep(nth_place: u32, sweep: &Sweep) -> Outcome {
    let place = Place::new(nth_place, 3);
    prepare(&place, sweep);
    let whole = run(&place, sweep.verb, None);
    if whole.ending(Role::Caller) != Some(Ending::Exited(0)) {
        return Outcome::Failed(format!("without a fault: {:?}", whole.endings));
    }
    let is_counted =
        |call: &&cloison_tests::fault::Call| call.role == Role::Caller && call.phase == 1;
    let calls = whole.calls.iter().filter(is_counted).count();
    let every = if cloison_tests::quick() {
        (calls / 10).max(1)
    } else {
        1
    };
    let (mut wrong, mut kills, mut done, mut missed) = (Vec::new(), 0, 0, 0);
    let mut nth = 0;
    // One run may make a call less than another.
    while missed < 3 {
        prepare(&place, sweep);
        let fault = Fault::at(Role::Caller, nth, Deed::Kill).within(1..=1);
        let trace = run(&place, sweep.verb, Some(fault));
        nth += every;
        let Some(call) = trace.hit_call() else {
            missed += 1;
            continue;
        };
        missed = 0;
        kills += 1;
        let call = call.to_string();
        let mut faults = judge(&place, sweep, &mut done);
        if trace.ending(Role::Caller) != Some(Ending::Signaled(Signal::SIGKILL)) {
            faults.push(format!("it was not killed: {:?}", trace.endings));
        }
        wrong.extend(faults.iter().map(|fault| format!("{nth}: {call}: {fault}")));
    }
    println!(
        "{REPORT}{}: killed at {kills} of {calls} calls, done nevertheless {done}; wrong: {}",
        sweep.verb,
        wrong.len()
    );
    if kills * every + calls / 20 + 2 * every < calls {
        wrong.push(format!("only {kills} kills in {calls} calls"));
    }
    Outcome::from(wrong)
}

/// What is wrong after a death, once somebody has opened the host and done
/// something else.
fn judge(place: &Place, sweep: &Sweep, done: &mut usize) -> Vec<String> {
    let mut faults = Vec::new();
    let host = place.host();
    let now = seen(&host);
    if now == sweep.after {
        *done += 1;
    } else if now != sweep.before {
        faults.push(format!("he is {now:?}"));
    }
    let other = if sweep.from_nothing { "other" } else { WITNESS };
    if sweep.from_nothing {
        let added = host.add_tenant(&name(other), TenantSettings::default());
        faults.extend(added.err().map(|error| error.to_string()));
    } else {
        let again = host.change_tenant(&name(other), |_| ());
        faults.extend(again.err().map(|error| error.to_string()));
        if fs::read(place.storage(WITNESS).join("file"))
            .ok()
            .as_deref()
            != Some(b"his")
        {
            faults.push("the witness has lost a file".to_owned());
        }
        if sweep.verb == "purge" && now == sweep.before {
            let whole = fs::read(place.storage(WHO).join("a/b/c/file"));
            faults.extend(whole.err().map(|error| format!("half purged: {error}")));
        }
    }
    faults.extend(place.faults(&host));
    // The same once more ends as it should.
    let mut again = Command::new(CALLER);
    let output = again.args(arguments(place, sweep.verb)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_there = now == sweep.after && matches!(sweep.verb, "add" | "purge");
    if output.status.success() == is_there {
        faults.push(format!("again: {} {errors}", output.status));
    }
    if seen(&host) != sweep.after {
        faults.push(format!("again: he is {:?}", seen(&host)));
    }
    faults.extend(place.faults(&host));
    faults
}
