//! Nothing of a launch stays tied to what lies outside.

use std::path::PathBuf;

use cloison_tests::Outcome;
use nix::mount::{MsFlags, mount};

use super::ground::{hold, spec};

/// Every host that runs systemd shares its mounts.
pub(crate) fn tree_of_a_shared_mount_is_private() -> Outcome {
    let propagate = |flag| {
        let flags = MsFlags::MS_REC | flag;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
    };
    propagate(MsFlags::MS_SHARED);
    // The posture that is read back says whether a mount propagates.
    let held = hold(&spec("shared", &["/bin/true"]), Vec::new()).map(drop);
    propagate(MsFlags::MS_PRIVATE);
    match held {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The child has the host's directories open while it goes there: CVE-2024-21626.
pub(crate) fn working_directory_cannot_leave_the_root() -> Outcome {
    for number in 3..64 {
        let mut spec = spec("outside", &["/bin/true"]);
        spec.working_directory = PathBuf::from(format!("/proc/self/fd/{number}"));
        if hold(&spec, Vec::new()).is_ok() {
            return Outcome::Failed(format!("descriptor {number} was entered"));
        }
    }
    let mut spec = spec("inside", &["/bin/true"]);
    spec.working_directory = PathBuf::from("/usr/bin");
    match hold(&spec, Vec::new()).map(drop) {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
