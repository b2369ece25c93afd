//! The cgroup hierarchies of this machine, and where this process is in them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The controllers that limit a stage.
pub(super) const LIMITING: [&str; 3] = ["memory", "pids", "cpu"];

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The mount's type and the options that mount it again.
    pub(super) kind: Kind,
    /// Where it is mounted.
    pub(super) mount_point: PathBuf,
    /// The folder of this process's own cgroup.
    pub(super) own: PathBuf,
}

/// Which of the two interfaces a hierarchy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One with controllers, or with a name.
    V1 {
        /// As the second field of `/proc/PID/cgroup`.
        subsystems: String,
    },
    /// The unified one.
    V2,
}

impl Hierarchy {
    /// Reads all mounted hierarchies.
    ///
    /// # Source
    /// cgroups(7), proc_pid_mountinfo(5).
    pub(super) fn read_all() -> io::Result<Vec<Self>> {
        parse(
            &fs::read_to_string("/proc/self/cgroup")?,
            &fs::read("/proc/self/mountinfo")?,
        )
    }

    /// Whether this hierarchy is where `controller` is at work.
    pub(super) fn bears(&self, controller: &str) -> io::Result<bool> {
        match &self.kind {
            Kind::V1 { subsystems } => Ok(subsystems.split(',').any(|name| name == controller)),
            Kind::V2 => {
                let controllers = fs::read_to_string(self.own.join("cgroup.controllers"))?;
                Ok(controllers
                    .split_whitespace()
                    .any(|name| name == controller))
            }
        }
    }

    /// The type and the data that mount this hierarchy.
    pub(super) fn mount_arguments(&self) -> (&'static str, Option<String>) {
        match &self.kind {
            Kind::V1 { subsystems } if subsystems.starts_with("name=") => {
                ("cgroup", Some(format!("none,{subsystems}")))
            }
            Kind::V1 { subsystems } => ("cgroup", Some(subsystems.clone())),
            Kind::V2 => ("cgroup2", None),
        }
    }
}

struct CgroupMount {
    root: PathBuf,
    point: PathBuf,
    unified: bool,
    options: String,
}

fn parse(memberships: &str, mountinfo: &[u8]) -> io::Result<Vec<Hierarchy>> {
    let mounts = parse_mounts(mountinfo);
    let mut hierarchies = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(subsystems), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let of_this = |mount: &&CgroupMount| match subsystems {
            "" => mount.unified,
            _ => !mount.unified && subsystems.split(',').all(|name| has_option(mount, name)),
        };
        let place = mounts.iter().rev().filter(of_this).find_map(|mount| {
            let below = Path::new(path).strip_prefix(&mount.root).ok()?;
            Some((mount.point.clone(), mount.point.join(below)))
        });
        // A hierarchy that is mounted nowhere cannot be reached from inside
        // either, unless it is mounted anew, which the stage does for none.
        let Some((mount_point, own)) = place else {
            continue;
        };
        let kind = match subsystems {
            "" => Kind::V2,
            _ => Kind::V1 {
                subsystems: subsystems.to_owned(),
            },
        };
        hierarchies.push(Hierarchy {
            kind,
            mount_point,
            own,
        });
    }
    Ok(hierarchies)
}

fn has_option(mount: &CgroupMount, name: &str) -> bool {
    mount.options.split(',').any(|option| option == name)
}

fn parse_mounts(mountinfo: &[u8]) -> Vec<CgroupMount> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let separator = fields.iter().position(|field| *field == b"-")?;
            let unified = match *fields.get(separator + 1)? {
                b"cgroup" => false,
                b"cgroup2" => true,
                _ => return None,
            };
            Some(CgroupMount {
                root: unescape(fields.get(3)?),
                point: unescape(fields.get(4)?),
                unified,
                options: String::from_utf8_lossy(fields.get(separator + 3)?).into_owned(),
            })
        })
        .collect()
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// All cgroups beneath `folder`, the deepest first, `folder` last.
pub(super) fn descend(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        // A group may go while it is walked.
        let below = match fs::read_dir(folder) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in below {
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        next += 1;
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().as_bytes().len()));
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HYBRID: &str = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
    const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn own_groups_are_found_below_each_mounts_root() {
        let hierarchies = parse(HYBRID, MOUNTS).unwrap();
        let own: Vec<&str> = hierarchies
            .iter()
            .map(|hierarchy| hierarchy.own.to_str().unwrap())
            .collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/memory/b",
                "/sys/fs/cgroup/cpu/",
                "/sys/fs/cgroup/systemd/",
                "/sys/fs/cgroup/uni fied/"
            ]
        );
        assert_eq!(
            hierarchies[2].mount_arguments(),
            ("cgroup", Some("none,name=systemd".to_owned()))
        );
    }

    #[test]
    fn a_hierarchy_that_is_not_mounted_is_left_out() {
        assert_eq!(parse("3:blkio:/\n0::/\n", b"").unwrap(), []);
    }

    #[test]
    fn a_line_without_fields_is_refused() {
        assert!(parse("nonsense\n", MOUNTS).is_err());
    }
}
