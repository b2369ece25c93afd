//! A tree in which an entry is swapped for a link that leads out, all the time.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloison_escape::races::{RACES, Race};
use cloison_sandbox::posture::{Difference, Fact, Value};
use cloison_sandbox::{Error, OwnAccess, Prepared, Streams};
use cloison_tests::{Outcome, REPORT, quick};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::by_name;
use crate::ground::{Launch, SHOWN, VICTIM, fresh_tree, launch, own, own_root, shown, spec};
use crate::outside::Outside;

/// The entry beside it that it is swapped with.
const OTHER: &str = "swapped";
/// How long a control is tried at most: it needs the swap at the right moment.
const CONTROL_LIMIT: Duration = Duration::from_secs(90);

/// What is swapped in the tree.
fn swapped(race: &Race) -> &'static str {
    match race.id {
        "a15" | "a34" => "srv",
        "a16" | "a17" => "dev",
        "a18" => "proc",
        other => panic!("no tree for {other}"),
    }
}

/// A thread that swaps until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(tree: &Path, name: &'static str) -> Self {
        let directory = File::open(tree).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(&directory, name, &directory, OTHER, exchange).unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            swaps,
            thread: Some(thread),
        }
    }

    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// How the launches of a race ended.
#[derive(Debug, Default)]
struct Count {
    launches: u32,
    /// The plan's look found the directory, and the child's open did too.
    held: u32,
    /// The plan's look found the link.
    refused: u32,
    /// The plan's look found the directory, and the child's open the link: the
    /// swap came between.
    between: u32,
    /// The child's open found the directory, which had the link's name when it
    /// was read back: the swap came between.
    moved: u32,
    /// Something outside was touched.
    through: u32,
    swaps: u64,
}

impl Count {
    /// Whether the swap was seen from all sides.
    fn is_whole(&self) -> bool {
        self.between + self.moved > 0 && self.held > 0 && self.refused > 0
    }
}

fn victim() {
    let victim = Path::new(VICTIM);
    fs::create_dir_all(victim.join("deep/data")).unwrap();
    fs::create_dir_all(victim.join("self")).unwrap();
    for (name, text) in [
        ("null", "secret"),
        ("console", "secret"),
        ("self/oom_score_adj", "the victim's"),
    ] {
        fs::write(victim.join(name), text).unwrap();
    }
    fs::write("/tmp/masked", "to be hidden").unwrap();
}

/// The tree of a race, and a link beside what is swapped.
fn tree(race: &Race) -> std::path::PathBuf {
    let tree = fresh_tree();
    for (name, text) in [("dev/null", ""), ("dev/console", "")] {
        fs::write(tree.join(name), text).unwrap();
        own(&tree.join(name));
    }
    fs::create_dir(tree.join("proc/self")).unwrap();
    fs::write(tree.join("proc/self/oom_score_adj"), "").unwrap();
    symlink(VICTIM, tree.join(OTHER)).unwrap();
    own(&tree.join(OTHER));
    assert!(tree.join(swapped(race)).is_dir());
    tree
}

/// Whether somebody who goes by names hits the victim, and at which try.
fn control(race: &Race) -> Option<u32> {
    let tree = tree(race);
    let swapper = Swapper::start(&tree, swapped(race));
    let begun = Instant::now();
    let hit = (1..)
        .take_while(|_| begun.elapsed() < CONTROL_LIMIT)
        .find(|_| by_name::try_once(race.id));
    drop(swapper);
    hit
}

fn race(race: &Race, launches: u32, faults: &mut Vec<String>) -> Count {
    let tree = tree(race);
    let spec = spec(own_root(OwnAccess::ReadOnly), "true");
    let outside = [VICTIM, SHOWN];
    let before = Outside::look(&outside);
    let mut count = Count::default();
    let swapper = Swapper::start(&tree, swapped(race));
    // A busy machine may let the swap come from one side for long.
    while count.launches < launches || !count.is_whole() && count.launches < launches * 10 {
        count.launches += 1;
        let terminal = (race.id == "a17").then_some(Streams::Terminal);
        match launch(&spec, Prepared::new(&spec).unwrap(), terminal) {
            // Its mounts and nodes were read back, each where it should be.
            Launch::Held(held) => {
                count.held += 1;
                drop(held);
            }
            Launch::Refused(_) => count.refused += 1,
            Launch::Failed(Error::Step { errno, .. } | Error::MountPoint { errno, .. })
                if errno == Errno::ELOOP =>
            {
                count.between += 1
            }
            Launch::Failed(Error::PostureDiffers(differences)) => {
                count.moved += 1;
                let strays = differences.iter().flat_map(strays);
                faults.extend(strays.map(|stray| format!("{}: {stray}", race.id)));
            }
            Launch::Failed(error) => faults.push(format!("{}: {error:?}", race.id)),
        }
    }
    count.swaps = swapper.swaps();
    drop(swapper);
    let changes = before.changes(&Outside::look(&outside));
    if !changes.is_empty() {
        count.through += 1;
        faults.extend(changes);
    }
    count
}

/// What is mounted elsewhere than on the places of the plan, by either name of
/// what is swapped.
fn strays(difference: &Difference) -> Vec<String> {
    let mounts = |fact: &Fact| match fact.value() {
        Value::Mounts(mounts) => mounts.iter().map(|m| m.mount_point.clone()).collect(),
        _ => Vec::new(),
    };
    let expected: Vec<String> = mounts(&difference.expected);
    let found = difference.found.iter().flat_map(mounts);
    let is_planned = |point: &String| {
        expected.contains(point)
            || ["/srv", "/dev", "/proc"]
                .iter()
                .any(|name| expected.contains(&point.replace("/swapped", name)))
    };
    found.filter(|point| !is_planned(point)).collect()
}

/// Each race of the table: the control loses it, we do not.
pub(crate) fn every_race() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    shown();
    victim();
    let launches = if quick() { 60 } else { 400 };
    let mut faults = Vec::new();
    let (mut alive, mut all) = (0, Count::default());
    for one in &RACES {
        let hit = control(one);
        match hit {
            Some(_) => alive += 1,
            None => faults.push(format!("{}: the control is silent", one.id)),
        }
        // The control left it changed.
        victim();
        let count = race(one, launches, &mut faults);
        println!("{REPORT}{}: control hit at try {hit:?}; {count:?}", one.id);
        if !count.is_whole() {
            faults.push(format!("{}: the swap was not seen from all sides", one.id));
        }
        all.launches += count.launches;
        all.between += count.between;
        all.moved += count.moved;
        all.through += count.through;
    }
    fs::remove_dir_all("/tmp/tenant").unwrap();
    println!(
        "{REPORT}{} launches, in {} the swap came between look and use, in {} between use and \
         read-back; controls alive {alive} / {}, \
         through: {}",
        all.launches,
        all.between,
        all.moved,
        RACES.len(),
        all.through
    );
    if (all.between + all.moved) * 10 < all.launches {
        faults.push("the swap came between in less than a tenth".to_owned());
    }
    faults.into()
}
