//! Several processes change the tenants of one host at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cloison::StateDirectory;
use cloison_tests::{Outcome, REPORT};
use serde_json::Value;

use super::ground::Place;

pub(crate) const CALLER: &str = env!("CARGO_BIN_EXE_tenant_caller");
const PROCESSES: u64 = 4;

/// What each of them says that it has, `NAME BLOCK`.
fn said(place: &Place, verb: &str) -> Vec<String> {
    let ends = [*place.pool.ids().start(), *place.pool.ids().end()].map(|id| id.to_string());
    let children: Vec<_> = (1..=PROCESSES)
        .map(|seed| {
            let mut command = Command::new(CALLER);
            command.arg(&place.path).args(&ends);
            command.arg(verb).arg(seed.to_string());
            let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
            piped.spawn().unwrap()
        })
        .collect();
    let mut lines = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

pub(crate) fn locked() -> Outcome {
    let place = Place::new(20, 40);
    let marks = PathBuf::from(format!("{}-marks", place.path.display()));
    fs::create_dir(&marks).unwrap();
    let said = said(&place, "crowd");
    let host = place.host();
    let found = host.tenants().unwrap();
    let mut found: Vec<String> = found
        .iter()
        .map(|tenant| format!("{} {}", tenant.name, tenant.block.first()))
        .collect();
    found.sort();
    assert_eq!(found, said);
    assert_eq!(place.faults(&host), [""; 0]);
    println!(
        "{REPORT}200 operations of four processes: {} tenants, all there",
        found.len()
    );
    fs::remove_dir_all(marks).unwrap();
    Outcome::Passed
}

pub(crate) fn careless() -> Outcome {
    let place = Place::new(21, 1);
    let said = said(&place, "careless");
    let state = StateDirectory::open(&place.path).unwrap();
    let found: BTreeMap<String, Value> = match state.read("registry.json") {
        Ok(found) => found.unwrap(),
        // Torn: all are lost.
        Err(_) => BTreeMap::new(),
    };
    println!(
        "{REPORT}without the lock {} of {} tenants are there",
        found.len(),
        said.len()
    );
    for seed in 1..=PROCESSES {
        fs::remove_dir_all(format!("{}-alone-{seed}", place.path.display())).unwrap();
    }
    if found.len() < said.len() {
        Outcome::Passed
    } else {
        Outcome::Failed("nothing was lost: the other case shows nothing".to_owned())
    }
}
