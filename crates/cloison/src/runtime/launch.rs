//! A sandbox that outlives whoever launches it.

use std::time::Duration;

use cloison_sandbox::{
    Hierarchies, Init, Io, Kernel, Plan, Prepared, Sandbox, Spec, Streams, Waivers,
};

use super::{Keeper, Registration, Runtime, Wanted};
use crate::error::Error;

/// What a launch goes by.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// What the kernel can give.
    pub kernel: &'a Kernel,
    /// What the host goes without.
    pub waivers: &'a Waivers,
    /// Where its cgroups are.
    pub hierarchies: &'a Hierarchies,
}

impl Runtime {
    /// Takes name and ids of a sandbox that is to outlive whoever launches it.
    ///
    /// # Errors
    /// [`Error::RunsAlready`], [`Error::IdsTaken`]; [`Error::Launch`]: the spec
    /// names no ids; [`Error::Locked`] once `patience` is over; [`Error::Path`].
    pub fn register_alone(
        &self,
        spec: &Spec,
        ground: Ground<'_>,
        patience: Duration,
    ) -> Result<Registration, Error> {
        let ids = spec.ids.ok_or(cloison_sandbox::Refused::NoIds);
        let wanted = Wanted::Ids(ids.map_err(|refused| Error::Launch(refused.into()))?);
        let exclusive = self.lock_for(patience)?;
        let keeper = Keeper::Itself;
        self.again()?
            .register(exclusive, &spec.name, wanted, keeper, ground.hierarchies)
    }
}

impl Registration {
    /// Launches what `spec` says, and leaves it to itself. On any error nothing
    /// of it is left, nor if this process dies before it returns: whoever comes
    /// next removes it then.
    ///
    /// # Errors
    /// [`Error::Launch`]: the sandbox was refused, or a step failed.
    pub fn launch(
        mut self,
        spec: &Spec,
        ground: Ground<'_>,
        streams: Streams,
    ) -> Result<Sandbox, Error> {
        let mut prepared = Prepared::beneath(ground.hierarchies, spec).map_err(Error::Launch)?;
        if spec.init == Init::On {
            prepared.exec = Some(self.exec_listener()?);
        }
        let io = Io {
            streams,
            sockets: Vec::new(),
        };
        let held = Plan::new(spec, ground.kernel, ground.waivers, prepared, io)
            .and_then(Plan::hold)
            .map_err(Error::Launch)?;
        self.note(&held)?;
        let sandbox = held.start().map_err(Error::Launch)?;
        match self.leave() {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                // Nobody would find it again.
                match sandbox.remove() {
                    Ok(_) | Err(_) => {}
                }
                Err(error)
            }
        }
    }
}
