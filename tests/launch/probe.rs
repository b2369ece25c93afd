//! What `Kernel::probe` says is what a launch meets.

use std::process::Command;
use std::thread;

use cloison_sandbox::{Error, Io, Kernel, Layer, Plan, Prepared};
use cloison_tests::{Outcome, Snapshot};

use crate::ground::{spec, waivers};

const ROLE: &str = "CLOISON_TEST_PROBE";
/// What a line starts with that finds nothing missing.
const FIT: &str = "fit";
const THREADS: usize = 8;

pub(crate) fn is_wanted() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Says in one line what the probe finds missing, and how a launch ends that
/// asks no probe.
pub(crate) fn act() {
    let probed = match Kernel::probe() {
        Ok(kernel) => match kernel.require(&Layer::ALL, &waivers()) {
            Ok(()) => FIT.to_owned(),
            Err(missing) => format!("unfit {missing}"),
        },
        Err(error) => format!("unfit {error:?}"),
    };
    let launched = match launch() {
        Ok(()) => FIT.to_owned(),
        Err(error) => format!("unfit {error:?}"),
    };
    println!("{probed}\n{launched}");
}

fn launch() -> Result<(), Error> {
    let spec = spec("probed", &["/usr/bin/true"]);
    // Nothing is known beforehand but what can be done without.
    let kernel = Kernel::assume().unwrap();
    let prepared = Prepared::new(&spec)?;
    Plan::new(&spec, &kernel, &waivers(), prepared, Io::null()?)?
        .hold()?
        .start()?
        .remove()
        .map(drop)
}

/// Callers of every kind, one whole and one without each capability: where
/// the probe finds all there, a launch succeeds; where it finds something
/// missing, one that asked no probe fails.
pub(crate) fn agrees() -> Outcome {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last: u8 = last.trim().parse().unwrap();
    let mut faults = Vec::new();
    let mut unfit = 0;
    for capability in (0..=last).map(Some).chain([None]) {
        let mut command = Command::new("setpriv");
        if let Some(capability) = capability {
            command.arg(format!("--bounding-set=-cap_{capability}"));
        }
        let output = command
            .arg(std::env::current_exe().unwrap())
            .env(ROLE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let fits: Vec<bool> = said.lines().map(|line| line.starts_with(FIT)).collect();
        match fits.as_slice() {
            [true, true] => {}
            [false, false] if capability.is_some() => unfit += 1,
            _ => faults.push(format!("without {capability:?}: {output:?}")),
        }
    }
    // Mapping ids, making namespaces and nodes, raising a priority.
    if unfit < 5 {
        faults.push(format!("only {unfit} callers were unfit: blind"));
    }
    faults.into()
}

/// Eight threads probe at once, three times each: all find the same, and
/// nothing is left while the caller goes on.
pub(crate) fn at_once() -> Outcome {
    // The first one of a process may start what stays.
    let first = Kernel::probe().unwrap();
    let before = (Snapshot::of_stage(), descriptors(), threads());
    let found: Vec<_> = thread::scope(|scope| {
        let probes: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| [(); 3].map(|()| Kernel::probe())))
            .collect();
        probes.into_iter().flat_map(|p| p.join().unwrap()).collect()
    });
    for kernel in &found {
        if kernel.as_ref() != Ok(&first) {
            return Outcome::Failed(format!("{kernel:?}\ninstead of {first:?}"));
        }
    }
    let left = Snapshot::settled(Snapshot::of_stage, &before.0);
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    if !left.is_empty() {
        return Outcome::Failed(left.join("\n"));
    }
    let after = (descriptors(), threads());
    if after != (before.1.clone(), before.2) {
        return Outcome::Failed(format!("{after:?} instead of {:?}", (before.1, before.2)));
    }
    Outcome::Passed
}

/// Each descriptor of this process and what it leads to.
fn descriptors() -> Vec<String> {
    let listed: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // The list's own is closed by now.
    let open = listed.iter().filter_map(|path| {
        let target = std::fs::read_link(path).ok()?;
        Some(format!("{} -> {}", path.display(), target.display()))
    });
    let mut all: Vec<String> = open.collect();
    all.sort();
    all
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
