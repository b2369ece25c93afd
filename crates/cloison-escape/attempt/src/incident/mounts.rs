//! Mounts: new ones, read-only ones made writable, namespaces to do it in.
//! What is tried here goes no further than the own root of the attacker.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;

use super::attacker::Tally;
use super::calls;

const MS_BIND_REMOUNT: i64 = 0x1020;
const CLONE_NEWNS: i64 = 0x0002_0000;
const CLONE_NEWUSER: i64 = 0x1000_0000;

/// Tries every mount that is to be seen, then new ones.
pub(super) fn reach() -> Tally {
    let mut tally = Tally::default();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.chain(["/"]) {
        if let Ok(point) = CString::new(point) {
            tally.count(&calls::clear_read_only(&point));
            tally.count(&calls::mount(c"none", &point, c"", MS_BIND_REMOUNT));
        }
    }
    mount_anew(&mut tally);
    for name in ["mnt", "user", "pid"] {
        let namespace = File::open(format!("/proc/1/ns/{name}"));
        let joined = namespace
            .map_err(|error| error.raw_os_error().unwrap_or(0))
            .and_then(|namespace| calls::setns(namespace.as_raw_fd()));
        tally.count(&joined);
    }
    // Last, since it changes what the ways above mean.
    tally.count(&calls::unshare(CLONE_NEWNS));
    tally.count(&calls::unshare(CLONE_NEWUSER | CLONE_NEWNS));
    mount_anew(&mut tally);
    tally
}

fn mount_anew(tally: &mut Tally) {
    for kind in [c"tmpfs", c"proc", c"sysfs", c"mqueue", c"cgroup", c"devpts"] {
        tally.count(&calls::fsopen(kind));
        let mounted = calls::mount(c"none", c"/tmp", kind, 0);
        tally.count(&mounted);
        if mounted.is_ok() {
            tally.count(&calls::unmount(c"/tmp"));
        }
    }
}
