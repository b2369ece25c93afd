//! What a launch costs, as ratios of one run.
//!
//! Everything runs on the stage. What is compared is launched in turn, in a
//! loop and with 0.2 s of rest before each launch; medians and counts stand
//! beside each ratio. No ratio fails the run: what is missed says so.
//!
//! Arguments: `--quick`, `--loop N`, `--rest N`, and names of the parts to
//! run (`floor`, `resident`, `phases`, `limits`, `whole`, `filters`, `size`, `peers`,
//! `calls`, `freeze`, `memory`, `hosts`; all by default).

mod block;
mod bundle;
mod callers;
mod calls;
mod filters;
mod floors;
mod hosts;
mod measure;
mod noop;
mod ours;
mod peers;
mod servers;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cloison_escape::stage::{self, Enclosure, Place};
use cloison_sandbox::{Layer, Prepared};
use nix::sys::stat::{Mode, umask};

use callers::Caller;
use filters::Install;
use floors::{DesignsOrder, Network, OneClone};
use measure::{Counts, Pace, Runner, Series, in_turn, print, print_head};
use ours::{Common, Launch, Phases};
use peers::{Runtime, Whole};

const ROOT: &str = "/tmp/root";
const HOST: &str = "/tmp/host.toml";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let ended = match stage::enter() {
        Ok(Place::Outside) => outside(),
        Ok(Place::First(first)) => first.run().map_err(Into::into),
        Ok(Place::Inside(_)) => inside().map(|()| 0),
        Err(refusal) => Err(refusal.into()),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn outside() -> Result<u8> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let mut enclosure = Enclosure::default();
    enclosure.limits.wall_clock_s_max = Some(30 * 60);
    Ok(enclosure.run(Path::new("/proc/self/exe"), &arguments)?)
}

/// What the arguments ask for.
struct Wanted {
    counts: Counts,
    parts: Vec<String>,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut counts = Counts {
            looped: 300,
            rested: 40,
        };
        let mut parts = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number =
                || -> Result<usize> { Ok(arguments.next().ok_or("a count is missing")?.parse()?) };
            match argument.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => {
                    counts = Counts {
                        looped: 40,
                        rested: 5,
                    }
                }
                "--loop" => counts.looped = number()?,
                "--rest" => counts.rested = number()?,
                part => parts.push(part.to_owned()),
            }
        }
        Ok(Self { counts, parts })
    }

    fn part(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| part == name)
    }
}

fn inside() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    umask(Mode::empty());
    if let Some((callers::ARGUMENT, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return callers::play(rest);
    }
    let wanted = Wanted::parse(&arguments)?;
    let root = noop::root(Path::new(ROOT))?;
    // What this host lacks is waived for the launcher, as in the other parts.
    std::fs::write(HOST, Common::host_file())?;
    let common = Common::new(&root, "bench")?;
    println!("layers left out on this host: {}", common.left_out());
    println!("F0: one clone3 of seven namespaces, id map, five mounts, pivot, exec, wait");
    println!("F1, F2: the design's order, the sandbox's mounts and cgroups, no other layer");
    print_head();
    if wanted.part("floor") {
        floor(&wanted, &common)?;
    }
    if wanted.part("resident") {
        resident(&wanted, &common)?;
    }
    if wanted.part("phases") {
        phases(&wanted, &common)?;
    }
    if wanted.part("limits") {
        limits(&wanted, &common)?;
    }
    if wanted.part("filters") {
        filters(&wanted)?;
    }
    if wanted.part("size") {
        size(&wanted, &root)?;
    }
    if wanted.part("whole") {
        whole(&wanted)?;
    }
    if wanted.part("peers") {
        peers(&wanted, &common)?;
    }
    if wanted.part("hosts") {
        hosts::run(&common, wanted.counts.rested / 5)?;
    }
    if wanted.part("calls") {
        calls::run(wanted.counts.rested.div_ceil(4), HOST)?;
    }
    if wanted.part("freeze") || wanted.part("memory") {
        let common = Common::new(&calls::root()?, "bench")?;
        if wanted.part("freeze") {
            servers::freeze(&common, wanted.counts.rested)?;
        }
        if wanted.part("memory") {
            servers::memory(&common, wanted.counts.rested.div_ceil(2))?;
        }
    }
    Ok(())
}

/// (b): every layer and the read-back, without init, against F1 and F2.
fn floor(wanted: &Wanted, common: &Common) -> Result<()> {
    let root = Path::new(ROOT);
    let prepared: Prepared = common.prepared()?;
    let f1 = DesignsOrder::new(root, &prepared, Network::Made);
    let f2 = DesignsOrder::new(root, &prepared, Network::Pooled);
    let mut own = Launch::new(common, "own")?.making_network();
    let mut own_directly = Launch::new(common, "own-directly")?
        .making_network()
        .directly();
    let mut pooled = Launch::new(common, "pooled")?;
    let mut directly = Launch::new(common, "directly")?.directly();
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("F1", || f1.launch()),
            Runner::new("(b) own network, spawner", || own.launch()),
            Runner::new("(b) own network, directly", || own_directly.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 1, 0, Some(1.25));
        print(&series, pace, 2, 0, Some(1.25));
        let mut runners = [
            Runner::new("F2", || f2.launch()),
            Runner::new("(b) pooled network, spawner", || pooled.launch()),
            Runner::new("(b) pooled network, directly", || directly.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 1, 0, Some(1.25));
        print(&series, pace, 2, 0, Some(1.25));
    }
    Ok(())
}

/// (f): a resident caller with a warm pool, held and started, against F0.
fn resident(wanted: &Wanted, common: &Common) -> Result<()> {
    let ids = common.spec.ids.ok_or("a spec without ids")?;
    let f0 = OneClone::new(Path::new(ROOT), ids)?;
    let prepared = common.prepared()?;
    let f2 = DesignsOrder::new(Path::new(ROOT), &prepared, Network::Pooled);
    let mut with_init = Launch::new(common, "with-init")?.with_init();
    let mut without = Launch::new(common, "without-init")?;
    let mut started = Launch::new(common, "started")?.until_started();
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("F0", || f0.launch()),
            Runner::new("(f) resident, pooled, with init", || with_init.launch()),
            Runner::new("(f) resident, pooled, without init", || without.launch()),
            Runner::new("    the same, to the exec", || started.launch()),
            Runner::new("    F2", || f2.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 1, 0, Some(0.95));
        print(&series, pace, 2, 0, Some(0.8));
        print(&series, pace, 3, 0, None);
        print(&series, pace, 4, 0, None);
    }
    Ok(())
}

/// Where the time of a launch goes: medians of its parts.
fn phases(wanted: &Wanted, common: &Common) -> Result<()> {
    let mut without = Launch::new(common, "phases")?;
    let mut with_init = Launch::new(common, "phases-init")?.with_init();
    for pace in Pace::BOTH {
        for (name, launch) in [
            ("without init", &mut without),
            ("with init", &mut with_init),
        ] {
            let mut phases = Vec::new();
            for _ in 0..wanted.counts.of(pace) {
                pace.rest();
                phases.push(launch.phases()?);
            }
            let median = |part: fn(&Phases) -> Duration| {
                let mut times: Vec<Duration> = phases.iter().map(part).collect();
                times.sort_unstable();
                times.get(times.len() / 2).map_or(0, Duration::as_micros)
            };
            println!(
                "pooled, {name}, {}, us: plan {}, hold {}, start {}, wait {}, behind it: release {}",
                pace.name(),
                median(|phases| phases.plan),
                median(|phases| phases.hold),
                median(|phases| phases.start),
                median(|phases| phases.wait),
                median(|phases| phases.release),
            );
        }
    }
    Ok(())
}

/// What the cgroup's limits and the control of devices cost, read back at each
/// launch; and to make the cgroup with them.
fn limits(wanted: &Wanted, common: &Common) -> Result<()> {
    let mut with = Launch::new(common, "limited")?;
    let mut without =
        Launch::new(common, "unlimited")?.without(&[Layer::CgroupLimits, Layer::DeviceControl]);
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("without limits", || without.launch()),
            Runner::new("with limits, read back", || with.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 1, 0, Some(1.15));
    }
    Ok(())
}

/// (d): what the filters cost to install.
fn filters(wanted: &Wanted) -> Result<()> {
    const TARGET_US: f64 = 100.0;
    let (install, nothing) = (Install::app()?, Install::nothing());
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("with", || install.launch()),
            Runner::new("without", || nothing.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        let [with, without] = series.as_slice() else {
            continue;
        };
        let cost = with.median.saturating_sub(without.median).as_secs_f64() * 1e6;
        let verdict = if cost <= TARGET_US { "met" } else { "MISSED" };
        println!(
            "(d) installing the filters of `app`: {cost:.0} us, target {TARGET_US:.0} us {verdict} \
             (with {:.0}, without {:.0}, n {})",
            with.median.as_secs_f64() * 1e6,
            without.median.as_secs_f64() * 1e6,
            with.count
        );
    }
    Ok(())
}

/// (e): a large caller, and a host with many mounts, against small ones.
fn size(wanted: &Wanted, root: &Path) -> Result<()> {
    let mut small = Caller::start("small", 0, 0, root)?;
    let mut large = Caller::start("large", 1 << 30, 0, root)?;
    let mut mounts = Caller::start("mounts", 0, 1000, root)?;
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("a small one", || small.launch()),
            Runner::new("(e) caller with 1 GiB resident", || large.launch()),
            Runner::new("(e) host with 1,000 mounts", || mounts.launch()),
        ];
        let series = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 1, 0, Some(1.1));
        print(&series, pace, 2, 0, Some(1.1));
    }
    Ok(())
}

/// (c): whole processes.
fn whole(wanted: &Wanted) -> Result<()> {
    let pair = Whole::cloison(HOST).and_then(|ours| Ok((ours, Whole::bubblewrap()?)));
    let (cloison, bubblewrap) = match pair {
        Ok(pair) => pair,
        Err(reason) => {
            println!("(c) SKIPPED: {reason}");
            return Ok(());
        }
    };
    println!("{}", cloison.describe());
    println!("{}", bubblewrap.describe());
    for pace in Pace::BOTH {
        let mut runners = [
            Runner::new("(c) cloison run", || cloison.launch()),
            Runner::new("bubblewrap", || bubblewrap.launch()),
        ];
        let series: Vec<Series> = in_turn(&mut runners, pace, wanted.counts)?;
        print(&series, pace, 0, 1, Some(0.65));
    }
    Ok(())
}

/// Whole processes: a launcher of one server against runtimes for containers,
/// without and with Docker's default profile. Ours has every layer in both.
fn peers(wanted: &Wanted, common: &Common) -> Result<()> {
    let cloison = match Whole::cloison(HOST) {
        Ok(cloison) => cloison,
        Err(reason) => {
            println!("peers SKIPPED: {reason}");
            return Ok(());
        }
    };
    let start = cloison.only_started();
    let mut library = Launch::new(common, "library")?.with_init().making_network();
    let profile = bundle::dockers_profile();
    let kinds = [
        (Runtime::Runc, false, "runc, no seccomp", 0.13),
        (Runtime::Crun, false, "crun, no seccomp", 0.35),
        (Runtime::Runc, true, "runc, Docker's profile", 0.08),
        (Runtime::Crun, true, "crun, Docker's profile", 0.14),
    ];
    let mut found = Vec::new();
    for (runtime, is_filtered, name, target) in kinds {
        let seccomp = match (is_filtered, &profile) {
            (false, _) => Ok(None),
            (true, Ok(profile)) => Ok(Some(profile)),
            (true, Err(reason)) => Err(reason.clone()),
        };
        match seccomp.and_then(|seccomp| Whole::container(runtime, seccomp)) {
            Ok(whole) => {
                println!("{name}: {}", whole.describe());
                found.push((whole, name, target));
            }
            Err(reason) => println!("{name} SKIPPED: {reason}"),
        }
    }
    for pace in Pace::BOTH {
        let mut runners = vec![
            Runner::new("cloison run", || cloison.launch()),
            Runner::new("cloison --version", || start.launch()),
            Runner::new("the library's launch alone", || library.launch()),
        ];
        for (whole, name, _) in &found {
            runners.push(Runner::new(name, || whole.launch()));
        }
        // They take long: a third as often as the others.
        let series = in_turn(&mut runners, pace, wanted.counts.third())?;
        for (place, (_, _, target)) in found.iter().enumerate() {
            print(&series, pace, 0, place + 3, Some(*target));
        }
        // Where the time goes: its start, then what it prepares and removes
        // around the launch itself, of which `phases` tells.
        print(&series, pace, 1, 0, None);
        print(&series, pace, 2, 0, None);
    }
    Ok(())
}
