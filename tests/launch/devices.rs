//! The program that controls devices on cgroup version 2, tried also where the
//! controller of version 1 does it for sandboxes.

use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloison_linux::bpf::{self, DeviceRule};
use cloison_tests::Outcome;

/// Enters the cgroup and says which of the two can be opened.
const SCRIPT: &str = "echo $$ >\"$1/cgroup.procs\"; \
    for d in null zero; do (: </dev/$d) 2>/dev/null && echo $d; done; exit 0";

pub(crate) fn program_of_version_2() -> Outcome {
    let Some(top) = mounted() else {
        return Outcome::Skipped("no cgroup hierarchy of version 2 is mounted".to_owned());
    };
    let group = top.join("device-program");
    fs::create_dir(&group).unwrap();
    let tried = within(&group);
    fs::remove_dir(&group).unwrap();
    match tried {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn within(group: &Path) -> Result<(), Box<dyn Error>> {
    let kernel = |errno: cloison_linux::sys::Errno| format!("bpf: {errno:?}");
    let directory = File::open(group)?;
    let both = "null\nzero\n";
    assert_eq!(opened(group)?, both, "nothing is denied at first");
    assert_eq!(bpf::device_program_tags(directory.as_fd()), Ok(Vec::new()));

    let only_null = [DeviceRule {
        major: 1,
        minor: Some(3),
        access: bpf::READ | bpf::WRITE,
    }];
    let program = bpf::load_device_program(&only_null).map_err(kernel)?;
    let tag = bpf::program_tag(program.as_fd()).map_err(kernel)?;
    bpf::attach_device_program(directory.as_fd(), program.as_fd()).map_err(kernel)?;
    drop(program);
    assert_eq!(bpf::device_program_tags(directory.as_fd()), Ok(vec![tag]));
    assert_eq!(opened(group)?, "null\n", "another device opens");

    bpf::detach_device_programs(directory.as_fd()).map_err(kernel)?;
    assert_eq!(bpf::device_program_tags(directory.as_fd()), Ok(Vec::new()));
    assert_eq!(opened(group)?, both, "it outlives its end");
    Ok(())
}

fn opened(group: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(group)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn mounted() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}
