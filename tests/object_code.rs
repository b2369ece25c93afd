//! What runs between clone and exec, proven from the final binaries of both
//! profiles, with the controls that show the proof can fail.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cloison_tests::object_code::{Fault, Refusal, Walk, embedded, outside_references, walk};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

const ENTRY: &str = "cloison_child_entry";
const CRATE: &str = "cloison_linux";
const BOUNDS: &str = "core::panicking::panic_bounds_check";
const ADDITION: &str = "core::panicking::panic_const::panic_const_add_overflow";

#[derive(Clone, Copy)]
enum Profile {
    Dev,
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Release => "release",
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each builds with cargo, which takes one lock, and prints what it saw.
    arguments.test_threads = Some(1);
    let trial = |name: &str, run: fn() -> Outcome| {
        Trial::test(name, move || {
            run().map_err(|error| error.to_string().into())
        })
    };
    let trials = vec![
        trial("fine_child_is_accepted", fine_child_is_accepted),
        trial("index_in_the_child_is_red", index_in_the_child_is_red),
        trial(
            "checked_addition_is_red_and_pinned_one_is_not",
            checked_addition_is_red_and_pinned_one_is_not,
        ),
        trial(
            "generic_index_is_red_only_in_the_linked_binary",
            generic_index_is_red_only_in_the_linked_binary,
        ),
        trial(
            "binary_without_the_entry_is_refused",
            binary_without_the_entry_is_refused,
        ),
        trial("child_reaches_only_its_crate_in_dev", || {
            child_reaches_only_its_crate(Profile::Dev)
        }),
        trial("child_reaches_only_its_crate_in_release", || {
            child_reaches_only_its_crate(Profile::Release)
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Launcher and re-enactment, in dev also the benchmarks, each as linked, and
/// the static program that each of them carries.
fn child_reaches_only_its_crate(profile: Profile) -> Outcome {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // In dev all is built already, as a workspace; in release only what is
    // shipped is.
    let tools: &[&str] = match profile {
        Profile::Dev => &["--workspace", "--bins"],
        Profile::Release => &["-p", "cloison-launcher", "-p", "cloison-reenact", "--bins"],
    };
    let mut missing = BTreeSet::from(["cloison", "reenact"]);
    let mut binaries = cargo_build(&workspace, profile, tools)?.programs("bin");
    binaries.retain(|binary| missing.contains(binary.name.as_str()));
    match profile {
        Profile::Release => {}
        Profile::Dev if cloison_tests::quick() => {
            println!("the daily form leaves the benchmarks out");
        }
        Profile::Dev => {
            let benches = ["--workspace", "--benches"];
            binaries.extend(cargo_build(&workspace, profile, &benches)?.programs("bench"));
            missing.insert("a benchmark");
        }
    }
    let mut refused = Vec::new();
    for binary in &binaries {
        missing.remove(match binary.kind {
            "bench" => "a benchmark",
            _ => binary.name.as_str(),
        });
        let title = format!("{} ({})", binary.name, profile.name());
        let bytes = std::fs::read(&binary.path)?;
        refused.extend(shown_at_work(&title, walk(&bytes, ENTRY, CRATE)).err());

        let mut carried = 0;
        for program in embedded(&bytes)? {
            let title = format!("{title}, program carried at {:#x}", program.address);
            match walk(program.bytes, ENTRY, CRATE) {
                Err(Refusal::Entry { found: 0, .. }) => println!("{title}: not of ours"),
                walked => {
                    carried += 1;
                    refused.extend(shown_at_work(&title, walked).err());
                }
            }
        }
        if carried == 0 {
            refused.push(format!("{title} carries no static program"));
        }
    }
    refused.extend(missing.iter().map(|name| format!("not built: {name}")));
    if refused.is_empty() {
        return Ok(());
    }
    Err(refused.join("\n").into())
}

fn fine_child_is_accepted() -> Outcome {
    for profile in [Profile::Dev, Profile::Release] {
        let built = fixture("plain", profile, &[])?;
        let title = format!("plain ({})", profile.name());
        let walked = shown(&title, walk(&built.binary()?, ENTRY, CRATE))?;
        // Else the walk would have been spared what it is there to prove.
        let copies = walked.calls.iter().any(|call| call.starts_with("memcpy"));
        let clears = walked.calls.iter().any(|call| call.starts_with("memset"));
        let own = walked.calls.contains("cloison_linux::mix");
        if !(copies && clears && own && walked.jump_tables > 0) {
            return Err("the fine child is too plain to show anything".into());
        }
    }
    Ok(())
}

fn index_in_the_child_is_red() -> Outcome {
    for profile in [Profile::Dev, Profile::Release] {
        let built = fixture("index", profile, &[])?;
        wants_red("index", profile, &built.binary()?, BOUNDS)?;
    }
    Ok(())
}

fn checked_addition_is_red_and_pinned_one_is_not() -> Outcome {
    let unpinned = "profile.dev.package.cloison-linux.overflow-checks=true";
    let built = fixture("overflow", Profile::Dev, &["--config", unpinned])?;
    wants_red(
        "overflow, checked",
        Profile::Dev,
        &built.binary()?,
        ADDITION,
    )?;
    let pinned = fixture("overflow", Profile::Dev, &[])?;
    shown(
        "overflow, pinned (dev)",
        walk(&pinned.binary()?, ENTRY, CRATE),
    )?;
    Ok(())
}

fn generic_index_is_red_only_in_the_linked_binary() -> Outcome {
    for profile in [Profile::Dev, Profile::Release] {
        // The same look finds the index that is not generic.
        let plain = outside_references(&fixture("index", profile, &[])?.library()?)?;
        if !plain.contains(BOUNDS) {
            return Err(format!("a look at the library alone found only {plain:?}").into());
        }
        let built = fixture("generic", profile, &[])?;
        let traces = outside_references(&built.library()?)?;
        println!("generic, library alone ({}): {traces:?}", profile.name());
        if !traces.is_empty() {
            return Err("the generic index left a trace in its library".into());
        }
        wants_red("generic, linked", profile, &built.binary()?, BOUNDS)?;
    }
    Ok(())
}

fn binary_without_the_entry_is_refused() -> Outcome {
    let own = std::fs::read(std::env::current_exe()?)?;
    match walk(&own, "cloison_no_such_entry", CRATE) {
        Err(Refusal::Entry { found: 0, .. }) => Ok(()),
        other => Err(format!("not refused for its entry: {other:?}").into()),
    }
}

/// Prints a walk, or turns its refusal into what a failed trial says.
fn shown(title: &str, walked: Result<Walk, Refusal>) -> Result<Walk, String> {
    match walked {
        Ok(walked) => {
            println!("{title}: {walked}");
            Ok(walked)
        }
        Err(refusal) => Err(format!("{title}: {refusal}")),
    }
}

/// The same for what must do the child's work: an entry that makes no system
/// call is not the one that the proof is about.
fn shown_at_work(title: &str, walked: Result<Walk, Refusal>) -> Result<Walk, String> {
    match shown(title, walked)? {
        walked if walked.system_calls == 0 => Err(format!("{title}: no system call in sight")),
        walked => Ok(walked),
    }
}

fn wants_red(title: &str, profile: Profile, binary: &[u8], symbol: &str) -> Outcome {
    let title = format!("{title} ({})", profile.name());
    let refusal = match walk(binary, ENTRY, CRATE) {
        Ok(walked) => return Err(format!("{title} went green: {walked}").into()),
        Err(refusal) => refusal,
    };
    println!("{title}: RED as wanted, {refusal}");
    let wanted = Fault::Outside {
        symbol: symbol.to_owned(),
    };
    match refusal {
        Refusal::Red(findings) if findings.iter().any(|found| found.fault == wanted) => Ok(()),
        _ => Err(format!("{title} is red, but not for {symbol}").into()),
    }
}

struct Program {
    name: String,
    kind: &'static str,
    path: PathBuf,
}

/// The messages of one cargo build, each an artifact.
struct Built(Vec<Value>);

impl Built {
    fn programs(&self, kind: &'static str) -> Vec<Program> {
        let program = |message: &Value| {
            let of_kind = message["target"]["kind"].as_array()?.contains(&kind.into());
            Some(Program {
                name: message["target"]["name"].as_str()?.to_owned(),
                kind,
                path: message["executable"].as_str()?.into(),
            })
            .filter(|_| of_kind)
        };
        self.0.iter().filter_map(program).collect()
    }

    fn binary(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let programs = self.programs("bin");
        let program = programs.first().ok_or("cargo made no program")?;
        Ok(std::fs::read(&program.path)?)
    }

    fn library(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let ours = self.0.iter().filter(|it| it["target"]["name"] == CRATE);
        let files = ours.filter_map(|it| it["filenames"].as_array()).flatten();
        let mut paths = files.filter_map(Value::as_str);
        let library = paths.find(|path| path.ends_with(".rlib"));
        Ok(std::fs::read(library.ok_or("cargo made no library")?)?)
    }
}

fn fixture(name: &str, profile: Profile, arguments: &[&str]) -> Result<Built, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/object-code")
        .join(name);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("object-code");
    // Fixtures name their packages alike, so cargo would mix them up in one.
    let target = target.join(name);
    let target = target
        .to_str()
        .ok_or("the target folder's name is not text")?;
    let fixed = ["--locked", "--offline", "--target-dir", target];
    cargo_build(&folder, profile, &[&fixed, arguments].concat())
}

fn cargo_build(
    folder: &Path,
    profile: Profile,
    arguments: &[&str],
) -> Result<Built, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let output = Command::new(cargo)
        .current_dir(folder)
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
            "--profile",
        ])
        .arg(profile.name())
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo build {arguments:?} ended with {}", output.status).into());
    }
    let mut messages = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if !line.is_empty() {
            messages.push(serde_json::from_slice(line)?);
        }
    }
    Ok(Built(messages))
}
