//! Each call that `app` allows is used by a program here, or a reason is written
//! why it is allowed all the same.

use std::collections::BTreeSet;
use std::fs;

use cloison_sandbox::seccomp::{Profile, Verdict, call_name, call_number};
use cloison_sandbox::{Access, Proc, Root};
use cloison_tests::{Outcome, REPORT};

use crate::PROGRAMS;
use crate::ground::{Place, tree, use_as_host};

pub(crate) fn check() -> Outcome {
    let Some(tree) = tree() else {
        return Outcome::Skipped(
            "the tree of programs is not here: run .ci/fetch-programs".to_owned(),
        );
    };
    use_as_host(&tree).unwrap();
    let debian = Root::Directory {
        path: tree,
        access: Access::ReadOnly,
    };
    let mut used = BTreeSet::new();
    for (root, proc) in [(Root::SharedBase, Proc::Pid), (debian, Proc::Covered)] {
        for (name, work) in PROGRAMS {
            let record = std::env::temp_dir().join("calls");
            let place = Place {
                root: root.clone(),
                proc,
                record: Some(record.clone()),
            };
            // Some need a covered proc; what they call until they find out
            // counts too.
            let worked = work(&place);
            if proc == Proc::Covered
                && let Err(why) = worked
            {
                return Outcome::Failed(format!("{name}: {why}"));
            }
            let recorded = recorded(&fs::read_to_string(&record).unwrap());
            fs::remove_file(&record).unwrap();
            // A tracer that followed nothing would find fault with all.
            if !recorded.contains("execve") && !recorded.contains("execveat") {
                return Outcome::Failed(format!("{name}: only {recorded:?} was recorded"));
            }
            used.extend(recorded);
        }
    }
    compare(&used)
}

/// The comparison itself: a call that nobody uses is found, and so is a reason
/// that is no longer true.
pub(crate) fn control() -> Outcome {
    let allowed = Profile::groups()
        .iter()
        .filter(|group| group.verdict == Verdict::Allow);
    let unkept = allowed.flat_map(|group| {
        let is_kept = |number: &u32| group.kept.iter().any(|kept| kept.calls.contains(number));
        group.calls.iter().filter(move |number| !is_kept(number))
    });
    let used: BTreeSet<String> = unkept
        .filter_map(|number| call_name(*number))
        .map(str::to_owned)
        .collect();
    assert_eq!(compare(&used), Outcome::Passed);
    let mut fewer = used.clone();
    assert!(fewer.remove("openat"));
    let mut more = used;
    assert!(more.insert("splice".to_owned()));
    for (used, fault) in [
        (fewer, "openat is allowed, used by none, without a reason"),
        (more, "splice is used: its reason is stale"),
    ] {
        assert_eq!(compare(&used), Outcome::Failed(fault.to_owned()));
    }
    Outcome::Passed
}

/// The names in the table that strace writes: the last word of each line.
fn recorded(table: &str) -> BTreeSet<String> {
    table
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .filter(|word| call_number(word).is_some())
        .map(str::to_owned)
        .collect()
}

fn compare(used: &BTreeSet<String>) -> Outcome {
    let (mut used_and_allowed, mut faults) = (0, Vec::new());
    for group in Profile::groups() {
        if group.verdict != Verdict::Allow {
            continue;
        }
        for number in group.calls {
            let name = call_name(*number).unwrap_or_default();
            let kept = group.kept.iter().find(|kept| kept.calls.contains(number));
            match (used.contains(name), kept) {
                (true, None) => used_and_allowed += 1,
                (false, Some(_)) => {}
                (true, Some(kept)) if kept.sometimes => used_and_allowed += 1,
                (true, Some(_)) => faults.push(format!("{name} is used: its reason is stale")),
                (false, None) => {
                    faults.push(format!("{name} is allowed, used by none, without a reason"))
                }
            }
        }
    }
    let denied: Vec<&str> = used
        .iter()
        .map(String::as_str)
        .filter(|name| {
            let number = call_number(name).unwrap_or(u32::MAX);
            Profile::app().verdict(number) != Verdict::Allow
        })
        .collect();
    println!(
        "{REPORT}{used_and_allowed} allowed calls are used; tried and refused, and done without: {}",
        denied.join(" ")
    );
    faults.into()
}
