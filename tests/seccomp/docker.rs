//! Docker's default profile as data.
//!
//! `default.json` is read as dockerd reads it for a container with no
//! capability added or dropped, on x86-64. Rules over arguments are left out:
//! a number counts as allowed if any arguments pass.
//!
//! # Source
//! `profiles/seccomp/{default.json,seccomp_linux.go}` and
//! `oci/caps/defaults.go` of Docker Engine, in Debian's
//! golang-github-docker-docker-dev.

use std::collections::BTreeSet;

use cloison_sandbox::seccomp;
use cloison_tests::Outcome;
use serde::Deserialize;

/// What a container has unless asked otherwise.
const DEFAULT_CAPABILITIES: &[&str] = &[
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
pub(crate) enum DockerError {
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
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
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

/// The numbers that Docker's default allows with some arguments.
///
/// `kernel` is the running one's version, for the entries that ask for one.
pub(crate) fn allowed_by_docker(
    json: &str,
    kernel: (u32, u32),
) -> Result<BTreeSet<u32>, DockerError> {
    let file: File = serde_json::from_str(json)?;
    if file.default_action != "SCMP_ACT_ERRNO" {
        return Err(DockerError::Unexpected(file.default_action));
    }
    let mut allowed = BTreeSet::new();
    for entry in &file.syscalls {
        match entry.action.as_str() {
            "SCMP_ACT_ALLOW" => {}
            "SCMP_ACT_ERRNO" => continue,
            other => return Err(DockerError::Unexpected(other.to_owned())),
        }
        if applies(entry, kernel)? {
            // Names that x86-64 does not have are skipped, as libseccomp does.
            let numbers = entry
                .names
                .iter()
                .filter_map(|name| seccomp::call_number(name));
            allowed.extend(numbers);
        }
    }
    Ok(allowed)
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
pub(crate) fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

const SMALL: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "_llseek"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"minKernel": "4.8"}, "excludes": {}},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}}
        ]
    }"#;

fn names_in_small(kernel: (u32, u32)) -> Vec<&'static str> {
    let allowed = allowed_by_docker(SMALL, kernel).unwrap();
    allowed.into_iter().filter_map(seccomp::call_name).collect()
}

/// A case: what an entry asks for decides whether it counts.
pub(crate) fn conditions() -> Outcome {
    assert_eq!(
        names_in_small((6, 1)),
        ["read", "clone", "ptrace", "modify_ldt", "chroot"]
    );
    assert_eq!(
        names_in_small((4, 4)),
        ["read", "clone", "modify_ldt", "chroot"]
    );
    Outcome::Passed
}

/// A case: a list of exceptions is not read as a list of permissions.
pub(crate) fn allowing_by_default() -> Outcome {
    let open = SMALL.replace("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
    let read = allowed_by_docker(&open, (6, 1));
    assert!(matches!(read, Err(DockerError::Unexpected(_))), "{read:?}");
    Outcome::Passed
}

/// A case: what a distribution appends to a version is no part of it.
pub(crate) fn versions() -> Outcome {
    assert_eq!(parse_version("6.1.0-13-amd64"), Some((6, 1)));
    assert_eq!(parse_version("4.8"), Some((4, 8)));
    assert_eq!(parse_version("six"), None);
    Outcome::Passed
}
