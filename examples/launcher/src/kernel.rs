//! What the kernel of this host can do.

use cloison_sandbox::{Kernel, Layer, LayerVerdict, Waivers};

use crate::error::Error;

/// Tries every feature: some forty milliseconds, for a question or an error.
pub(crate) fn probed() -> Result<Kernel, Error> {
    Ok(Kernel::probe()?)
}

/// Tries what may be missing; the launch itself tries the rest.
pub(crate) fn for_a_launch() -> Result<Kernel, Error> {
    Ok(Kernel::assume()?)
}

/// The layers that a launch goes without by a waiver.
pub(crate) fn waived(kernel: &Kernel, waivers: &Waivers) -> Vec<Layer> {
    let verdicts = Layer::ALL.map(|layer| (layer, kernel.verdict(layer, waivers)));
    verdicts
        .into_iter()
        .filter_map(|(layer, verdict)| matches!(verdict, LayerVerdict::Waived(_)).then_some(layer))
        .collect()
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
