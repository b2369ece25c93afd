//! The rules, each a function over text that gives what is wrong.

use std::collections::BTreeMap;

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

/// `test:NAME` is a test: a string or a function of that name. The broken
/// layers' names are made by a macro.
pub(crate) fn missing_tests(text: &str, sources: &[String]) -> Vec<String> {
    spans(text)
        .filter_map(|span| span.strip_prefix("test:"))
        .filter(|name| {
            let made = name
                .strip_prefix("broken_layer_is_noticed_")
                .map(|layer| format!("    {layer}: "));
            let (quoted, function) = (format!("\"{name}\""), format!("fn {name}("));
            !sources.iter().any(|source| {
                source.contains(&quoted)
                    || source.contains(&function)
                    || made.as_ref().is_some_and(|made| source.contains(made))
                    || name.starts_with("child_reaches_only_its_crate_in_")
                        && source.contains("child_reaches_only_its_crate_in_")
            })
        })
        .map(|name| format!("no test is called {name}"))
        .collect()
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

/// The table `| crate | links |` against what cargo says.
pub(crate) fn wrong_arrows(text: &str, arrows: &Arrows) -> Vec<String> {
    let drawn: Arrows = text
        .lines()
        .skip_while(|line| *line != "| crate | links |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next()?.to_owned();
            let links = cells.next()?.split(", ").filter(|link| *link != "-");
            Some((name, links.map(str::to_owned).collect()))
        })
        .collect();
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

/// Unsafe code, by its keyword before a block, a function or an attribute.
pub(crate) fn unsafe_outside(files: &[(String, String)]) -> Vec<String> {
    const MAY: [&str; 3] = [
        "crates/cloison-linux/",
        "crates/cloison-escape/attempt/",
        // What the object-code proof shows going red: an entry by its name.
        "tests/fixtures/object-code/",
    ];
    let marks = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "#[unsafe(",
    ];
    files
        .iter()
        .filter(|(path, _)| is_rust(path) && !MAY.iter().any(|may| path.starts_with(may)))
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(path, _)| format!("{path} is unsafe"))
        .collect()
}

/// Who takes a layer away.
pub(crate) fn weakenings_outside(files: &[(String, String)]) -> Vec<String> {
    const MAY: [&str; 3] = [
        "crates/cloison-sandbox/src/",
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
    let marks = ["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore"];
    files
        .iter()
        .filter(|(path, _)| !path.starts_with("tests/architecture/"))
        .filter(|(path, _)| {
            [".rs", ".toml", ".md"]
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
    let sources = ["fn here() {}".to_owned()];
    let red = [
        missing_paths("see `a/b`", |_| false),
        missing_tests("`test:gone`", &sources),
        wrong_arrows(&table("-"), &arrows),
        unsafe_outside(&file("examples/x.rs", "unsafe { }")),
        weakenings_outside(&file("examples/x.rs", "Weakening::Leak")),
        left_for_later(&file("x.rs", "// TODO")),
    ];
    let green = [
        missing_paths("see `a/b`", |_| true),
        missing_tests("`test:here`", &sources),
        wrong_arrows(&table("b"), &arrows),
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
