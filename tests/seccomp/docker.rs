//! Docker's profile is read as dockerd reads it.

use cloison_sandbox::seccomp;
use cloison_tests::Outcome;
use cloison_tests::docker::{DockerError, allowed, oci, parse_version};

const SMALL: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": [
            {"names": ["read", "_llseek"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"minKernel": "4.8"}, "excludes": {}},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 9, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}], "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}}
        ]
    }"#;

fn names_in_small(kernel: (u32, u32)) -> Vec<&'static str> {
    let numbers = allowed(SMALL, kernel).unwrap();
    numbers.into_iter().filter_map(seccomp::call_name).collect()
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
    let read = allowed(&open, (6, 1));
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

/// A case: what a container's runtime is given says the same, arguments too.
pub(crate) fn for_a_runtime() -> Outcome {
    let given = oci(SMALL, (6, 1)).unwrap();
    assert_eq!(given["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(given["architectures"][1], "SCMP_ARCH_X86");
    let rules = given["syscalls"].as_array().unwrap();
    let names: Vec<_> = rules.iter().map(|rule| rule["names"][0].as_str()).collect();
    let wanted = ["read", "ptrace", "chroot", "clone", "clone3", "modify_ldt"];
    assert_eq!(names, wanted.map(Some));
    assert_eq!(rules[3]["args"][0]["valueTwo"], 7);
    assert_eq!(rules[4]["errnoRet"], 38);
    Outcome::Passed
}
