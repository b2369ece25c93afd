//! Trying what the kernel can do, in order.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{Absence, Feature, Kernel, State};
use super::{calls, cgroups, process, processor, users};

/// Why a kernel could not be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The caller has no descriptor, memory or process left to try with:
    /// what the kernel can do is not known.
    #[error("{feature} could not be tried, since the host or this program is out of resources")]
    Exhausted {
        /// What was being tried.
        feature: Feature,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// The process that tries things could not be heard.
    #[error("the process that tries the kernel could not be heard")]
    Unheard(#[source] Errno),
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    states: BTreeMap<Feature, State>,
}

impl Found {
    pub(super) fn state(&self, feature: Feature) -> Option<State> {
        self.states.get(&feature).copied()
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.state(feature) == Some(State::Present)
    }

    /// The first of `needs` that is not there.
    pub(super) fn missing(&self, needs: &[Feature]) -> Option<Feature> {
        needs.iter().copied().find(|need| !self.has(*need))
    }

    pub(super) fn set(&mut self, feature: Feature, state: State) {
        self.states.insert(feature, state);
    }

    /// The kernel refused `feature`, or had nothing to try it with.
    pub(super) fn refused(&mut self, feature: Feature, errno: Errno) -> Result<(), KernelError> {
        self.absent(feature, Absence::Refused(errno))
    }

    pub(super) fn absent(&mut self, feature: Feature, absence: Absence) -> Result<(), KernelError> {
        if let Absence::Refused(
            errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN),
        ) = absence
        {
            return Err(KernelError::Exhausted { feature, errno });
        }
        // The first reason is the nearest.
        if !matches!(self.state(feature), Some(State::Absent(_))) {
            self.set(feature, State::Absent(absence));
        }
        Ok(())
    }

    pub(super) fn record(
        &mut self,
        feature: Feature,
        tried: Result<(), Absence>,
    ) -> Result<(), KernelError> {
        match tried {
            Ok(()) => {
                self.set(feature, State::Present);
                Ok(())
            }
            Err(absence) => self.absent(feature, absence),
        }
    }
}

impl Kernel {
    /// Tries every feature and uses what comes of it.
    ///
    /// Harmless and without trace: what changes a process is tried in some
    /// ten short-lived processes, what makes a mount is tried on mounts that
    /// are attached nowhere, and the one cgroup that is made (`cloison-probe`)
    /// is removed again. The calling process keeps its
    /// namespaces, its filters, its signals and its limits.
    ///
    /// It takes some milliseconds, and as many forks of the caller as there
    /// are processes: with gigabytes of memory in use that is a noticeable
    /// fraction of a second. So probe once and keep the value. The processes
    /// are children of the caller: where it counts on SIGCHLD it sees theirs.
    ///
    /// # Errors
    /// [`KernelError`]: nothing is known then. A feature that is missing is
    /// no error: the value says so.
    ///
    /// # Kernel
    /// It says on any what is missing, as long as `clone3(2)` is there; on an
    /// older one all else is taken to be missing as well.
    pub fn probe() -> Result<Self, KernelError> {
        let mut found = Found::default();
        process::try_clone(&mut found)?;
        calls::try_all(&mut found)?;
        process::ask_speculation(&mut found)?;
        process::ordinary(&found).run(&mut found)?;
        process::try_signal(&mut found)?;
        process::capabilities().run(&mut found)?;
        process::mounts().run(&mut found)?;
        process::confinement(&found).run(&mut found)?;
        process::try_execution(&mut found)?;
        users::try_namespace(&mut found)?;
        cgroups::try_all(&mut found)?;
        processor::settle(&mut found);
        Ok(Self {
            release: release(),
            states: found.states,
        })
    }

    /// Tries what a launch can do without or a host can waive, and takes the
    /// rest to be there: some ten calls, no process and no trace. For whoever
    /// launches once and ends.
    ///
    /// A plan made with it is no weaker: where the kernel lacks something, a
    /// step of the launch fails, or the posture that is read back differs.
    /// Then [`Kernel::probe`] finds what is missing, and the remedy.
    ///
    /// # Errors
    /// As [`Kernel::probe`].
    pub fn assume() -> Result<Self, KernelError> {
        let mut found = Found::default();
        calls::try_dispensable(&mut found)?;
        process::ask_speculation(&mut found)?;
        processor::settle(&mut found);
        for feature in Feature::ALL {
            found.states.entry(*feature).or_insert(State::Present);
        }
        Ok(Self {
            release: release(),
            states: found.states,
        })
    }
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
