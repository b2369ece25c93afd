//! What the kernel of this host can do.

use cloison_sandbox::Kernel;

use crate::error::Error;

/// Tries every feature.
pub(crate) fn of_this_host() -> Result<Kernel, Error> {
    Ok(Kernel::probe()?)
}
