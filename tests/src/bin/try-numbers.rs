//! Tries each system call number under our filter and under Docker's default.
//!
//! `try-numbers DEFAULT_JSON` lets the attempts' program issue each number in a
//! process of its own below each trial filter (see
//! [`cloison_tests::seccomp_docker`]), prints both counts and the numbers that
//! only one side reaches, and fails unless ours reaches fewer.
//!
//! `try-numbers under ours|DEFAULT_JSON N` is the process that puts the filter
//! on itself and becomes the attempt.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use cloison_escape::ATTEMPT;
use cloison_sandbox::seccomp;
use cloison_tests::seccomp_docker::{
    NUMBERS_END, REFUSED, allowed_by_docker, parse_version, trial_of_numbers, trial_of_ours,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// After this a call counts as blocked, and so as reached.
const DEADLINE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["under", filter, number] => become_attempt(filter, number),
        [json] => compare(json),
        _ => Err("usage: try-numbers DEFAULT_JSON".into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn become_attempt(filter: &str, number: &str) -> Outcome<ExitCode> {
    let program = if filter == "ours" {
        trial_of_ours()?
    } else {
        let release = nix::sys::utsname::uname()?
            .release()
            .to_string_lossy()
            .into_owned();
        let kernel = parse_version(&release).ok_or("the kernel's version is not understood")?;
        trial_of_numbers(&allowed_by_docker(&fs::read_to_string(filter)?, kernel)?)?
    };
    let mut attempt = File::from(memfd_create("attempt", MFdFlags::MFD_CLOEXEC)?);
    attempt.write_all(ATTEMPT)?;
    let path = format!("/proc/self/fd/{}", attempt.as_raw_fd());
    seccompiler::apply_filter(&program)?;
    let number = format!("number={number}");
    Err(Command::new(path).args(["numbers", &number]).exec().into())
}

fn compare(json: &str) -> Outcome<ExitCode> {
    let (ours, docker) = thread::scope(|scope| {
        let docker = scope.spawn(|| reached(json).map_err(|error| error.to_string()));
        let ours = reached("ours").map_err(|error| error.to_string());
        (ours, docker.join())
    });
    let ours = ours?;
    let docker = docker.map_err(|_| "the second thread ended")??;
    println!("reachable under ours: {} of {NUMBERS_END}", ours.len());
    println!(
        "reachable under docker's default: {} of {NUMBERS_END}",
        docker.len()
    );
    println!("under ours only: {}", names(ours.difference(&docker)));
    println!("under docker's only: {}", names(docker.difference(&ours)));
    Ok(ExitCode::from(u8::from(ours.len() >= docker.len())))
}

fn names<'a>(numbers: impl Iterator<Item = &'a u32>) -> String {
    let names: Vec<String> = numbers
        .map(|number| seccomp::call_name(*number).map_or(number.to_string(), str::to_owned))
        .collect();
    format!("{} ({})", names.len(), names.join(" "))
}

/// The numbers that come through the filter.
fn reached(filter: &str) -> Outcome<BTreeSet<u32>> {
    let mut reached = BTreeSet::new();
    for number in 0..NUMBERS_END {
        if is_reached(filter, number)? {
            reached.insert(number);
        }
    }
    Ok(reached)
}

fn is_reached(filter: &str, number: u32) -> Outcome<bool> {
    let own = Path::new("/proc/self/exe");
    let mut child = Command::new(own)
        .args(["under", filter, &number.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_micros(500));
    };
    let mut lines = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut lines)?;
    }
    if !lines.starts_with(&format!("trying {number}\n")) {
        return Err(format!("call {number} under {filter} was never tried: {status:?}").into());
    }
    // Refused, or the filter ended the process; all else came from the call:
    // an answer, another end, no end.
    let refused = lines.contains(&format!("answer {REFUSED}\n"));
    let killed = status.and_then(|status| status.signal()) == Some(Signal::SIGSYS as i32);
    Ok(!refused && !killed)
}
