//! Fewer calls are reachable under profile `app` than under Docker's default,
//! found by trying each number.
//!
//! First without the rules over arguments of both: a number counts as
//! reachable if any arguments pass. That favours Docker's profile, which has
//! rules for two calls, over ours, which has more. Then samples of arguments
//! are tried below the whole profiles.
//!
//! What was found is `docs/seccomp-compared.md`; with the variable
//! [`WRITE_PAGE`] it is written anew.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod docker;
mod page;
mod trial;

use std::collections::BTreeSet;
use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use cloison_sandbox::seccomp::{self, Profile, Verdict};
use cloison_tests::{Case, Outcome, REPORT};
use page::Reached;
use trial::{Call, NUMBERS_END, Side};

/// With this variable the page is written and not compared.
const WRITE_PAGE: &str = "CLOISON_WRITE_PAGE";
/// What newer kernels pass by every filter.
const UNFILTERED: [&str; 2] = ["uretprobe", "uprobe"];

const CASES: &[Case] = &[
    Case::new(
        "docker_conditions_are_read_as_dockerd_reads_them",
        docker::conditions,
    ),
    Case::new(
        "docker_profile_that_allows_by_default_is_refused",
        docker::allowing_by_default,
    ),
    Case::new(
        "docker_profile_reaches_a_runtime_whole",
        docker::for_a_runtime,
    ),
    Case::new("kernel_version_ends_where_digits_end", docker::versions),
    Case::new("page_that_differs_from_the_trial_is_stale", page::staleness),
    Case::new("app_reaches_fewer_calls_than_docker_default", fewer_calls).lasting_s(300),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Some((first, rest)) = words.split_first()
        && first == trial::ARGUMENT
    {
        if let Err(error) = trial::become_attempt(rest) {
            eprintln!("{error}");
        }
        return ExitCode::FAILURE;
    }
    cloison_tests::main(CASES)
}

fn fewer_calls() -> Outcome {
    let docker = Path::new(cloison_tests::docker::DEFAULT);
    if !docker.exists() {
        return Outcome::Skipped("Docker's default profile is not here: run .ci/fetch".to_owned());
    }
    match compare(docker) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn compare(profile: &Path) -> Result<Outcome, Box<dyn Error>> {
    let attempt = Path::new("/tmp/attempt");
    fs::write(attempt, cloison_escape::ATTEMPT)?;
    fs::set_permissions(attempt, fs::Permissions::from_mode(0o755))?;
    let kernel = cloison_tests::docker::running_kernel().ok_or("the kernel has no version")?;
    let rules = cloison_tests::docker::rules(&fs::read_to_string(profile)?, kernel)?;
    let samples = page::samples(&rules);
    let calls: Vec<Call> = samples.iter().map(|sample| sample.call).collect();
    let tried = |side: Side| -> Result<Reached, String> {
        Ok(Reached {
            numbers: trial::reached(&side, attempt)?,
            samples: trial::are_reached(&side, attempt, &calls)?,
        })
    };
    let (ours, docker) = thread::scope(|scope| {
        let docker = scope.spawn(|| tried(Side::Docker(profile.to_owned())));
        (tried(Side::Ours), docker.join())
    });
    fs::remove_file(attempt)?;
    let ours = ours?;
    let docker = docker.map_err(|_| "the second thread ended")??;
    report(&ours.numbers, &docker.numbers);
    as_written("app", &ours.numbers, &allowed_by_app())?;
    let written = trial::docker_numbers(profile)?;
    as_written("Docker's default", &docker.numbers, &written)?;
    let mut tried_below_ours = samples.iter().zip(&ours.samples);
    if let Some((sample, _)) =
        tried_below_ours.find(|(sample, reached)| **reached && sample.whose != page::DOCKERS)
    {
        return Err(format!("rule {} lets {:?} through", sample.whose, sample.call).into());
    }
    let tried = page::page(&samples, &ours, &docker);
    if env::var_os(WRITE_PAGE).is_some() {
        fs::write(page::PATH, &tried)?;
    }
    if let Some(line) = page::stale(&fs::read_to_string(page::PATH)?, &tried) {
        let problem = format!("docs/seccomp-compared.md: {line}: run `cargo xtask compared`");
        return Ok(Outcome::Failed(problem));
    }
    Ok(if ours.numbers.len() < docker.numbers.len() {
        Outcome::Passed
    } else {
        Outcome::Failed("app reaches no fewer calls than Docker's default".to_owned())
    })
}

fn report(ours: &BTreeSet<u32>, docker: &BTreeSet<u32>) {
    say(&format!(
        "reachable of {NUMBERS_END} numbers: {} under app, {} under Docker's default",
        ours.len(),
        docker.len()
    ));
    let only = names(ours.difference(docker));
    say(&format!("under app only: {only}"));
    let only = names(docker.difference(ours));
    say(&format!("under Docker's default only: {only}"));
}

fn allowed_by_app() -> BTreeSet<u32> {
    let profile = Profile::app();
    (0..NUMBERS_END)
        .filter(|number| profile.verdict(*number) == Verdict::Allow)
        .collect()
}

/// A trial that finds other numbers than the profile lists has measured
/// something else than the profile.
fn as_written(whose: &str, reached: &BTreeSet<u32>, written: &BTreeSet<u32>) -> Result<(), String> {
    let differing: Vec<u32> = reached
        .symmetric_difference(written)
        .copied()
        .filter(|number| {
            !seccomp::call_name(*number).is_some_and(|name| UNFILTERED.contains(&name))
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let names = names(differing.iter());
    Err(format!("{whose}: tried and written differ in {names}"))
}

fn names<'a>(numbers: impl Iterator<Item = &'a u32>) -> String {
    let names: Vec<String> = numbers
        .map(|number| seccomp::call_name(*number).map_or(number.to_string(), str::to_owned))
        .collect();
    format!("{} ({})", names.len(), names.join(" "))
}

/// Says something that the runner shows also of a case that passed.
fn say(text: &str) {
    println!("{REPORT}{text}");
}
