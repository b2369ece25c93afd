//! Launches of `cloison-sandbox`, with every layer and the read-back.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    ExitStatus, Init, Io, Kernel, Layer, NetworkNamespace, Plan, Prepared, Spec, Waivers,
};
use serde_json::json;

use crate::measure::Timed;
use crate::noop;

/// The ids that a benchmark's sandbox owns.
const IDS: u32 = 1_879_048_192;

/// Who is the parent of a sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The spawner.
    Spawner,
    /// The caller itself.
    Directly,
}

/// Up to where a launch is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The first program, command or init, is executed.
    Started,
    /// The command has ended and its status is known.
    Ended,
}

/// What all launches of a run have in common.
pub(crate) struct Common {
    pub(crate) spec: Spec,
    kernel: Kernel,
    waivers: Waivers,
}

impl Common {
    /// For sandboxes with that root, without init.
    pub(crate) fn new(root: &Path, name: &str) -> Result<Self, Box<dyn Error>> {
        let spec = serde_json::from_value(json!({
            "name": name,
            "command": [noop::PATH],
            "ids": IDS,
            "init": "off",
            "root": { "directory": { "path": root } },
        }))?;
        let mut waivers = Waivers::none();
        for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
            waivers.waive(layer, "this host may lack it")?;
        }
        Ok(Self {
            spec,
            kernel: Kernel::probe()?,
            waivers,
        })
    }

    /// The layers that these launches go without, in words.
    pub(crate) fn left_out(&self) -> String {
        let out: Vec<String> = Layer::ALL
            .into_iter()
            .filter_map(|layer| match self.kernel.verdict(layer, &self.waivers) {
                cloison_sandbox::LayerVerdict::Applied => None,
                verdict => Some(format!("{layer} ({verdict:?})")),
            })
            .collect();
        if out.is_empty() {
            "none".to_owned()
        } else {
            out.join(", ")
        }
    }

    pub(crate) fn prepared(&self) -> Result<Prepared, Box<dyn Error>> {
        Ok(Prepared::new(&self.spec)?)
    }
}

/// One kind of launch, with what was made beforehand.
pub(crate) struct Launch<'a> {
    common: &'a Common,
    spec: Spec,
    prepared: Option<Prepared>,
    way: Way,
    until: Until,
    makes_network: bool,
}

impl<'a> Launch<'a> {
    /// Without init, through the spawner, everything prepared beforehand.
    pub(crate) fn new(common: &'a Common, name: &str) -> Result<Self, Box<dyn Error>> {
        let mut spec = common.spec.clone();
        spec.name = cloison_sandbox::SandboxName::new(name)?;
        Ok(Self {
            common,
            prepared: Some(Prepared::new(&spec)?),
            spec,
            way: Way::Spawner,
            until: Until::Ended,
            makes_network: false,
        })
    }

    pub(crate) fn with_init(mut self) -> Self {
        self.spec.init = Init::On;
        self
    }

    pub(crate) fn directly(mut self) -> Self {
        self.way = Way::Directly;
        self
    }

    pub(crate) fn until_started(mut self) -> Self {
        self.until = Until::Started;
        self
    }

    /// The network namespace is made inside the measured time.
    pub(crate) fn making_network(mut self) -> Self {
        self.makes_network = true;
        self
    }

    pub(crate) fn launch(&mut self) -> Timed {
        let mut prepared = self.prepared.take().ok_or("a launch before failed")?;
        let io = Io::null()?;
        let begun = Instant::now();
        if self.makes_network {
            prepared.network = NetworkNamespace::create()?;
        }
        let Common {
            kernel, waivers, ..
        } = self.common;
        let plan = Plan::new(&self.spec, kernel, waivers, prepared, io)?;
        let held = match self.way {
            Way::Spawner => plan.hold()?,
            Way::Directly => plan.hold_directly()?,
        };
        let mut sandbox = held.start()?;
        let started = begun.elapsed();
        let status = sandbox.wait()?;
        let ended = begun.elapsed();
        if status != ExitStatus::Exited(0) {
            return Err(format!("the no-op ended with {status:?}").into());
        }
        self.prepared = Some(sandbox.into_prepared()?);
        let time: Duration = match self.until {
            Until::Started => started,
            Until::Ended => ended,
        };
        Ok(time)
    }
}
