//! Turns the seccomp profile into static tables.
//!
//! Parsed here and not at launch: reading the file costs more than compiling
//! the filter. A profile that forgets a call, names one twice or leaves a
//! reason out does not build.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[path = "src/seccomp/numbers.rs"]
mod numbers;

const PROFILE: &str = "profiles/app.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    allow: Vec<Group>,
    deny: Vec<Group>,
    absent: Vec<Group>,
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    reason: String,
    reference: Option<String>,
    calls: Vec<String>,
    #[serde(default)]
    kept: Vec<Kept>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    calls: Vec<String>,
    reason: String,
    #[serde(default)]
    sometimes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    calls: Vec<String>,
    reason: String,
    reference: String,
    any: Vec<Vec<Condition>>,
    denied: Vec<Vec<u32>>,
    allowed: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Condition {
    Eq { arg: u8, value: u32 },
    Ne { arg: u8, value: u32 },
    Ge { arg: u8, value: u32 },
    Le { arg: u8, value: u32 },
    Masked { arg: u8, mask: u32, value: u32 },
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-changed={PROFILE}");
    println!("cargo::rerun-if-changed=src/seccomp/numbers.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let file: File = toml::from_str(&fs::read_to_string(PROFILE)?)?;
    let place = Path::new(&env::var("OUT_DIR")?).join("seccomp_app.rs");
    fs::write(place, tables(&file)?)?;
    Ok(())
}

/// The Rust source of the tables.
fn tables(file: &File) -> Outcome<String> {
    let known: BTreeMap<&str, u32> = numbers::NUMBERS.iter().copied().collect();
    let mut seen = BTreeMap::new();
    let mut out = String::from("pub(super) static GROUPS: &[Group] = &[\n");
    for (verdict, groups) in [
        ("Allow", &file.allow),
        ("Deny", &file.deny),
        ("Absent", &file.absent),
    ] {
        for group in groups {
            if group.reason.is_empty() || (verdict != "Allow" && group.reference.is_none()) {
                return Err(format!("group {}: no reason or no reference", group.name).into());
            }
            let calls = resolve(&known, &group.calls)?;
            for number in &calls {
                if let Some(other) = seen.insert(*number, &group.name) {
                    let name = &group.name;
                    return Err(format!("call {number} stands in {other} and in {name}").into());
                }
            }
            let kept = kept_source(&known, group, &calls, verdict)?;
            writeln!(
                out,
                "Group {{ name: {:?}, verdict: Verdict::{verdict}, reason: {:?}, reference: {:?}, calls: &{calls:?}, kept: &[{kept}] }},",
                group.name, group.reason, group.reference
            )?;
        }
    }
    if let Some((name, _)) = known.iter().find(|(_, number)| !seen.contains_key(number)) {
        return Err(format!("{name} stands in no group").into());
    }
    out.push_str("];\npub(super) static RULES: &[Rule] = &[\n");
    for rule in &file.rule {
        out.push_str(&rule_source(&known, rule)?);
    }
    out.push_str("];\n");
    Ok(out)
}

/// Why calls of a group are allowed that no program of the tests uses.
fn kept_source(
    known: &BTreeMap<&str, u32>,
    group: &Group,
    calls: &[u32],
    verdict: &str,
) -> Outcome<String> {
    let (mut source, mut seen) = (String::new(), Vec::new());
    for kept in &group.kept {
        let numbers = resolve(known, &kept.calls)?;
        if verdict != "Allow" || kept.reason.is_empty() || numbers.is_empty() {
            return Err(format!("group {}: kept calls without a reason", group.name).into());
        }
        for number in &numbers {
            if !calls.contains(number) || seen.contains(number) {
                let name = &group.name;
                return Err(format!("group {name} keeps call {number} twice, or another's").into());
            }
            seen.push(*number);
        }
        write!(
            source,
            "Kept {{ calls: &{numbers:?}, reason: {:?}, sometimes: {} }},",
            kept.reason, kept.sometimes
        )?;
    }
    Ok(source)
}

fn rule_source(known: &BTreeMap<&str, u32>, rule: &Rule) -> Outcome<String> {
    if rule.reason.is_empty() || rule.denied.is_empty() || rule.allowed.is_empty() {
        return Err(format!("rule {}: no reason or no samples", rule.name).into());
    }
    let mut any = String::new();
    for conditions in &rule.any {
        let all: Vec<String> = conditions.iter().map(condition_source).collect();
        write!(any, "&[{}],", all.join(","))?;
    }
    Ok(format!(
        "Rule {{ name: {:?}, calls: &{:?}, reason: {:?}, reference: {:?}, any: &[{any}], denied: &{}, allowed: &{} }},\n",
        rule.name,
        resolve(known, &rule.calls)?,
        rule.reason,
        rule.reference,
        samples(&rule.denied),
        samples(&rule.allowed),
    ))
}

fn condition_source(condition: &Condition) -> String {
    let (argument, comparison, value) = match condition {
        Condition::Eq { arg, value } => (arg, "Equal".to_owned(), value),
        Condition::Ne { arg, value } => (arg, "NotEqual".to_owned(), value),
        Condition::Ge { arg, value } => (arg, "AtLeast".to_owned(), value),
        Condition::Le { arg, value } => (arg, "AtMost".to_owned(), value),
        Condition::Masked { arg, mask, value } => (arg, format!("Masked({mask:#x})"), value),
    };
    format!(
        "Condition {{ argument: {argument}, comparison: Comparison::{comparison}, value: {value:#x} }}"
    )
}

/// Each sample filled up to six arguments.
fn samples(samples: &[Vec<u32>]) -> String {
    let full: Vec<String> = samples
        .iter()
        .map(|sample| {
            let mut sample = sample.clone();
            sample.resize(6, 0);
            format!("{sample:?}")
        })
        .collect();
    format!("[{}]", full.join(","))
}

fn resolve(known: &BTreeMap<&str, u32>, names: &[String]) -> Outcome<Vec<u32>> {
    names
        .iter()
        .map(|name| {
            known
                .get(name.as_str())
                .copied()
                .ok_or_else(|| format!("no call {name}").into())
        })
        .collect()
}
