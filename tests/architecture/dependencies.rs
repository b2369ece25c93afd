//! What `deny.toml` says of the dependencies, without cargo-deny: licences,
//! sources, banned crates, crates that are there twice.

use std::collections::{BTreeMap, BTreeSet};

use libtest_mimic::Failed;
use serde::Deserialize;

/// What a dependency without a registry of its own comes from.
const DEFAULT_REGISTRY: &str = "https://github.com/rust-lang/crates.io-index";

/// The part of `deny.toml` that is judged here. What is not known here is an
/// error: it would be a rule that nobody keeps.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Deny {
    pub(crate) graph: Graph,
    #[serde(rename = "advisories")]
    _advisories: toml::Table,
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Graph {
    pub(crate) targets: Vec<String>,
    pub(crate) all_features: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Licences {
    allow: BTreeSet<String>,
    #[serde(rename = "unused-allowed-license")]
    _unused_allowed_license: Strictness,
    #[serde(rename = "confidence-threshold")]
    _confidence_threshold: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: Strictness,
    #[serde(rename = "wildcards")]
    _wildcards: Strictness,
    allow_wildcard_paths: bool,
    #[serde(rename = "highlight")]
    _highlight: String,
    #[serde(default)]
    deny: Vec<Named>,
    #[serde(default)]
    skip: Vec<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Strictness,
    #[serde(rename = "unknown-git")]
    _unknown_git: Strictness,
    allow_registry: Option<Vec<String>>,
    #[serde(default)]
    allow_git: Vec<String>,
}

/// Nothing weaker than `deny` is read: the code below judges by it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Strictness {
    Deny,
}

/// `name`, `name:version` or `name@version`; a version may be cut short.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "crate")]
    spec: String,
    #[serde(rename = "reason")]
    _reason: String,
}

impl Named {
    fn is(&self, name: &str, version: &str) -> bool {
        let mut parts = self.spec.splitn(2, [':', '@']);
        let named = parts.next() == Some(name);
        named
            && parts.next().is_none_or(|start| {
                version
                    .strip_prefix(start)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

struct Package<'a> {
    name: &'a str,
    version: &'a str,
    licence: Option<&'a str>,
    source: Option<&'a str>,
    requirements: Vec<(&'a str, &'a str, bool)>,
}

pub(crate) fn rules(text: &str) -> Result<Deny, Failed> {
    Ok(toml::from_str(text)?)
}

/// What `metadata`, as cargo tells it of the resolved graph, breaks.
pub(crate) fn broken(deny: &Deny, metadata: &serde_json::Value) -> Vec<String> {
    let packages = packages(metadata);
    if packages.is_empty() {
        return vec!["cargo names no package at all".to_owned()];
    }
    let mut faults = Vec::new();
    for package in &packages {
        let fault = |what: String| format!("{} {}: {what}", package.name, package.version);
        match package.licence {
            Some(licence) if is_allowed(licence, &deny.licenses.allow) => {}
            licence => faults.push(fault(format!("the licence {licence:?}"))),
        }
        if !comes_from_where_it_may(package.source, &deny.sources) {
            faults.push(fault(format!("the source {:?}", package.source)));
        }
        if deny
            .bans
            .deny
            .iter()
            .any(|banned| banned.is(package.name, package.version))
        {
            faults.push(fault("banned".to_owned()));
        }
        for (name, requirement, is_path) in &package.requirements {
            if *requirement == "*" && !(*is_path && deny.bans.allow_wildcard_paths) {
                faults.push(fault(format!("any version of {name}")));
            }
        }
    }
    faults.extend(unused(deny, &packages));
    faults.extend(twice(deny, &packages));
    faults
}

/// The packages that the graph has, and not those of other platforms.
fn packages(metadata: &serde_json::Value) -> Vec<Package<'_>> {
    let list = |value: &'_ serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let resolved: BTreeSet<String> = list(&metadata["resolve"]["nodes"])
        .iter()
        .filter_map(|node| node["id"].as_str().map(str::to_owned))
        .collect();
    let all = metadata["packages"].as_array().into_iter().flatten();
    all.filter(|package| {
        package["id"]
            .as_str()
            .is_some_and(|id| resolved.contains(id))
    })
    .filter_map(|package| {
        let requirements = package["dependencies"].as_array().into_iter().flatten();
        let is_ours = package["source"].is_null();
        Some(Package {
            name: package["name"].as_str()?,
            version: package["version"].as_str()?,
            licence: package["license"].as_str(),
            source: package["source"].as_str(),
            // What others wrote of theirs is locked by their registry.
            requirements: requirements
                .filter(|_| is_ours)
                .filter_map(|needed| {
                    let is_path = needed["path"].is_string();
                    Some((needed["name"].as_str()?, needed["req"].as_str()?, is_path))
                })
                .collect(),
        })
    })
    .collect()
}

fn comes_from_where_it_may(source: Option<&str>, sources: &Sources) -> bool {
    // A member of the workspace has none.
    let Some(source) = source else { return true };
    if let Some(registry) = source.strip_prefix("registry+") {
        return match &sources.allow_registry {
            Some(allowed) => allowed.iter().any(|allowed| allowed == registry),
            None => registry == DEFAULT_REGISTRY,
        };
    }
    source
        .strip_prefix("git+")
        .is_some_and(|from| sources.allow_git.iter().any(|git| from.starts_with(git)))
}

/// Exceptions that no package needs.
fn unused(deny: &Deny, packages: &[Package<'_>]) -> Vec<String> {
    let named = |licence: &str| {
        packages
            .iter()
            .filter_map(|package| package.licence)
            .any(|expression| terms(expression).iter().any(|term| term == licence))
    };
    let licences = deny.licenses.allow.iter().filter(|licence| !named(licence));
    let skipped = deny.bans.skip.iter().filter(|skip| {
        !packages
            .iter()
            .any(|package| skip.is(package.name, package.version))
    });
    licences
        .cloned()
        .chain(skipped.map(|skip| skip.spec.clone()))
        .map(|what| format!("deny.toml allows {what}, which nothing needs"))
        .collect()
}

fn twice(deny: &Deny, packages: &[Package<'_>]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let (name, version) = (package.name, package.version);
        if !deny.bans.skip.iter().any(|skip| skip.is(name, version)) {
            versions.entry(name).or_default().push(version);
        }
    }
    versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name} is there as {}", versions.join(" and ")))
        .collect()
}

/// Whether an SPDX expression can be met by the licences in `allowed`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let terms = terms(expression);
    let mut rest = terms.as_slice();
    either(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// Licences, each with its exception, and the words between them.
fn terms(expression: &str) -> Vec<String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        // What cargo took before SPDX.
        .replace('/', " OR ");
    let mut terms: Vec<String> = Vec::new();
    for word in spaced.split_whitespace() {
        match terms.last_mut() {
            Some(last) if word == "WITH" || last.ends_with(" WITH") => {
                last.push(' ');
                last.push_str(word);
            }
            _ => terms.push(word.to_owned()),
        }
    }
    terms
}

fn take(rest: &mut &[String], wanted: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if first == wanted => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn either(rest: &mut &[String], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = both(rest, allowed)?;
    while take(rest, "OR") {
        met |= both(rest, allowed)?;
    }
    Some(met)
}

fn both(rest: &mut &[String], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = one(rest, allowed)?;
    while take(rest, "AND") {
        met &= one(rest, allowed)?;
    }
    Some(met)
}

fn one(rest: &mut &[String], allowed: &BTreeSet<String>) -> Option<bool> {
    if take(rest, "(") {
        let met = either(rest, allowed)?;
        return take(rest, ")").then_some(met);
    }
    let (first, after) = rest.split_first()?;
    *rest = after;
    let is_licence = !["OR", "AND", ")"].contains(&first.as_str());
    is_licence.then(|| allowed.contains(first))
}

/// One broken input for each rule.
pub(crate) fn each_can_fail() -> Result<(), Failed> {
    const SOUND: &str = r#"
        [graph]
        targets = ["t"]
        all-features = true
        [advisories]
        [licenses]
        unused-allowed-license = "deny"
        confidence-threshold = 0.9
        allow = ["MIT", "ISC"]
        [bans]
        multiple-versions = "deny"
        wildcards = "deny"
        allow-wildcard-paths = true
        highlight = "all"
        deny = [{ crate = "worse:2", reason = "-" }]
        skip = [{ crate = "b:1", reason = "-" }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
    "#;
    let registry = format!("registry+{DEFAULT_REGISTRY}");
    let package = |name: &str, version: &str, licence: &str, source: &str| {
        serde_json::json!({
            "id": format!("{name} {version}"), "name": name, "version": version,
            "license": licence, "source": source, "dependencies": [],
        })
    };
    let graph = |more: Vec<serde_json::Value>| {
        let mut packages = vec![
            package("a", "1.0.0", "MIT OR GPL-3.0", &registry),
            package("b", "1.2.0", "(MIT AND ISC)", &registry),
            package("b", "2.0.0", "MIT/ISC", &registry),
        ];
        packages.extend(more);
        let nodes: Vec<_> = packages
            .iter()
            .map(|package| serde_json::json!({ "id": package["id"] }))
            .collect();
        serde_json::json!({ "packages": packages, "resolve": { "nodes": nodes } })
    };
    let deny = rules(SOUND)?;
    let sound = broken(&deny, &graph(vec![]));
    if !sound.is_empty() {
        return Err(format!("the sound graph: {sound:?}").into());
    }
    let member = serde_json::json!({
        "id": "m", "name": "m", "version": "0.1.0", "license": "MIT", "source": null,
        "dependencies": [{ "name": "a", "req": "*" }],
    });
    let red = [
        package("c", "1.0.0", "GPL-3.0", &registry),
        package("c", "1.0.0", "MIT AND GPL-3.0", &registry),
        package("c", "1.0.0", "MIT WITH Some-exception", &registry),
        package("c", "1.0.0", "MIT OR", &registry),
        package("c", "1.0.0", "", &registry),
        package("c", "1.0.0", "MIT", "registry+https://elsewhere.example"),
        package("c", "1.0.0", "MIT", "git+https://elsewhere.example/c"),
        package("worse", "2.1.0", "MIT", &registry),
        package("a", "2.0.0", "MIT", &registry),
        member,
    ];
    for package in red {
        let said = package.to_string();
        if broken(&deny, &graph(vec![package])).is_empty() {
            return Err(format!("this counts as allowed: {said}").into());
        }
    }
    for (was, is) in [
        ("\"ISC\"]", "\"ISC\", \"Zlib\"]"),
        ("b:1", "b:3"),
        ("worse:2", "a"),
    ] {
        let changed = rules(&SOUND.replace(was, is))?;
        if broken(&changed, &graph(vec![])).is_empty() {
            return Err(format!("{is} in deny.toml breaks nothing").into());
        }
    }
    for weaker in [
        SOUND.replace("unknown-git = \"deny\"", "unknown-git = \"warn\""),
        SOUND.replace("highlight", "unheard-of"),
    ] {
        if rules(&weaker).is_ok() {
            return Err("a weaker or unknown rule is taken".into());
        }
    }
    if broken(&deny, &serde_json::json!({})).is_empty() {
        return Err("an empty graph counts as sound".into());
    }
    Ok(())
}
