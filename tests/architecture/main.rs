//! What the texts say of the code is true, and the house's rules hold.
//!
//! No root, no stage. Each check is a function over text; a trial of its own
//! shows that it can fail.

mod dependencies;
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Failed, Trial};

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("named_paths_and_tests_exist", named_things_exist),
        Trial::test("a_name_that_is_only_written_is_no_test", only_written),
        Trial::test("arrows_between_crates_are_as_drawn", arrows),
        Trial::test("unsafe_lives_in_two_places", unsafe_code),
        Trial::test("weakenings_are_named_by_tests_alone", weakenings),
        Trial::test("nothing_is_left_for_later", nothing_left),
        Trial::test("dependencies_are_as_deny_toml_allows", dependencies),
        Trial::test("each_check_can_fail", rules::each_can_fail),
        Trial::test(
            "each_rule_for_dependencies_can_fail",
            dependencies::each_can_fail,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> std::result::Result<String, Failed> {
    fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}").into())
}

fn git(arguments: &[&str]) -> std::result::Result<String, Failed> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => walk(),
    }
}

/// The files where there is no git: those below the root, built ones apart.
fn walk() -> std::result::Result<String, Failed> {
    let mut found = String::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if let Ok(below) = path.strip_prefix(root()) {
                found.push_str(&format!("{}\n", below.display()));
            }
        }
    }
    Ok(found)
}

/// Every tracked file with its text, where it is text.
fn files() -> std::result::Result<Vec<(String, String)>, Failed> {
    Ok(git(&["ls-files"])?
        .lines()
        .filter_map(|path| Some((path.to_owned(), read(path).ok()?)))
        .collect())
}

fn told(faults: Vec<String>) -> Result {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n").into())
    }
}

fn named_things_exist() -> Result {
    let cases = cases()?;
    let mut faults = Vec::new();
    for text in ["ARCHITECTURE.md", "SECURITY.md", "README.md"] {
        let content = read(text)?;
        faults.extend(rules::missing_paths(&content, |path| {
            root().join(path).exists()
        }));
        faults.extend(rules::missing_tests(&content, &cases));
    }
    told(faults)
}

/// The control: a string, a function, a case of a program that is no test and
/// the start of a name made by a macro are all found in the sources.
fn only_written() -> Result {
    const WRITTEN: [&str; 4] = [
        "--cloison-case",
        "no_clone",
        "passes",
        "broken_layer_is_noticed_",
    ];
    let cases = cases()?;
    let files = files()?;
    for name in WRITTEN {
        if !files.iter().any(|(path, text)| {
            path.starts_with("tests/")
                && !path.starts_with("tests/architecture/")
                && text.contains(name)
        }) {
            return Err(format!("{name} is written nowhere: no control").into());
        }
        if rules::missing_tests(&format!("`test:{name}`"), &cases).is_empty() {
            return Err(format!("{name} counts as a test").into());
        }
    }
    Ok(())
}

/// The cases of every test program, as it names them itself: built by cargo,
/// which finds them fresh where all tests run.
fn cases() -> std::result::Result<BTreeSet<String>, Failed> {
    static CASES: OnceLock<std::result::Result<BTreeSet<String>, String>> = OnceLock::new();
    let cases = CASES.get_or_init(|| list_cases().map_err(|error| format!("{error:?}")));
    cases.clone().map_err(Failed::from)
}

fn list_cases() -> std::result::Result<BTreeSet<String>, Failed> {
    let mut build = cargo()?;
    build
        .args(["test", "--workspace", "--test", "*", "--no-run"])
        .args(["--offline", "--locked", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let mut cases = BTreeSet::new();
    for line in said_by(build)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let Some(program) = message["executable"].as_str() else {
            continue;
        };
        if message["target"]["kind"] != serde_json::json!(["test"]) {
            continue;
        }
        let mut list = Command::new(program);
        list.arg("--list");
        let listing = said_by(list)?;
        let before = cases.len();
        cases.extend(rules::cases_in(&listing).map(str::to_owned));
        if cases.len() == before {
            return Err(format!("{program} names no case of its own").into());
        }
    }
    Ok(cases)
}

fn cargo() -> std::result::Result<Command, Failed> {
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let mut command = Command::new(cargo);
    command.current_dir(root());
    Ok(command)
}

/// What a command prints that ends well.
fn said_by(mut command: Command) -> std::result::Result<String, Failed> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{errors}", output.status).into())
}

fn arrows() -> Result {
    let mut metadata = cargo()?;
    metadata.args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let metadata = serde_json::from_str(&said_by(metadata)?)?;
    let text = read("ARCHITECTURE.md")?;
    let mut faults = rules::wrong_arrows(&text, &rules::arrows_of(&metadata));
    faults.extend(rules::arrows_not_down(&text));
    told(faults)
}

fn dependencies() -> Result {
    let deny = dependencies::rules(&read("deny.toml")?)?;
    let mut metadata = cargo()?;
    metadata.args(["metadata", "--format-version", "1", "--offline", "--locked"]);
    if deny.graph.all_features {
        metadata.arg("--all-features");
    }
    for target in &deny.graph.targets {
        metadata.args(["--filter-platform", target]);
    }
    let metadata = serde_json::from_str(&said_by(metadata)?)?;
    told(dependencies::broken(&deny, &metadata))
}

fn unsafe_code() -> Result {
    let files = files()?;
    let mut faults = rules::unsafe_outside(&files);
    faults.extend(rules::lints_missing(&files));
    if !read("Cargo.toml")?.contains("unsafe_code = \"forbid\"") {
        faults.push("the workspace does not forbid unsafe code".to_owned());
    }
    told(faults)
}

fn weakenings() -> Result {
    told(rules::weakenings_outside(&files()?))
}

fn nothing_left() -> Result {
    told(rules::left_for_later(&files()?))
}
