//! Several features tried in one process.

use cloison_linux::steps::{Op, Report};
use nix::errno::Errno;

use super::trial::{self, Answer, Trial};
use super::{Absence, Feature, KernelError, State};
use crate::kernel::probe::Found;
use crate::steps::StepList;

/// The TCP port that the self-report tries to bind: the kernel picks one. A
/// low one would be refused for want of a capability, also without Landlock.
const PORT: u64 = 0;

/// Adds the steps that try something.
pub(super) type Add = fn(&mut StepList) -> Result<(), Errno>;
/// Whether what was gathered shows that something worked.
pub(super) type Shows = fn(&Report) -> bool;

/// How one feature is tried.
pub(super) struct Try {
    pub(super) feature: Feature,
    /// What must work before it can be tried, here or earlier.
    pub(super) needs: &'static [Feature],
    /// Adds the steps.
    pub(super) add: Add,
    /// Whether what was gathered after all steps shows that it worked.
    pub(super) shows: Shows,
}

impl Try {
    /// One that works when its steps do.
    pub(super) fn new(feature: Feature, add: Add) -> Self {
        Self {
            feature,
            needs: &[],
            add,
            shows: |_| true,
        }
    }

    pub(super) fn needs(mut self, needs: &'static [Feature]) -> Self {
        self.needs = needs;
        self
    }

    pub(super) fn shows(mut self, shows: Shows) -> Self {
        self.shows = shows;
        self
    }
}

/// A last step that must fail, since a feature forbids what it does.
#[derive(Clone, Copy)]
pub(super) struct Denial {
    pub(super) feature: Feature,
    pub(super) add: Add,
    pub(super) errno: Errno,
}

/// Features that are tried one after another in the same process.
///
/// A step that fails ends the process and tells whose it was; that feature is
/// absent, and the others are tried again without it.
pub(super) struct Group {
    /// Flags of the clone, and the feature that they try.
    pub(super) clone: Option<(u64, Feature)>,
    pub(super) tries: Vec<Try>,
    pub(super) denial: Option<Denial>,
}

/// What one run said.
enum Run {
    /// All that is left was tried.
    Done,
    /// A feature was found absent: try the others again.
    Again,
}

/// A list of steps, and whose each one is.
struct Written {
    list: StepList,
    owners: Vec<Option<Feature>>,
    /// The step that must fail.
    denied: Option<usize>,
}

impl Group {
    /// Tries them all.
    pub(super) fn run(mut self, found: &mut Found) -> Result<(), KernelError> {
        loop {
            self.drop_untriable(found)?;
            if self.tries.is_empty() && self.clone.is_none() {
                return Ok(());
            }
            if let Run::Done = self.run_once(found)? {
                return Ok(());
            }
        }
    }

    /// Leaves out what cannot be tried without something absent.
    fn drop_untriable(&mut self, found: &mut Found) -> Result<(), KernelError> {
        let mut kept: Vec<Try> = Vec::with_capacity(self.tries.len());
        for tried in std::mem::take(&mut self.tries) {
            let missing = [Feature::Clone3].iter().chain(tried.needs).find(|need| {
                let here = kept.iter().any(|earlier| earlier.feature == **need);
                !here && !found.has(**need)
            });
            match missing {
                None => kept.push(tried),
                // What more of it could be tried, cannot: the rest counts.
                Some(_) if kept.iter().any(|t| t.feature == tried.feature) => {}
                Some(need) => found.absent(tried.feature, Absence::Needs(*need))?,
            }
        }
        self.tries = kept;
        if !found.has(Feature::Clone3)
            && let Some((_, feature)) = self.clone.take()
        {
            found.absent(feature, Absence::Needs(Feature::Clone3))?;
        }
        Ok(())
    }

    fn run_once(&mut self, found: &mut Found) -> Result<Run, KernelError> {
        let written = match self.write() {
            Ok(written) => written,
            Err((feature, errno)) => {
                found.refused(feature, errno)?;
                self.tries.retain(|tried| tried.feature != feature);
                return Ok(Run::Again);
            }
        };
        let trial = match Trial::start(&written.list) {
            Ok(trial) => trial,
            Err(errno) => {
                return match self.clone.take() {
                    Some((_, feature)) => {
                        found.refused(feature, errno)?;
                        Ok(Run::Again)
                    }
                    None => self.all_absent(found, Absence::Refused(errno)),
                };
            }
        };
        match trial.answer().map_err(KernelError::Unheard)? {
            Answer::Held(report) => {
                self.record(found, &report)?;
                if let (Some(denial), Some(_)) = (self.denial, written.denied) {
                    found.absent(denial.feature, Absence::Powerless)?;
                }
                Ok(Run::Done)
            }
            Answer::Failed(report) => self.failed(found, &written, &report),
            Answer::Silent | Answer::Stuck => self.all_absent(found, Absence::NoAnswer),
        }
    }

    fn write(&self) -> Result<Written, (Feature, Errno)> {
        let mut list = trial::list(self.clone.map_or(0, |(flags, _)| flags));
        let mut owners = vec![None; list.steps().len()];
        for tried in &self.tries {
            (tried.add)(&mut list).map_err(|errno| (tried.feature, errno))?;
            owners.resize(list.steps().len(), Some(tried.feature));
        }
        // Only where Landlock is tried are the capabilities gone with which
        // the device node would come to be.
        let tries_node = self
            .tries
            .iter()
            .any(|tried| tried.feature == Feature::LandlockFiles);
        let node = u64::from(tries_node);
        list.push(None, Op::Gather, [PORT.into(), node.into()]);
        owners.push(None);
        let denial = self
            .denial
            .filter(|denial| self.tries.iter().any(|t| t.feature == denial.feature));
        let mut denied = None;
        if let Some(denial) = denial {
            (denial.add)(&mut list).map_err(|errno| (denial.feature, errno))?;
            owners.resize(list.steps().len(), Some(denial.feature));
            denied = list.steps().len().checked_sub(1);
        }
        list.push(None, Op::Report, []);
        Ok(Written {
            list,
            owners,
            denied,
        })
    }

    /// Everything that is left worked, as far as steps show it.
    fn record(&self, found: &mut Found, report: &Report) -> Result<(), KernelError> {
        if let Some((_, feature)) = self.clone {
            found.present(feature);
        }
        for tried in &self.tries {
            if (tried.shows)(report) {
                found.present(tried.feature);
            } else {
                found.absent(tried.feature, Absence::Powerless)?;
            }
        }
        Ok(())
    }

    fn failed(
        &mut self,
        found: &mut Found,
        written: &Written,
        report: &Report,
    ) -> Result<Run, KernelError> {
        let step = report.step as usize;
        let errno = Errno::from_raw(report.errno);
        if written.denied == Some(step)
            && let Some(denial) = self.denial
        {
            self.record(found, report)?;
            if errno != denial.errno {
                // It got further than it should.
                found.absent(denial.feature, Absence::Powerless)?;
            }
            return Ok(Run::Done);
        }
        let Some(Some(owner)) = written.owners.get(step).copied() else {
            return self.all_absent(found, Absence::Refused(errno));
        };
        found.refused(owner, errno)?;
        self.tries.retain(|tried| tried.feature != owner);
        Ok(Run::Again)
    }

    fn all_absent(&self, found: &mut Found, absence: Absence) -> Result<Run, KernelError> {
        for feature in self.tries.iter().map(|tried| tried.feature) {
            found.absent(feature, absence)?;
        }
        if let Some((_, feature)) = self.clone {
            found.absent(feature, absence)?;
        }
        Ok(Run::Done)
    }
}

impl Found {
    fn present(&mut self, feature: Feature) {
        // A feature may be tried in several ways: the one that failed counts.
        if !matches!(self.state(feature), Some(State::Absent(_))) {
            self.set(feature, State::Present);
        }
    }
}
