//! Nothing of a launch stays tied to what lies outside.

use std::path::PathBuf;

use cloison_sandbox::Sysfs;
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

/// A sysfs shows the server's own network, and none of it can be written.
pub(crate) fn sysfs_shows_its_own_network() -> Outcome {
    const LOOK: &str = "\
        read -r address </sys/class/net/lo/address || exit 10
        test \"$address\" = 00:00:00:00:00:00 || exit 11
        test \"$(ls /sys/class/net)\" = lo || exit 12
        (echo 9 >/sys/class/net/lo/tx_queue_len) 2>/dev/null && exit 13
        exit 0";
    let command = ["/bin/sh", "-c", LOOK];
    let status = |sysfs| {
        let mut spec = spec("sysfs", &command);
        spec.sysfs = sysfs;
        let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        spec.environment.extend([path]);
        hold(&spec, Vec::new()).and_then(|held| held.start()?.wait())
    };
    match (status(Sysfs::ReadOnly), status(Sysfs::Absent)) {
        (Ok(shown), Ok(absent)) if (shown.code(), absent.code()) == (Some(0), Some(10)) => {
            Outcome::Passed
        }
        other => Outcome::Failed(format!("{other:?}")),
    }
}
