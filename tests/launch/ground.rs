//! What every case of this target launches with.

use std::sync::OnceLock;
use std::time::Duration;

use cloison_sandbox::{
    Error, Held, Init, Io, Kernel, Layer, LayerVerdict, NetworkNamespace, Plan, Prepared,
    SandboxName, Spec, Waivers, Weakening,
};

/// The first range of the default pool.
pub(crate) const IDS: u32 = 1_879_048_192;

/// A spec of the host's `/usr` that runs `command`.
pub(crate) fn spec(name: &str, command: &[&str]) -> Spec {
    let mut spec: Spec = serde_json::from_value(serde_json::json!({
        "name": name,
        "command": command,
        "ids": IDS,
    }))
    .unwrap();
    spec.name = SandboxName::new(name).unwrap();
    spec
}

/// The same without an init.
pub(crate) fn spec_without_init(name: &str, command: &[&str]) -> Spec {
    Spec {
        init: Init::Off,
        ..spec(name, command)
    }
}

/// This kernel, and what it is allowed to lack.
pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::probe().unwrap())
}

/// What may be lacking, where this kernel lacks it: what a case then cannot
/// show, it skips by name.
pub(crate) fn waivers() -> Waivers {
    let mut waivers = Waivers::none();
    for layer in Layer::ALL.into_iter().filter(|layer| layer.is_waivable()) {
        if let LayerVerdict::Unavailable(_) = kernel().verdict(layer, &Waivers::none()) {
            waivers
                .waive(layer, "the tests say what this host lacks")
                .unwrap();
        }
    }
    waivers
}

pub(crate) fn plan(spec: &Spec, weakenings: Vec<Weakening>) -> Result<Plan, Error> {
    let prepared = Prepared::with_network(spec, NetworkNamespace::create()?)?;
    Plan::weakened(
        spec,
        kernel(),
        &waivers(),
        prepared,
        Io::null()?,
        weakenings,
    )
}

pub(crate) fn hold(spec: &Spec, weakenings: Vec<Weakening>) -> Result<Held, Error> {
    plan(spec, weakenings)?.hold()
}

/// Tries `ready` until it says yes, for at most five seconds.
pub(crate) fn eventually(mut ready: impl FnMut() -> bool) -> bool {
    for _ in 0..500 {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
