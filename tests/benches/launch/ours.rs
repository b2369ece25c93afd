//! Launches of `cloison-sandbox`, with every layer and the read-back.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    ExitStatus, Init, Io, Kernel, Layer, NetworkNamespace, Plan, Prepared, Spec, Waivers, Weakening,
};
use serde_json::json;

use crate::measure::Timed;
use crate::noop;

/// The ids that a benchmark's sandbox owns.
const IDS: u32 = 1_879_048_192;

/// The layers that a host may lack without making the others unmeasurable.
const WAIVED: [Layer; 2] = [Layer::CoreScheduling, Layer::SpeculationControl];
const REASON: &str = "this host may lack it";

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
    pub(crate) kernel: Kernel,
    pub(crate) waivers: Waivers,
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
        for layer in WAIVED {
            waivers.waive(layer, REASON)?;
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

    /// Whether these launches have the layer.
    pub(crate) fn applies(&self, layer: Layer) -> bool {
        let verdict = self.kernel.verdict(layer, &self.waivers);
        matches!(verdict, cloison_sandbox::LayerVerdict::Applied)
    }

    /// The `host.toml` that says the same to the launcher.
    pub(crate) fn host_file() -> String {
        let mut text = "[waive]\n".to_owned();
        for layer in WAIVED {
            text.push_str(&format!("{layer} = \"{REASON}\"\n"));
        }
        text
    }

    pub(crate) fn prepared(&self) -> Result<Prepared, Box<dyn Error>> {
        let network = NetworkNamespace::create()?;
        Ok(Prepared::with_network(&self.spec, network)?)
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
    /// The layers that it goes without.
    without: &'static [Layer],
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
            without: &[],
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

    /// A network namespace is made inside the measured time.
    pub(crate) fn making_network(mut self) -> Self {
        self.makes_network = true;
        self
    }

    /// Some layers are left out, which no user of the library can ask for.
    pub(crate) fn without(mut self, layers: &'static [Layer]) -> Self {
        self.without = layers;
        self
    }

    pub(crate) fn launch(&mut self) -> Timed {
        let phases = self.phases()?;
        Ok(match self.until {
            Until::Started => phases.until_started(),
            Until::Ended => phases.until_started() + phases.wait,
        })
    }

    /// One launch, with the time of each part.
    pub(crate) fn phases(&mut self) -> Result<Phases, Box<dyn Error>> {
        let mut prepared = self.prepared.take().ok_or("a launch before failed")?;
        let io = Io::null()?;
        let mut watch = Watch(Instant::now());
        if self.makes_network {
            // The launch makes another.
            drop(prepared.network.take());
            watch.lap();
        }
        let Common {
            kernel, waivers, ..
        } = self.common;
        let left_out = self.without.iter().copied().map(Weakening::Without);
        let left_out = left_out.collect();
        let plan = Plan::weakened(&self.spec, kernel, waivers, prepared, io, left_out)?;
        let planned = watch.lap();
        let held = match self.way {
            Way::Spawner => plan.hold()?,
            Way::Directly => plan.hold_directly()?,
        };
        let hold = watch.lap();
        let mut sandbox = held.start()?;
        let start = watch.lap();
        let status = sandbox.wait()?;
        let wait = watch.lap();
        if status != ExitStatus::Exited(0) {
            return Err(format!("the no-op ended with {status:?}").into());
        }
        self.prepared = Some(sandbox.into_prepared()?);
        Ok(Phases {
            plan: planned,
            hold,
            start,
            wait,
            release: watch.lap(),
        })
    }
}

/// Where the time of one launch goes.
pub(crate) struct Phases {
    /// [`Plan::new`].
    pub(crate) plan: Duration,
    /// [`Plan::hold`].
    pub(crate) hold: Duration,
    /// To the exec.
    pub(crate) start: Duration,
    /// To the status of the command.
    pub(crate) wait: Duration,
    /// Letting go of mounts and namespaces, which nobody has to wait for: no
    /// part of the measured time.
    pub(crate) release: Duration,
}

impl Phases {
    fn until_started(&self) -> Duration {
        self.plan + self.hold + self.start
    }
}

struct Watch(Instant);

impl Watch {
    fn lap(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.0, Instant::now());
        self.0 - before
    }
}
