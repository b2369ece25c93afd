//! Docker's default profile as data.
//!
//! `default.json` is read as dockerd reads it for a container with no
//! capability added or dropped, on x86-64.
//!
//! # Source
//! `profiles/seccomp/{default.json,seccomp_linux.go}` and
//! `oci/caps/defaults.go` of Docker Engine, in Debian's
//! golang-github-docker-docker-dev.

use std::collections::BTreeSet;

use cloison_sandbox::seccomp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where `.ci/fetch` puts the profile.
pub const DEFAULT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/fetched/docker-seccomp-default.json"
);

/// What a container has unless asked otherwise.
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Why a profile of Docker's is not understood.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It has another form.
    #[error("docker's profile is not understood")]
    Form(#[from] serde_json::Error),
    /// A filter that allows unless told otherwise, or a version that is none.
    #[error("docker's profile has the unexpected {0:?}")]
    Unexpected(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    rule: Rule,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
}

/// What the profile says of some calls; the runtime's format has it too.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls.
    pub names: Vec<String>,
    /// What is done with them, in libseccomp's words.
    pub action: String,
    /// The error number of a refusal that has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// What the arguments must be, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Argument>>,
}

/// A condition on one argument, in libseccomp's words.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Which one, from 0.
    pub index: u32,
    /// What it is compared with, or the mask.
    pub value: u64,
    /// What a masked one is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// The rules that apply to a container here. `kernel` is the running one's
/// version, for the entries that ask for one.
///
/// # Errors
/// [`DockerError`].
pub fn rules(json: &str, kernel: (u32, u32)) -> Result<Vec<Rule>, DockerError> {
    applying(serde_json::from_str(json)?, kernel)
}

fn applying(file: File, kernel: (u32, u32)) -> Result<Vec<Rule>, DockerError> {
    if file.default_action != "SCMP_ACT_ERRNO" {
        return Err(DockerError::Unexpected(file.default_action));
    }
    let mut rules = Vec::new();
    for entry in file.syscalls {
        match entry.rule.action.as_str() {
            "SCMP_ACT_ALLOW" | "SCMP_ACT_ERRNO" => {}
            other => return Err(DockerError::Unexpected(other.to_owned())),
        }
        if applies(&entry, kernel)? {
            rules.push(entry.rule);
        }
    }
    Ok(rules)
}

/// The numbers that Docker's default allows with some arguments.
///
/// # Errors
/// [`DockerError`].
pub fn allowed(json: &str, kernel: (u32, u32)) -> Result<BTreeSet<u32>, DockerError> {
    let rules = rules(json, kernel)?;
    // Names that x86-64 does not have are skipped, as libseccomp does.
    Ok(rules
        .iter()
        .filter(|rule| rule.action == "SCMP_ACT_ALLOW")
        .flat_map(|rule| &rule.names)
        .filter_map(|name| seccomp::call_number(name))
        .collect())
}

/// The profile as dockerd hands it to a container's runtime: the value of
/// `linux.seccomp` in its `config.json`.
///
/// # Errors
/// [`DockerError`].
///
/// # Source
/// `config-linux.md` of the OCI runtime specification.
pub fn oci(json: &str, kernel: (u32, u32)) -> Result<Value, DockerError> {
    let file: File = serde_json::from_str(json)?;
    let architectures: Vec<String> = file
        .arch_map
        .iter()
        .filter(|map| map.architecture == "SCMP_ARCH_X86_64")
        .flat_map(|map| std::iter::once(&map.architecture).chain(&map.sub_architectures))
        .cloned()
        .collect();
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architectures,
        "syscalls": applying(file, kernel)?,
    }))
}

fn applies(entry: &Entry, kernel: (u32, u32)) -> Result<bool, DockerError> {
    let has = |capability: &String| DEFAULT_CAPABILITIES.contains(&capability.as_str());
    let here = |architecture: &String| architecture == "amd64";
    let new_enough = |conditions: &Conditions| match &conditions.min_kernel {
        None => Ok(None),
        Some(version) => parse_version(version)
            .map(|version| Some(kernel >= version))
            .ok_or_else(|| DockerError::Unexpected(version.clone())),
    };
    let included = entry.includes.caps.iter().all(has)
        && (entry.includes.arches.is_empty() || entry.includes.arches.iter().any(here))
        && new_enough(&entry.includes)?.unwrap_or(true);
    let excluded = entry.excludes.caps.iter().any(has)
        || entry.excludes.arches.iter().any(here)
        || new_enough(&entry.excludes)?.unwrap_or(false);
    Ok(included && !excluded)
}

/// The first two parts of a kernel's version.
#[must_use]
pub fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The version of the running kernel.
#[must_use]
pub fn running_kernel() -> Option<(u32, u32)> {
    let uname = nix::sys::utsname::uname().ok()?;
    parse_version(&uname.release().to_string_lossy())
}
