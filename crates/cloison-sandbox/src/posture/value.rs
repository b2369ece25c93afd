//! What a field of a posture holds.

use std::collections::BTreeMap;
use std::fmt;

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use crate::Hierarchy;

/// What a field holds. All text in it is escaped, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing: the field is not known.
    Unknown,
    /// A number.
    Number(i64),
    /// In an expectation: any number but this one.
    OtherThan(i64),
    /// A set of bits.
    #[serde(serialize_with = "as_hexadecimal")]
    Bits(u64),
    /// A set of capabilities, as a mask.
    #[serde(serialize_with = "as_capabilities")]
    Capabilities(u64),
    /// An octal mode.
    #[serde(serialize_with = "as_octal")]
    Mode(u32),
    /// What a call gave: 0, or the error number.
    #[serde(serialize_with = "as_outcome")]
    Outcome(i32),
    /// Whose a thing is.
    Owner(Owner),
    /// Words of the kernel.
    Text(String),
    /// A list of those, sorted where the order says nothing.
    List(Vec<String>),
    /// A path in each hierarchy.
    Cgroups(BTreeMap<Hierarchy, String>),
    /// Mounts. Order says nothing.
    Mounts(Vec<MountEntry>),
    /// Descriptors by their number.
    Descriptors(Vec<DescriptorEntry>),
    /// Resource limits. Those not listed in an expectation may be anything.
    Limits(Vec<Limit>),
}

/// Whose a thing is that can be compared but not foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Neither the caller's nor the host's.
    Own,
    /// The same as the caller's.
    Caller,
    /// The same as that of the host's process 1.
    Host,
    /// There is none.
    Nobody,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MountEntry {
    /// Where it stands inside.
    pub mount_point: String,
    /// The file system. `None` in an expectation: whichever the tree has.
    pub fs_type: Option<String>,
    /// The device of the file system as stat(2) gives it. `None` in an
    /// expectation: whichever it is.
    pub device: Option<u64>,
    /// Its options, sorted, without `rw` and those about access times.
    pub options: Vec<String>,
    /// Whether it shares or receives mounts.
    pub is_propagating: bool,
}

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DescriptorEntry {
    /// Its number.
    pub number: u32,
    /// What its link in `/proc/PID/fd` says to the caller. `None` in an
    /// expectation: whatever it says.
    pub target: Option<String>,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Limit {
    /// The number of the resource, as setrlimit(2) takes it.
    pub resource: u32,
    /// The soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is none.
    pub hard: u64,
}

impl Limit {
    /// What `/proc/PID/limits` calls each resource, by its number.
    pub(super) const NAMES: [&'static str; 16] = [
        "Max cpu time",
        "Max file size",
        "Max data size",
        "Max stack size",
        "Max core file size",
        "Max resident set",
        "Max processes",
        "Max open files",
        "Max locked memory",
        "Max address space",
        "Max file locks",
        "Max pending signals",
        "Max msgqueue size",
        "Max nice priority",
        "Max realtime priority",
        "Max realtime timeout",
    ];
}

impl Value {
    /// The four ids of a process that has only one.
    #[must_use]
    pub fn ids(id: u32) -> Self {
        Self::List(vec![id.to_string(); 4])
    }

    /// Whether `found` is what `self` expects.
    pub(super) fn is_met_by(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::Mounts(expected), Self::Mounts(found)) => same_mounts(expected, found),
            (Self::Descriptors(expected), Self::Descriptors(found)) => {
                expected.len() == found.len()
                    && expected.iter().zip(found).all(|(expected, found)| {
                        expected.number == found.number
                            && is_any_or(&expected.target, &found.target)
                    })
            }
            (Self::Limits(expected), Self::Limits(found)) => {
                expected.iter().all(|limit| found.contains(limit))
            }
            (Self::OtherThan(number), Self::Number(found)) => number != found,
            (expected, found) => expected == found,
        }
    }
}

/// Whether each expected mount is found once, and no other.
fn same_mounts(expected: &[MountEntry], found: &[MountEntry]) -> bool {
    let mut left: Vec<&MountEntry> = found.iter().collect();
    for wanted in expected {
        let Some(position) = left.iter().position(|mount| {
            wanted.mount_point == mount.mount_point
                && is_any_or(&wanted.fs_type, &mount.fs_type)
                && is_any_or(&wanted.device, &mount.device)
                && wanted.options == mount.options
                && wanted.is_propagating == mount.is_propagating
        }) else {
            return false;
        };
        left.swap_remove(position);
    }
    left.is_empty()
}

fn is_any_or<T: PartialEq>(expected: &Option<T>, found: &Option<T>) -> bool {
    expected.is_none() || expected == found
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Number(number) => write!(f, "{number}"),
            Self::OtherThan(number) => write!(f, "other than {number}"),
            Self::Bits(bits) => write!(f, "{bits:#x}"),
            Self::Capabilities(mask) => join(f, capability_names(*mask)),
            Self::Mode(mode) => write!(f, "{mode:04o}"),
            Self::Outcome(0) => f.write_str("succeeds"),
            Self::Outcome(errno) => write!(f, "{:?}", Errno::from_raw(*errno)),
            Self::Owner(owner) => write!(f, "{owner}"),
            Self::Text(text) => f.write_str(text),
            Self::List(list) => join(f, list),
            Self::Cgroups(paths) => {
                join(f, paths.iter().map(|(name, path)| format!("{name}:{path}")))
            }
            Self::Mounts(mounts) => join(f, mounts),
            Self::Descriptors(descriptors) => join(f, descriptors),
            Self::Limits(limits) => join(f, limits),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "its own",
            Self::Caller => "the caller's",
            Self::Host => "the host's",
            Self::Nobody => "none",
        })
    }
}

impl fmt::Display for MountEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fs_type = self.fs_type.as_deref().unwrap_or("any");
        write!(f, "{} ({fs_type}", self.mount_point)?;
        for option in &self.options {
            write!(f, " {option}")?;
        }
        if self.is_propagating {
            f.write_str(" propagating")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for DescriptorEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}",
            self.number,
            self.target.as_deref().unwrap_or("any")
        )
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.resource)
            .ok()
            .and_then(|number| Self::NAMES.get(number))
        {
            Some(name) => f.write_str(name.trim_start_matches("Max "))?,
            None => write!(f, "resource {}", self.resource)?,
        }
        for limit in [self.soft, self.hard] {
            match limit {
                u64::MAX => f.write_str(" unlimited")?,
                limit => write!(f, " {limit}")?,
            }
        }
        Ok(())
    }
}

fn join<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: impl IntoIterator<Item = T>,
) -> fmt::Result {
    let mut is_empty = true;
    for part in parts {
        if !is_empty {
            f.write_str(", ")?;
        }
        is_empty = false;
        write!(f, "{part}")?;
    }
    if is_empty {
        f.write_str("none")
    } else {
        Ok(())
    }
}

fn capability_names(mask: u64) -> Vec<String> {
    (0..u64::BITS)
        .filter(|bit| mask >> bit & 1 == 1)
        .map(|bit| {
            caps::all()
                .into_iter()
                .find(|capability| u32::from(capability.index()) == bit)
                .map_or_else(|| bit.to_string(), |capability| capability.to_string())
        })
        .collect()
}

fn as_hexadecimal<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bits:#x}"))
}

fn as_octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn as_capabilities<S: Serializer>(mask: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(capability_names(*mask))
}

fn as_outcome<S: Serializer>(outcome: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Value::Outcome(*outcome))
}
