//! The rules, each a function over text that gives what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use libtest_mimic::Failed;

/// Arrows: a crate and those of the workspace that it links.
pub(crate) type Arrows = BTreeMap<String, Vec<String>>;

fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.starts_with("```"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A code span with a slash inside is a path of the repository.
pub(crate) fn missing_paths(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    spans(text)
        .filter(|span| span.contains('/') && !span.starts_with(['/', '.']))
        .filter(|span| !span.contains([' ', '*']) && !exists(span))
        .map(|span| format!("`{span}` is named and not there"))
        .collect()
}

/// `test:NAME` is a case that a test program has.
pub(crate) fn missing_tests(text: &str, cases: &BTreeSet<String>) -> Vec<String> {
    spans(text)
        .filter_map(|span| span.strip_prefix("test:"))
        .filter(|name| !cases.contains(*name))
        .map(|name| format!("no test is called {name}"))
        .collect()
}

/// The cases that a test program names with `--list`.
pub(crate) fn cases_in(listing: &str) -> impl Iterator<Item = &str> {
    listing
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
}

pub(crate) fn arrows_of(metadata: &serde_json::Value) -> Arrows {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let members: Vec<String> = packages.iter().map(|p| text(&p["name"])).collect();
    packages
        .iter()
        .map(|package| {
            let linked = package["dependencies"].as_array().cloned();
            let mut linked: Vec<String> = linked
                .unwrap_or_default()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .filter(|name| members.contains(name))
                .collect();
            linked.sort();
            (text(&package["name"]), linked)
        })
        .collect()
}

/// The rows of the table `| crate | links |`.
fn drawn_in(text: &str) -> Vec<(String, Vec<String>)> {
    text.lines()
        .skip_while(|line| *line != "| crate | links |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next()?.to_owned();
            let links = cells.next()?.split(", ").filter(|link| *link != "-");
            Some((name, links.map(str::to_owned).collect()))
        })
        .collect()
}

/// An arrow points down if it ends in a row above its own.
pub(crate) fn arrows_not_down(text: &str) -> Vec<String> {
    let rows = drawn_in(text);
    let mut faults = Vec::new();
    for (at, (name, links)) in rows.iter().enumerate() {
        for link in links {
            if !rows.iter().take(at).any(|(above, _)| above == link) {
                faults.push(format!("{name} links {link}, which is not above it"));
            }
        }
    }
    faults
}

/// The table against what cargo says.
pub(crate) fn wrong_arrows(text: &str, arrows: &Arrows) -> Vec<String> {
    let drawn: Arrows = drawn_in(text).into_iter().collect();
    let mut faults = Vec::new();
    for name in arrows.keys().chain(drawn.keys()) {
        if arrows.get(name) != drawn.get(name) {
            faults.push(format!(
                "{name}: drawn {:?}, linked {:?}",
                drawn.get(name),
                arrows.get(name)
            ));
        }
    }
    faults.dedup();
    faults
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs") && !path.starts_with("tests/architecture/")
}

/// Whether a line has the keyword, comments and strings apart.
fn is_unsafe(line: &str) -> bool {
    let outside: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let code = outside.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "unsafe")
}

/// Unsafe code, by its keyword.
pub(crate) fn unsafe_outside(files: &[(String, String)]) -> Vec<String> {
    const MAY: [&str; 3] = [
        "crates/cloison-linux/",
        "crates/cloison-escape/attempt/",
        // What the object-code proof shows going red: an entry by its name.
        "tests/fixtures/object-code/",
    ];
    files
        .iter()
        .filter(|(path, _)| is_rust(path) && !MAY.iter().any(|may| path.starts_with(may)))
        .filter(|(_, text)| text.lines().any(is_unsafe))
        .map(|(path, _)| format!("{path} is unsafe"))
        .collect()
}

/// Members without the workspace's lints: only those that may be unsafe.
pub(crate) fn lints_missing(files: &[(String, String)]) -> Vec<String> {
    const MAY: [&str; 2] = [
        "crates/cloison-linux/Cargo.toml",
        "crates/cloison-escape/attempt/Cargo.toml",
    ];
    files
        .iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml") && !MAY.contains(&path.as_str()))
        .filter(|(path, _)| !path.starts_with("tests/fixtures/object-code/"))
        .filter(|(_, text)| !text.contains("\n[lints]\nworkspace = true\n"))
        .map(|(path, _)| format!("{path} leaves the workspace's lints"))
        .collect()
}

/// Who takes a layer away.
pub(crate) fn weakenings_outside(files: &[(String, String)]) -> Vec<String> {
    const MAY: [&str; 5] = [
        "crates/cloison-sandbox/src/lib.rs",
        "crates/cloison-sandbox/src/plan",
        "crates/cloison-sandbox/src/layers/",
        "crates/cloison-escape/",
        "tests/",
    ];
    files
        .iter()
        .filter(|(path, _)| is_rust(path) && !MAY.iter().any(|may| path.starts_with(may)))
        .filter(|(_, text)| text.contains("Weakening"))
        .map(|(path, _)| format!("{path} names a weakening"))
        .collect()
}

/// What an outcome must not depend on.
pub(crate) fn left_for_later(files: &[(String, String)]) -> Vec<String> {
    let marks = [
        "TODO",
        "FIXME",
        "XXX",
        "todo!",
        "unimplemented!",
        "#[ignore",
    ];
    files
        .iter()
        .filter(|(path, _)| !path.starts_with("tests/architecture/"))
        .filter(|(path, _)| {
            [".rs", ".toml", ".md", ".ci/run"]
                .iter()
                .any(|end| path.ends_with(end))
        })
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(path, _)| format!("{path} leaves something for later"))
        .collect()
}

/// One broken input for each rule.
pub(crate) fn each_can_fail() -> Result<(), Failed> {
    let file = |path: &str, text: &str| vec![(path.to_owned(), text.to_owned())];
    let arrows = Arrows::from([("a".to_owned(), vec!["b".to_owned()])]);
    let table = |links: &str| format!("| crate | links |\n| --- | --- |\n| a | {links} |\n");
    let cases = cases_in("here: test\nelsewhere: bench\n\n1 tests, 0 benchmarks\n");
    let cases: BTreeSet<String> = cases.map(str::to_owned).collect();
    let red = [
        missing_paths("see `a/b`", |_| false),
        missing_tests("`test:gone`", &cases),
        missing_tests("`test:elsewhere`", &cases),
        missing_tests("`test:her`", &cases),
        wrong_arrows(&table("-"), &arrows),
        arrows_not_down(&table("b")),
        arrows_not_down(&table("a")),
        unsafe_outside(&file("examples/x.rs", "unsafe { }")),
        unsafe_outside(&file("xtask/x.rs", "say(\"//\"); unsafe // here")),
        lints_missing(&file("xtask/Cargo.toml", "[package]\n")),
        weakenings_outside(&file("examples/x.rs", "Weakening::Leak")),
        weakenings_outside(&file("crates/cloison-sandbox/src/held.rs", "Weakening")),
        left_for_later(&file("x.rs", "// TODO")),
        left_for_later(&file(".ci/run", "# XXX")),
    ];
    let green = [
        missing_paths("see `a/b`", |_| true),
        missing_tests("`test:here`", &cases),
        wrong_arrows(&table("b"), &arrows),
        arrows_not_down(&format!("{}| c | a |\n", table("-"))),
        unsafe_outside(&file("x.rs", "say(\"unsafe\"); // unsafe\nunsafe_code")),
        lints_missing(&file("x/Cargo.toml", "\n[lints]\nworkspace = true\n")),
        unsafe_outside(&file("crates/cloison-linux/x.rs", "unsafe { }")),
        weakenings_outside(&file("tests/x.rs", "Weakening::Leak")),
        left_for_later(&file("x.rs", "// done")),
    ];
    for (at, faults) in red.iter().enumerate() {
        if faults.is_empty() {
            return Err(format!("rule {at} cannot fail").into());
        }
    }
    match green.iter().flatten().next() {
        Some(fault) => Err(fault.clone().into()),
        None => Ok(()),
    }
}
