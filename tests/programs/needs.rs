//! Which programs need a covered proc: measured, and compared with the table of
//! `docs/programs.md`.

use std::collections::BTreeMap;
use std::fs;

use cloison_sandbox::{Access, Proc, Root};
use cloison_tests::{Outcome, REPORT};

use crate::ground::{Place, tree, use_as_host};
use crate::{PROGRAMS, Work};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/programs.md");
const NOT_FETCHED: &str = "the tree of programs is not here: run .ci/fetch-programs";
/// Those of which it is only asked what they need.
const TOOLS: [&str; 5] = ["ps", "free", "uptime", "vmstat", "sysctl"];

/// Every root and proc.
fn places() -> Option<Vec<(&'static str, &'static str, Place)>> {
    let tree = tree()?;
    use_as_host(&tree).unwrap();
    let debian = Root::Directory {
        path: tree,
        access: Access::ReadOnly,
    };
    let mut all = Vec::new();
    for (root_name, root) in [("shared-base", Root::SharedBase), ("debootstrap", debian)] {
        for (proc_name, proc) in [("pid", Proc::Pid), ("covered", Proc::Covered)] {
            let place = Place {
                root: root.clone(),
                proc,
                record: None,
            };
            all.push((root_name, proc_name, place));
        }
    }
    Some(all)
}

/// What the table says of each program: of each proc, whether it works.
fn documented() -> BTreeMap<String, [bool; 2]> {
    let text = fs::read_to_string(TABLE).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", name, _version, pid, covered, _why, ""] => {
                let works = |cell: &str| match cell {
                    "works" => Some(true),
                    "fails" => Some(false),
                    _ => None,
                };
                Some(((*name).to_owned(), [works(pid)?, works(covered)?]))
            }
            _ => None,
        }
    });
    rows.collect()
}

fn work_of(name: &str) -> Work {
    PROGRAMS.iter().find(|(of, _)| *of == name).unwrap().1
}

/// One program, everywhere.
pub(crate) fn check(name: &str) -> Outcome {
    let Some(places) = places() else {
        return Outcome::Skipped(NOT_FETCHED.to_owned());
    };
    measure(name, &places)
}

/// The tools that read proc, and whether the table lists what is run and
/// nothing else.
pub(crate) fn of_tools() -> Outcome {
    let listed: Vec<String> = documented().into_keys().collect();
    let mut run: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
    run.sort_unstable();
    if listed != run {
        return Outcome::Failed(format!(
            "docs/programs.md lists {listed:?}, run are {run:?}"
        ));
    }
    let Some(places) = places() else {
        return Outcome::Skipped(NOT_FETCHED.to_owned());
    };
    for name in TOOLS {
        match measure(name, &places) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

fn measure(name: &str, places: &[(&str, &str, Place)]) -> Outcome {
    let Some([pid, covered]) = documented().remove(name) else {
        return Outcome::Failed(format!("docs/programs.md does not list {name}"));
    };
    let mut faults = Vec::new();
    for (root, proc, place) in places {
        let wanted = if *proc == "pid" { pid } else { covered };
        let found = work_of(name)(place);
        let works = if found.is_ok() { "works" } else { "fails" };
        println!("{REPORT}{name}: {root}, proc = {proc}: {works}");
        if found.is_ok() != wanted {
            faults.push(format!("{root}, proc = {proc}: {found:?}"));
        }
    }
    if faults.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!(
            "{name} is not as documented: {}",
            faults.join("\n")
        ))
    }
}
