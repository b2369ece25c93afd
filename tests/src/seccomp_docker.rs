//! Which numbers a sandbox reaches, beside those under Docker's default.
//!
//! Docker's `default.json` is read as dockerd reads it for a container with no
//! capability added or dropped, on x86-64. Both profiles become trial filters
//! that refuse with an error number that no kernel code gives
//! ([`REFUSED`]): whatever else comes back, comes from the call itself, so
//! that a filter's EPERM is never mistaken for the kernel's, and a refused
//! number is never counted as reached because it failed for another reason.
//!
//! Rules over arguments are left out on both sides: a number counts as
//! reachable if any arguments pass. That favours Docker's profile, which has
//! rules for two calls, over ours.
//!
//! # Source
//! `profiles/seccomp/{default.json,seccomp_linux.go}` and
//! `oci/caps/defaults.go` of Docker Engine, in Debian's
//! golang-github-docker-docker-dev.

use std::collections::BTreeSet;

use cloison_sandbox::seccomp::{self, Profile, ProfileError};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};
use serde::Deserialize;

/// The trial filters' answer: the kernel passes it on (up to 4095) and gives
/// it nowhere itself.
pub const REFUSED: u32 = 4094;

/// One above the last number that is tried.
pub const NUMBERS_END: u32 = 601;

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

/// Why there is no trial filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The file is not a profile of Docker's.
    #[error("docker's profile is not understood")]
    Docker(#[from] serde_json::Error),
    /// Our own profile has no such variant.
    #[error("our profile does not compile")]
    Ours(#[from] ProfileError),
    /// The list of numbers does not fit a program.
    #[error("docker's list does not compile")]
    Compile(#[from] seccompiler::BackendError),
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
///
/// # Errors
/// [`TrialError::Docker`], [`TrialError::Unexpected`].
pub fn allowed_by_docker(json: &str, kernel: (u32, u32)) -> Result<BTreeSet<u32>, TrialError> {
    let file: File = serde_json::from_str(json)?;
    if file.default_action != "SCMP_ACT_ERRNO" {
        return Err(TrialError::Unexpected(file.default_action));
    }
    let mut allowed = BTreeSet::new();
    for entry in &file.syscalls {
        match entry.action.as_str() {
            "SCMP_ACT_ALLOW" => {}
            "SCMP_ACT_ERRNO" => continue,
            other => return Err(TrialError::Unexpected(other.to_owned())),
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

fn applies(entry: &Entry, kernel: (u32, u32)) -> Result<bool, TrialError> {
    let has = |capability: &String| DEFAULT_CAPABILITIES.contains(&capability.as_str());
    let here = |architecture: &String| architecture == "amd64";
    let new_enough = |conditions: &Conditions| match &conditions.min_kernel {
        None => Ok(None),
        Some(version) => parse_version(version)
            .map(|version| Some(kernel >= version))
            .ok_or_else(|| TrialError::Unexpected(version.clone())),
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

/// A filter that lets exactly these numbers through.
///
/// # Errors
/// [`TrialError::Compile`].
pub fn trial_of_numbers(allowed: &BTreeSet<u32>) -> Result<BpfProgram, TrialError> {
    let rules = allowed
        .iter()
        .map(|number| (i64::from(*number), Vec::new()));
    let filter = SeccompFilter::new(
        rules.collect(),
        SeccompAction::Errno(REFUSED),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

/// The very program of profile `app`, without its rules over arguments, with
/// [`REFUSED`] in place of its error numbers.
///
/// # Errors
/// [`TrialError::Ours`].
pub fn trial_of_ours() -> Result<BpfProgram, TrialError> {
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let mut profile = Profile::app();
    for rule in Profile::app().rules() {
        profile = profile.without_rule(rule.name)?;
    }
    let filters = profile.compile()?;
    let instructions = filters.programs.iter().flatten();
    Ok(instructions
        .map(|one| {
            let refuses = one.code == RETURN && one.k & 0xffff_0000 == ERRNO;
            sock_filter {
                code: one.code,
                jt: one.jt,
                jf: one.jf,
                k: if refuses { ERRNO | REFUSED } else { one.k },
            }
        })
        .collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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

    fn names(kernel: (u32, u32)) -> Vec<&'static str> {
        let allowed = allowed_by_docker(SMALL, kernel).unwrap();
        allowed.into_iter().filter_map(seccomp::call_name).collect()
    }

    #[test]
    fn conditions_are_read_as_dockerd_reads_them() {
        assert_eq!(
            names((6, 1)),
            ["read", "clone", "ptrace", "modify_ldt", "chroot"]
        );
        assert_eq!(names((4, 4)), ["read", "clone", "modify_ldt", "chroot"]);
    }

    #[test]
    fn a_profile_that_allows_by_default_is_refused() {
        let open = SMALL.replace("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
        assert!(matches!(
            allowed_by_docker(&open, (6, 1)),
            Err(TrialError::Unexpected(_))
        ));
    }

    #[test]
    fn versions_end_where_digits_end() {
        assert_eq!(parse_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_version("4.8"), Some((4, 8)));
        assert_eq!(parse_version("six"), None);
    }
}
