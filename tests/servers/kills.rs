//! Whoever starts or ends a server is killed at each of his system calls.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use cloison_tests::fault::{Deed, Fault, Role, Traced, traced};
use cloison_tests::{Outcome, REPORT, Snapshot, launcher};

use crate::ground::{Ended, Host};

const WRAPPER: &str = env!("CARGO_BIN_EXE_traced");
const LIMIT: Duration = Duration::from_secs(60);

/// What was found after the kills.
#[derive(Default)]
struct Count {
    kills: usize,
    /// In which life the server was found by who came next.
    found: std::collections::BTreeMap<String, usize>,
    wrong: Vec<String>,
}

pub(crate) fn up() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    // Defined beforehand: what is killed is the start.
    host.up(&[&file]).wants(0, &[]);
    host.verb(&["stop", "acme/web"]).wants(0, &[]);
    let words = host.words_of_up(&["acme/web"]);
    at_each_call("up", &host, &words, |_| {})
}

pub(crate) fn down() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    let words = host.words_of_down(&["acme/web"]);
    at_each_call("down", &host, &words, |host| {
        host.up(&[&file]).wants(0, &[]);
    })
}

fn at_each_call(name: &str, host: &Host, words: &[&str], prepare: impl Fn(&Host)) -> Outcome {
    let file = host.sleeper("acme", "web");
    let calls = {
        prepare(host);
        let traced = begin(words, None);
        assert!(traced.wait_for_caller(LIMIT), "it does not end");
        host.down(&["acme/web"]);
        let trace = traced.end(LIMIT);
        let trace = trace.unwrap_or_else(|error| panic!("without a fault: {error:?}"));
        let is_its = |call: &&cloison_tests::fault::Call| call.role == Role::Caller;
        trace.calls.iter().filter(is_its).count()
    };
    let every = if std::env::var_os("CLOISON_QUICK").is_some() {
        23
    } else {
        4
    };
    let mut count = Count::default();
    // One run may make some calls less than another, as long as it waits.
    let mut missed = 0;
    for nth in (0..calls).step_by(every) {
        if missed == 3 {
            break;
        }
        host.up(&[&file]).wants(0, &[]);
        host.verb(&["stop", "acme/web", "--timeout-s", "0"])
            .wants(0, &[]);
        let before = Snapshot::of_stage();
        prepare(host);
        let traced = begin(words, Some(Fault::at(Role::Caller, nth, Deed::Kill)));
        if !traced.wait_for_caller(LIMIT) {
            count.wrong.push(format!("{nth}: it does not end"));
        }
        let life = host
            .life("acme/web")
            .unwrap_or_else(|| "undefined".to_owned());
        *count.found.entry(life).or_default() += 1;
        count.add(nth, "the next up", &host.up(&[&file]));
        // Its end may have been on the way when the next one looked.
        thread::sleep(Duration::from_millis(5));
        if host.life("acme/web").as_deref() == Some("dead") {
            *count.found.entry("dying".to_owned()).or_default() += 1;
            count.add(nth, "the up after", &host.up(&[&file]));
        }
        let running = host.life("acme/web");
        if running.as_deref() != Some("running") {
            count
                .wrong
                .push(format!("{nth}: it is {running:?} after the next up"));
        }
        count.add(
            nth,
            "stop",
            &host.verb(&["stop", "acme/web", "--timeout-s", "0"]),
        );
        match traced.end(LIMIT) {
            Ok(trace) if trace.hit.is_some() => {
                count.kills += 1;
                missed = 0;
            }
            Ok(_) => missed += 1,
            Err(error) => count.wrong.push(format!("{nth}: {error}")),
        }
        let left = Snapshot::settled(Snapshot::of_stage, &before);
        count
            .wrong
            .extend(left.iter().map(|left| format!("{nth}: left: {left}")));
        let records = host.records();
        if !records.is_empty() {
            count.wrong.push(format!("{nth}: left: {records:?}"));
        }
    }
    host.down(&["acme"]).wants(0, &[]);
    println!(
        "{REPORT}{name}: killed at {} of {calls} calls (every {every}.), then found {:?}; wrong: {}",
        count.kills,
        count.found,
        count.wrong.len()
    );
    if count.kills < 30 {
        count.wrong.push("too few kills".to_owned());
    }
    if count.wrong.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(count.wrong.join("\n"))
    }
}

impl Count {
    fn add(&mut self, nth: usize, what: &str, ended: &Ended) {
        if ended.code != Some(0) {
            self.wrong.push(format!("{nth}: {what}: {ended:?}"));
        }
    }
}

fn begin(words: &[&str], fault: Option<Fault>) -> Traced {
    let program = launcher::path().unwrap();
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut command = traced(Path::new(WRAPPER), program.as_os_str(), &arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Traced::start(command, fault)
}
