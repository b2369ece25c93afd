//! Names, ids, records, and launchers that die.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use cloison_tests::Outcome;

use super::ground::{Running, end, lives, record, run, sandbox_of, state, wait_until};

const FOREVER: [&str; 2] = ["sleep", "600"];

pub(crate) fn conflict() -> Outcome {
    let first = Running::named("taken", &FOREVER);
    end(run(&["--name", "taken", "true"])).wants(
        125,
        &[
            "a sandbox named taken runs already",
            "remedy: choose another",
        ],
    );
    assert!(
        sandbox_of("taken").is_some_and(lives),
        "the first one was harmed"
    );
    first.terminate().wants(128 + 15, &[]);
    end(run(&["--name", "taken", "true"])).wants(0, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn killed() -> Outcome {
    let orphan = kill_launcher("fallen");
    assert!(lives(orphan), "a sandbox does not end with its launcher");
    end(run(&["--name", "fallen", "true"])).wants(0, &[]);
    assert!(!lives(orphan));
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn swept() -> Outcome {
    let orphan = kill_launcher("fallen");
    let ids = record("fallen").unwrap()["ids"].as_u64();
    let next = Running::named("next", &FOREVER);
    // The very range is free again, so nothing may have its ids.
    assert!(!lives(orphan));
    assert_eq!(record("next").unwrap()["ids"].as_u64(), ids);
    assert!(record("fallen").is_none());
    next.terminate().wants(128 + 15, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

fn kill_launcher(name: &str) -> i64 {
    let mut running = Running::named(name, &FOREVER);
    let sandbox = sandbox_of(name).unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    sandbox
}

pub(crate) fn parallel() -> Outcome {
    let names = ["p1", "p2", "p3", "p4", "p5", "p6"];
    let running: Vec<Running> = names
        .iter()
        .map(|name| Running::start(&mut run(&["--name", name, "sleep", "600"])))
        .collect();
    wait_until("six records", || {
        names.iter().all(|name| sandbox_of(name).is_some())
    });
    let mut ids = BTreeSet::new();
    for name in names {
        let first = record(name).unwrap()["ids"].as_u64().unwrap();
        assert!((1_879_048_192..=2_147_352_575).contains(&first), "{first}");
        ids.insert(first);
        // What was asked for is what runs.
        let pid = sandbox_of(name).unwrap();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let map: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(map, ["0", &first.to_string(), "65536"]);
    }
    assert_eq!(ids.len(), names.len());
    for one in running {
        one.terminate().wants(128 + 15, &[]);
    }
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn ids_in_use() -> Outcome {
    let first = Running::named("first", &FOREVER);
    let ids = record("first").unwrap()["ids"].as_u64().unwrap();
    let file = "/tmp/ids.toml";
    fs::write(
        file,
        format!("name = \"b\"\nids = {ids}\ncommand = [\"/bin/true\"]\n"),
    )
    .unwrap();
    let wanted = format!("the ids from {ids} belong to another sandbox");
    end(run(&[file])).wants(125, &[&wanted]);
    first.terminate().wants(128 + 15, &[]);
    end(run(&[file])).wants(0, &[]);
    fs::remove_file(file).unwrap();
    Outcome::Passed
}

pub(crate) fn terminated() -> Outcome {
    let running = Running::named("brief", &FOREVER);
    assert_eq!(state().len(), 2, "{:?}", state());
    running.terminate().wants(128 + 15, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn torn() -> Outcome {
    let torn = "/run/cloison/torn.json";
    end(run(&["true"])).wants(0, &[]);
    for text in ["", "{\"version\":1", "{}", "[]"] {
        fs::write(torn, text).unwrap();
        end(run(&["true"])).wants(125, &[torn, "is not a file of this library"]);
    }
    fs::remove_file(torn).unwrap();
    // Half of a record that was being written is none.
    fs::write("/run/cloison/half.part", "{").unwrap();
    end(run(&["true"])).wants(0, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn unsafe_state() -> Outcome {
    let folder = "/tmp/state";
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    end(run(&["--state", folder, "true"])).wants(125, &["others can write in it"]);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    end(run(&["--state", folder, "true"])).wants(0, &[]);
    std::os::unix::fs::symlink(folder, "/tmp/link").unwrap();
    end(run(&["--state", "/tmp/link", "true"])).wants(125, &["it is not a directory"]);
    fs::remove_file("/tmp/link").unwrap();
    fs::remove_dir_all(folder).unwrap();
    Outcome::Passed
}
