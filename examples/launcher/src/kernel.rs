//! What the kernel of this host can do.

use cloison_sandbox::{Feature, Kernel};

use crate::error::Error;

/// What this kernel can do.
pub(crate) fn of_this_host() -> Result<Kernel, Error> {
    Ok(Kernel::complete()
        .without(Feature::CoreScheduling)
        .without(Feature::StoreBypassControl))
}
