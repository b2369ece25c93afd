//! What the kernel of this host can do.

use cloison_sandbox::{Kernel, Layer, Waivers};

use crate::error::Error;

/// Tries every feature: some forty milliseconds, for a question or an error.
pub(crate) fn probed() -> Result<Kernel, Error> {
    Ok(Kernel::probe()?)
}

/// Tries what may be missing; the launch itself tries the rest.
pub(crate) fn for_a_launch() -> Result<Kernel, Error> {
    Ok(Kernel::assume()?)
}

/// The error of a launch, or the missing feature that explains it better.
pub(crate) fn explained(error: cloison_sandbox::Error, waivers: &Waivers) -> Error {
    use cloison_sandbox::Error as Failed;
    let can_be_explained = matches!(
        error,
        Failed::Step { layer: Some(_), .. }
            | Failed::Prepare { .. }
            | Failed::Namespace(_)
            | Failed::Cgroup(_)
            | Failed::Spawn(_)
            | Failed::Died
            | Failed::PostureDiffers(_)
    );
    if !can_be_explained {
        return Error::Start(error);
    }
    // A probe that fails too explains nothing.
    match Kernel::probe().map(|kernel| kernel.require(&Layer::ALL, waivers)) {
        Ok(Err(missing)) => Error::Start(Box::new(missing).into()),
        Ok(Ok(())) | Err(_) => Error::Start(error),
    }
}
