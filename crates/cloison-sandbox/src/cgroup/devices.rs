//! Which devices the processes of a cgroup may open: version 1 by a list,
//! version 2 by a program that the kernel asks.

use std::os::fd::{AsFd, BorrowedFd};

use cloison_linux::bpf::{self, DeviceRule};
use nix::errno::Errno;

use super::limits::Directories;
use super::placement::{Placement, keeper, read, write};
use super::{CgroupError, CgroupStep, Version};
use crate::kernel::Feature;
use crate::posture::Value;
use crate::proc::escaped;
use crate::proc::fields::lines;
use crate::spawner::errno;

/// The controller of version 1.
const CONTROLLER: &str = "devices";

/// The nodes that a server has of its own, which may be made, too.
const NODES: [(u32, u32); 6] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];

/// The multiplexer of its pseudo-terminals.
const MULTIPLEXER: (u32, u32) = (5, 2);
/// Pseudo-terminals.
const TERMINALS: u32 = 136;

/// What is allowed, one kind of access after the other: a list of version 1
/// must allow each in one line of its own.
fn rules() -> impl Iterator<Item = DeviceRule> {
    let nodes = NODES.into_iter().flat_map(|(major, minor)| {
        [bpf::READ | bpf::WRITE, bpf::MAKE].map(|access| DeviceRule {
            major,
            minor: Some(minor),
            access,
        })
    });
    let (major, minor) = MULTIPLEXER;
    let terminals = [(major, Some(minor)), (TERMINALS, None)];
    let terminals = terminals.map(|(major, minor)| DeviceRule {
        major,
        minor,
        access: bpf::READ | bpf::WRITE,
    });
    nodes.chain(terminals)
}

/// As version 1 is told.
fn line(rule: DeviceRule, access: u32) -> String {
    let minor = rule.minor.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let letters = [(bpf::READ, 'r'), (bpf::WRITE, 'w'), (bpf::MAKE, 'm')];
    let letters = letters.iter().filter(|(bit, _)| access & bit != 0);
    let letters: String = letters.map(|(_, letter)| *letter).collect();
    format!("c {}:{minor} {letters}", rule.major)
}

/// As version 1 then shows: what is allowed of one device in one line.
fn shown() -> Vec<String> {
    let mut all: Vec<(u32, Option<u32>, u32)> = Vec::new();
    for rule in rules() {
        let same = |(major, minor, _): &&mut (u32, Option<u32>, u32)| {
            (*major, *minor) == (rule.major, rule.minor)
        };
        match all.iter_mut().find(same) {
            Some((_, _, access)) => *access |= rule.access,
            None => all.push((rule.major, rule.minor, rule.access)),
        }
    }
    let mut lines: Vec<String> = all
        .into_iter()
        .map(|(major, minor, access)| {
            let rule = DeviceRule {
                major,
                minor,
                access,
            };
            line(rule, access)
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// How a cgroup keeps devices away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceControl {
    /// By the list of version 1.
    List,
    /// By a program, with this tag.
    Program(String),
}

impl DeviceControl {
    /// Allows the devices of a server and denies all others.
    ///
    /// # Errors
    /// [`CgroupError::Lacking`], [`CgroupError::Step`].
    pub(super) fn apply(placements: &[Placement]) -> Result<Self, CgroupError> {
        let (version, placement) = kept_at(placements)?;
        let failed = |source| placement.failed(CgroupStep::AllowDevices, source);
        if version == Version::V1 {
            write(placement.directory(), c"devices.deny", b"a").map_err(failed)?;
            for rule in rules() {
                let line = line(rule, rule.access);
                write(placement.directory(), c"devices.allow", line.as_bytes()).map_err(failed)?;
            }
            return Ok(Self::List);
        }
        let rules: Vec<DeviceRule> = rules().collect();
        let program = bpf::load_device_program(&rules).map_err(errno);
        let program = program.map_err(|source| match source {
            // Not built, or not for this caller.
            Errno::ENOSYS | Errno::EINVAL => CgroupError::Lacking {
                feature: Feature::DeviceControl,
            },
            source => failed(source),
        })?;
        let tag = bpf::program_tag(program.as_fd()).map_err(errno);
        let tag = tag.map_err(failed)?;
        bpf::attach_device_program(placement.directory(), program.as_fd())
            .map_err(errno)
            .map_err(failed)?;
        Ok(Self::Program(shown_program(tag)))
    }

    /// What [`found`] should find.
    pub(super) fn expected(&self) -> Value {
        match self {
            Self::List => Value::List(shown()),
            Self::Program(tag) => Value::List(vec![tag.clone()]),
        }
    }
}

/// Takes away what keeps devices away: for a control.
pub(super) fn lift(placements: &[Placement]) -> Result<(), CgroupError> {
    let (version, placement) = kept_at(placements)?;
    let failed = |source| placement.failed(CgroupStep::AllowDevices, source);
    if version == Version::V2 {
        return bpf::detach_device_programs(placement.directory())
            .map_err(errno)
            .map_err(failed);
    }
    let above = read(placement.parent(), c"devices.list").map_err(failed)?;
    for rule in lines(&above) {
        // All in the words of the list is another word for whoever allows it.
        let rule = if rule == b"a *:* rwm" { b"a" } else { rule };
        write(placement.directory(), c"devices.allow", rule).map_err(failed)?;
    }
    Ok(())
}

/// Where devices are kept away.
fn kept_at(placements: &[Placement]) -> Result<(Version, &Placement), CgroupError> {
    keeper(placements, CONTROLLER).ok_or(CgroupError::Lacking {
        feature: Feature::DeviceControl,
    })
}

/// What keeps devices away from the processes of a cgroup: the list of version
/// 1, or the programs of version 2 by their tags.
pub(crate) fn found(directories: &Directories<'_>) -> Result<Value, Errno> {
    let Some((version, directory)) = directories.keeper(CONTROLLER) else {
        return Ok(Value::List(Vec::new()));
    };
    let mut all = match version {
        Version::V1 => {
            let list = read(directory, c"devices.list")?;
            lines(&list).map(escaped).collect()
        }
        Version::V2 => programs(directory)?,
    };
    all.sort_unstable();
    Ok(Value::List(all))
}

fn programs(directory: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let tags = bpf::device_program_tags(directory).map_err(errno)?;
    Ok(tags.into_iter().map(shown_program).collect())
}

fn shown_program(tag: [u8; 8]) -> String {
    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("program {tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_version_1_is_shown_device_by_device() {
        let told: Vec<String> = rules().map(|rule| line(rule, rule.access)).collect();
        assert_eq!(told.len(), 14);
        assert_eq!(told.first().map(String::as_str), Some("c 1:3 rw"));
        assert_eq!(told.get(1).map(String::as_str), Some("c 1:3 m"));
        assert_eq!(
            shown(),
            [
                "c 136:* rw",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:2 rw",
            ]
        );
    }

    #[test]
    fn without_a_hierarchy_there_is_no_device_control() {
        let feature = Feature::DeviceControl;
        assert_eq!(
            DeviceControl::apply(&[]),
            Err(CgroupError::Lacking { feature })
        );
        let none = Directories::new([]);
        assert_eq!(found(&none), Ok(Value::List(Vec::new())));
    }
}
