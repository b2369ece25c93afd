//! What a system call costs inside, beside outside and a container of runc's
//! with Docker's default profile.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bundle::{self, Root};
use crate::noop;
use crate::peers::{Runtime, Whole};

const ROOT: &str = "/tmp/calls";
const CALLS: [&str; 6] = ["getppid", "read", "ioctl", "socket", "openat", "clone+wait"];
const BUNDLE: &str = "/tmp/bundles/calls";

/// A place where calls are timed.
struct Place {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    /// For each call, the nanoseconds of each run.
    times: BTreeMap<&'static str, Vec<f64>>,
}

impl Place {
    fn new(name: &'static str, program: impl Into<PathBuf>, arguments: Vec<String>) -> Self {
        Self {
            name,
            program: program.into(),
            arguments,
            times: BTreeMap::new(),
        }
    }

    fn time(&mut self) -> Result<(), Box<dyn Error>> {
        let output = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        for call in CALLS {
            let mut lines = said.lines().filter_map(|line| line.split_once(' '));
            let Some((_, time)) = lines.find(|(name, _)| *name == call) else {
                let error = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{}: no time of {call}: {said}{error}", self.name).into());
            };
            self.times.entry(call).or_default().push(time.parse()?);
        }
        Ok(())
    }

    fn median(&self, call: &str) -> f64 {
        let mut times = self.times.get(call).cloned().unwrap_or_default();
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Times each call in `rounds` processes of each place, in turn, and prints
/// what each place adds.
pub(crate) fn run(rounds: usize, host: &str) -> Result<(), Box<dyn Error>> {
    let mut places = match places(host) {
        Ok(places) => places,
        Err(reason) => {
            println!("calls SKIPPED: {reason}");
            return Ok(());
        }
    };
    for _ in 0..rounds {
        for place in &mut places {
            place.time()?;
        }
    }
    let [outside, ours, docker] = &places;
    println!(
        "{:<12} {:>11} {:>11} {:>11} {:>10} {:>12} {:>7}",
        "call, ns", outside.name, ours.name, docker.name, "ours adds", "Docker's adds", "n"
    );
    for call in CALLS {
        let bare = outside.median(call);
        let (adds, theirs) = (ours.median(call) - bare, docker.median(call) - bare);
        let verdict = if adds <= theirs { "met" } else { "MISSED" };
        println!(
            "{call:<12} {bare:>11.1} {:>11.1} {:>11.1} {adds:>10.1} {theirs:>12.1} {rounds:>7}  {verdict}",
            ours.median(call),
            docker.median(call),
        );
    }
    Ok(())
}

fn places(host: &str) -> Result<[Place; 3], String> {
    let failed = |error: Box<dyn Error>| error.to_string();
    let profile = bundle::dockers_profile()?;
    let root = root().map_err(|error| error.to_string())?;
    let command = ["/attempt", "costs", "count=20000", "rounds=5"];
    bundle::make(
        Path::new(BUNDLE),
        Root::Directory(&root),
        &command,
        Some(&profile),
    )
    .map_err(failed)?;
    let behind = |before: &[&str]| -> Vec<String> {
        let words = before.iter().chain(&command);
        words.map(|word| (*word).to_owned()).collect()
    };
    let ours = ["run", "--host", host, "--root", ROOT, "--"];
    Ok([
        // The same path means the same file, as deep.
        Place::new("outside", "chroot", behind(&[ROOT])),
        Place::new("cloison", Whole::launcher()?, behind(&ours)),
        Place::new("runc", "runc", Runtime::Runc.arguments(Path::new(BUNDLE))),
    ])
}

/// A root with nothing but the program, the file that it opens and the mount
/// points.
pub(crate) fn root() -> Result<PathBuf, Box<dyn Error>> {
    let root = noop::root(Path::new(ROOT))?;
    for point in ["sys", "srv/web/pages"] {
        fs::create_dir_all(root.join(point))?;
    }
    fs::write(root.join("srv/web/pages/index"), "a page\n")?;
    let program = root.join("attempt");
    fs::write(&program, cloison_escape::ATTEMPT)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(root)
}
