//! Each layer's step broken in the child after planning: the launch must
//! notice, by the layer's own field or by a step that fails without it.

use cloison_sandbox::{Error, Layer, LayerVerdict, Weakening};
use cloison_tests::Outcome;

use crate::ground::{hold, kernel, spec, waivers};

/// How a broken layer comes to light.
#[derive(Debug, PartialEq, Eq)]
enum Noticed {
    /// By a field of its own.
    Red,
    /// By a step of this layer, which fails.
    Step(Layer),
}

fn expected(layer: Layer) -> Noticed {
    match layer {
        // The kernel takes neither a domain nor a filter from a process that
        // may still gain privileges.
        Layer::NoNewPrivs => Noticed::Step(Layer::LandlockFiles),
        _ => Noticed::Red,
    }
}

pub(crate) fn check(layer: Layer) -> Outcome {
    match kernel().verdict(layer, &waivers()) {
        LayerVerdict::Applied => {}
        other => return Outcome::Skipped(format!("{layer} is not applied here: {other:?}")),
    }
    let mut spec = spec("broken", &["/usr/bin/true"]);
    if layer == Layer::Sysfs {
        spec.sysfs = cloison_sandbox::Sysfs::ReadOnly;
    }
    let noticed = match hold(&spec, vec![Weakening::Broken(layer)]) {
        Ok(_) => return Outcome::Failed(format!("{layer} was broken and nobody noticed")),
        Err(Error::PostureDiffers(differences)) => {
            for difference in &differences {
                println!("{difference}");
            }
            if !differences.iter().any(|d| d.expected.layer() == layer) {
                return Outcome::Failed(format!("no field of {layer} turned red"));
            }
            Noticed::Red
        }
        Err(Error::Step {
            layer: Some(by), ..
        }) => Noticed::Step(by),
        Err(error) => return Outcome::Failed(format!("{layer}: {error:?}")),
    };
    // What was noticed is undone, and the whole plan still holds.
    match hold(&spec, Vec::new()) {
        Ok(_) if noticed == expected(layer) => Outcome::Passed,
        Ok(_) => Outcome::Failed(format!("{layer}: {noticed:?}")),
        Err(error) => Outcome::Failed(format!("the whole plan: {error:?}")),
    }
}
