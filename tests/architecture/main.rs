//! What the texts say of the code is true, and the house's rules hold.
//!
//! No root, no stage. Each check is a function over text; a trial of its own
//! shows that it can fail.

mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("named_paths_and_tests_exist", named_things_exist),
        Trial::test("arrows_between_crates_are_as_drawn", arrows),
        Trial::test("unsafe_lives_in_two_places", unsafe_code),
        Trial::test("weakenings_are_named_by_tests_alone", weakenings),
        Trial::test("nothing_is_left_for_later", nothing_left),
        Trial::test("each_check_can_fail", rules::each_can_fail),
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
    let sources: Vec<String> = files()?
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs") && !path.starts_with("tests/architecture"))
        .map(|(_, text)| text)
        .collect();
    let mut faults = Vec::new();
    for text in ["ARCHITECTURE.md", "SECURITY.md", "README.md"] {
        let content = read(text)?;
        faults.extend(rules::missing_paths(&content, |path| {
            root().join(path).exists()
        }));
        faults.extend(rules::missing_tests(&content, &sources));
    }
    told(faults)
}

fn arrows() -> Result {
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = read("ARCHITECTURE.md")?;
    let mut faults = rules::wrong_arrows(&text, &rules::arrows_of(&metadata));
    faults.extend(rules::arrows_not_down(&text));
    told(faults)
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
