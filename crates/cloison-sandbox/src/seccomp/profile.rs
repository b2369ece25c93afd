//! The profile as data, and its variants for controls.

use super::tree::{self, Leaf};
use super::{Filters, arguments, call_number};

include!(concat!(env!("OUT_DIR"), "/seccomp_app.rs"));

/// One above the highest number of the table.
const TABLE_END: usize = 512;
/// The bit that marks a call of the x32 architecture, and the end of its range.
const X32: std::ops::Range<u32> = 0x4000_0000..0x8000_0000;

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The kernel runs it, unless a [`Rule`] denies its arguments.
    Allow,
    /// EPERM.
    Deny,
    /// ENOSYS: programs take the way of an older kernel.
    Absent,
    /// The process ends with SIGSYS.
    Kill,
}

/// Calls that stand together for one reason.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The name in the data file.
    pub name: &'static str,
    /// What its calls are answered with.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
    /// Rows of the catalogue, CVEs, man pages; always there unless allowed.
    pub reference: Option<&'static str>,
    /// The numbers of its calls.
    pub calls: &'static [u32],
    /// Those of them that no program of the tests uses.
    pub kept: &'static [Kept],
}

/// Calls that are allowed although no program of the tests uses them.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The numbers of the calls.
    pub calls: &'static [u32],
    /// Why they are allowed.
    pub reason: &'static str,
    /// Some are used in some runs, as time or the processor have it.
    pub sometimes: bool,
}

/// A denial of allowed calls by their arguments.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name in the data file.
    pub name: &'static str,
    /// The numbers of the calls it looks at.
    pub calls: &'static [u32],
    /// Why.
    pub reason: &'static str,
    /// Rows of the catalogue, CVEs, man pages.
    pub reference: &'static str,
    /// Denied if all conditions of one of these hold.
    pub any: &'static [&'static [Condition]],
    /// Arguments that it denies, for tests.
    pub denied: &'static [[u32; 6]],
    /// Arguments that it lets through, for tests.
    pub allowed: &'static [[u32; 6]],
}

/// A comparison of the low 32 bits of one argument.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u32,
}

/// How an argument is compared, unsigned.
#[derive(Clone, Copy, Debug)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater or equal.
    AtLeast,
    /// Less or equal.
    AtMost,
    /// Equal after AND with this mask.
    Masked(u32),
}

/// Why a profile has no such variant or did not compile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The kernel's table has no call of this name.
    #[error("no system call is named {name}")]
    UnknownCall {
        /// The name asked for.
        name: String,
    },
    /// The profile has no rule of this name.
    #[error("the seccomp profile has no rule named {name}")]
    UnknownRule {
        /// The name asked for.
        name: String,
    },
    /// The rules do not fit a program.
    #[error("argument rules do not compile")]
    Arguments(#[from] seccompiler::BackendError),
}

/// A profile: the answer to each number, and the rules over arguments.
#[derive(Clone, Debug)]
pub struct Profile {
    verdicts: [Verdict; TABLE_END],
    pub(super) rules: Vec<&'static Rule>,
    foreign: Verdict,
}

impl Profile {
    /// The profile `app`.
    pub fn app() -> Self {
        let mut verdicts = [Verdict::Absent; TABLE_END];
        for group in GROUPS {
            for number in group.calls {
                if let Some(verdict) = verdicts.get_mut(*number as usize) {
                    *verdict = group.verdict;
                }
            }
        }
        Self {
            verdicts,
            rules: RULES.iter().collect(),
            foreign: Verdict::Kill,
        }
    }

    /// Every group of the data file.
    pub fn groups() -> &'static [Group] {
        GROUPS
    }

    /// The rules that this profile applies.
    pub fn rules(&self) -> &[&'static Rule] {
        &self.rules
    }

    /// The answer to a number of the native architecture.
    pub fn verdict(&self, number: u32) -> Verdict {
        let known = usize::try_from(number)
            .ok()
            .and_then(|number| self.verdicts.get(number));
        match known {
            Some(verdict) => *verdict,
            None if X32.contains(&number) => self.foreign,
            None => Verdict::Absent,
        }
    }

    /// The answer to every call of another architecture.
    pub fn foreign_verdict(&self) -> Verdict {
        self.foreign
    }

    /// The profile without the denial of one call, for controls.
    ///
    /// # Errors
    /// [`ProfileError::UnknownCall`]
    #[doc(hidden)]
    pub fn allowing(mut self, name: &str) -> Result<Self, ProfileError> {
        let unknown = || ProfileError::UnknownCall {
            name: name.to_owned(),
        };
        let number = call_number(name).ok_or_else(unknown)?;
        let verdict = self.verdicts.get_mut(number as usize).ok_or_else(unknown)?;
        *verdict = Verdict::Allow;
        Ok(self)
    }

    /// The profile without one rule over arguments, for controls.
    ///
    /// # Errors
    /// [`ProfileError::UnknownRule`]
    #[doc(hidden)]
    pub fn without_rule(mut self, name: &str) -> Result<Self, ProfileError> {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.name != name);
        if self.rules.len() == before {
            return Err(ProfileError::UnknownRule {
                name: name.to_owned(),
            });
        }
        Ok(self)
    }

    /// The profile that lets i386 and x32 calls through, for controls.
    #[doc(hidden)]
    pub fn without_architecture_check(mut self) -> Self {
        self.foreign = Verdict::Allow;
        self
    }

    /// The programs that enforce this profile.
    ///
    /// # Errors
    /// [`ProfileError::Arguments`] if the rules do not fit a program.
    pub fn compile(&self) -> Result<Filters, ProfileError> {
        let ruled = arguments::by_call(&self.rules)?;
        let mut program = tree::compile(&self.ranges(&ruled), self.foreign);
        if !ruled.is_empty() {
            program.extend(arguments::compile(ruled)?);
        }
        Ok(Filters {
            programs: vec![program],
        })
    }

    /// Where the answer changes, ascending from 0.
    fn ranges(&self, ruled: &arguments::ByCall) -> Vec<(u32, Leaf)> {
        let leaf = |(number, verdict)| match verdict {
            Verdict::Allow if ruled.contains_key(&i64::from(number)) => (number, Leaf::Behind),
            _ => (number, Leaf::Answer(verdict)),
        };
        let table = (0..).zip(self.verdicts);
        let beyond = [
            (TABLE_END as u32, Verdict::Absent),
            (X32.start, self.foreign),
            (X32.end, Verdict::Absent),
        ];
        tree::merge(table.chain(beyond).map(leaf))
    }
}
