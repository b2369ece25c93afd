//! What encloses a process: expected, or read back.
//!
//! A plan fills a [`Posture`] with what it expects; the held sandbox is read
//! into another, and [`Posture::differences`] of the two must be empty before
//! anything foreign runs. `inspect` reads the same of a running process.

mod field;
mod knowledge;
mod mounts;
mod read;
mod report;
mod root;
mod status;
mod value;
mod vantage;

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::Serialize;

pub use field::Field;
pub use knowledge::{Knowledge, Reason};
pub use report::SelfReport;
pub(crate) use root::tenant_ranges;
pub use value::{DescriptorEntry, Limit, MountEntry, Owner, Value};
pub use vantage::Vantage;

pub(crate) use read::LIMITS;

use crate::{Cgroup, Layer};

/// What encloses a process, field by field.
///
/// Holding one tells you what was planned, or what the kernel and the process
/// said at one moment. It does not tell you that a running process is still
/// enclosed so: it may have added to it, or given up what it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Posture {
    /// In the order of the fields, each at most once.
    facts: Vec<Fact>,
}

/// One field of a posture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    layer: Layer,
    field: Field,
    value: Value,
    known: Knowledge,
}

/// A field that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What was expected.
    pub expected: Fact,
    /// What was found; `None` if nothing was said of the field at all.
    pub found: Option<Fact>,
}

/// Why a process could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostureError {
    /// There is no such process, or it has ended.
    #[error("there is no process {0}")]
    Gone(Pid),
    /// Its directory in `/proc` could not be opened.
    #[error("process {pid} cannot be looked at")]
    Refused {
        /// The process.
        pid: Pid,
        /// What the kernel said.
        source: Errno,
    },
}

impl Posture {
    /// A posture without any field, for a plan to fill.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects `field` to be `value`, known in the way that it can be of a
    /// held sandbox. The last word on a field counts.
    pub fn expect(&mut self, field: Field, value: Value) -> &mut Self {
        let fact = match field.knowledge() {
            Knowledge::Unreadable(reason) => Fact::unreadable(field, reason),
            known => Fact::new(field, value, known),
        };
        match self.position(field) {
            Ok(position) => {
                if let Some(old) = self.facts.get_mut(position) {
                    *old = fact;
                }
            }
            Err(position) => self.facts.insert(position, fact),
        }
        self
    }

    /// Expects the fields of `layer` that nobody can know to stay unknown.
    pub fn expect_unreadable(&mut self, layer: Layer) -> &mut Self {
        for field in Field::of(layer) {
            if matches!(field.knowledge(), Knowledge::Unreadable(_)) {
                self.expect(*field, Value::Unknown);
            }
        }
        self
    }

    /// Expects nothing of `layer`: it was waived, or left out.
    pub fn forget(&mut self, layer: Layer) -> &mut Self {
        self.facts.retain(|fact| fact.layer != layer);
        self
    }

    /// The fields of `layers` of which nothing is said. A plan that has any
    /// would not notice a broken step.
    #[must_use]
    pub fn uncovered(&self, layers: &[Layer]) -> Vec<Field> {
        layers
            .iter()
            .flat_map(|layer| Field::of(*layer))
            .copied()
            .filter(|field| self.fact(*field).is_none())
            .collect()
    }

    /// Looks at process `pid` in `proc`, a proc of the caller's own pid
    /// namespace. `report` is what it said of itself while it was held.
    ///
    /// A field that cannot be read is in it, as unreadable. Whoever calls it
    /// holds the process's pidfd, and asks it afterwards whether the process
    /// still lives: only then was `pid` this process all the time.
    ///
    /// # Errors
    /// [`PostureError::Gone`] and [`PostureError::Refused`].
    ///
    /// # Source
    /// proc(5)
    pub fn read(
        proc: impl AsFd,
        pid: Pid,
        vantage: &Vantage,
        report: Option<&SelfReport>,
    ) -> Result<Self, PostureError> {
        let mut reading = Reading::begin(proc, pid)?;
        reading.enclosure(vantage);
        reading.limits(None);
        Ok(reading.finish(vantage, report))
    }

    /// Every field, in the order of the layers.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    /// The fact of `field`.
    #[must_use]
    pub fn fact(&self, field: Field) -> Option<&Fact> {
        self.position(field)
            .ok()
            .and_then(|position| self.facts.get(position))
    }

    /// Where `self` is not as `expected`. What `expected` says nothing of is
    /// no difference; what it expects to be known must be known, in the same
    /// way.
    #[must_use]
    pub fn differences(&self, expected: &Self) -> Vec<Difference> {
        expected
            .facts
            .iter()
            .filter_map(|expected| {
                let found = self.fact(expected.field);
                let is_met = found.is_some_and(|found| {
                    found.known == expected.known && expected.value.is_met_by(&found.value)
                });
                (!is_met).then(|| Difference {
                    expected: expected.clone(),
                    found: found.cloned(),
                })
            })
            .collect()
    }

    fn position(&self, field: Field) -> Result<usize, usize> {
        self.facts.binary_search_by_key(&field, |fact| fact.field)
    }
}

impl Fact {
    fn new(field: Field, value: Value, known: Knowledge) -> Self {
        Self {
            layer: field.layer(),
            field,
            value,
            known,
        }
    }

    fn unreadable(field: Field, reason: Reason) -> Self {
        Self::new(field, Value::Unknown, Knowledge::Unreadable(reason))
    }

    fn read(field: Field, value: Result<Value, Reason>) -> Self {
        match value {
            Ok(value) => Self::new(field, value, Knowledge::Read),
            Err(reason) => Self::unreadable(field, reason),
        }
    }

    /// The layer that it tells of.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// The field.
    #[must_use]
    pub fn field(&self) -> Field {
        self.field
    }

    /// What the field holds.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// How it is known.
    #[must_use]
    pub fn known(&self) -> Knowledge {
        self.known
    }
}

/// A process while it is looked at.
pub(crate) struct Reading {
    process: OwnedFd,
    facts: Vec<Fact>,
}

impl Reading {
    /// Opens the process's directory.
    pub(crate) fn begin(proc: impl AsFd, pid: Pid) -> Result<Self, PostureError> {
        let name = CString::new(pid.to_string()).map_err(|_nul| PostureError::Gone(pid))?;
        let process = openat(
            proc,
            name.as_c_str(),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| match errno {
            Errno::ENOENT | Errno::ESRCH => PostureError::Gone(pid),
            source => PostureError::Refused { pid, source },
        })?;
        Ok(Self {
            process,
            facts: Vec::with_capacity(Field::ALL.len()),
        })
    }

    /// Reads namespaces, mounts, ids and cgroups: what a child of ours no
    /// longer changes once it has announced them.
    pub(crate) fn enclosure(&mut self, vantage: &Vantage) {
        read::enclosure(self.process.as_fd(), vantage, &mut self.facts);
    }

    /// Reads what its cgroup keeps: `cgroup`, where that is known to be it.
    pub(crate) fn limits(&mut self, cgroup: Option<&Cgroup>) {
        match cgroup {
            Some(cgroup) => read::limits(&cgroup.directories(), &mut self.facts),
            None => read::limits_of(self.process.as_fd(), &mut self.facts),
        }
    }

    /// Reads the rest.
    pub(crate) fn finish(mut self, vantage: &Vantage, report: Option<&SelfReport>) -> Posture {
        read::process(self.process.as_fd(), &mut self.facts);
        report::facts(report, vantage, &mut self.facts);
        self.facts.sort_by_key(|fact| fact.field);
        Posture { facts: self.facts }
    }
}

/// One line a field: layer, field, value, how it is known.
impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fact in &self.facts {
            writeln!(
                f,
                "{:<20} {:<28} {}  [{}]",
                fact.layer.name(),
                fact.field.name(),
                fact.value,
                fact.known
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fact {
            layer,
            field,
            value,
            known,
        } = &self.expected;
        write!(f, "{layer}: {} should be {value} ({known})", field.name())?;
        match &self.found {
            Some(found) => write!(f, " and is {} ({})", found.value, found.known),
            None => f.write_str(" and was not looked at"),
        }
    }
}
