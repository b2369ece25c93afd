//! The trials: two guests each, and a verdict.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloison_tests::chain;
use cloison_tests::chance::Chance;
use cloison_tests::guest::{Disk, DiskUse, End, Guest, GuestKernel, Programs, Work};
use libtest_mimic::Failed;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checker::{Report, Task};
use crate::layout::{BLOCK, Files};
use crate::log::{Event, Log, Platter};
use crate::writer::{LeftOut, Load};
use crate::{CHECK, LOG_DISK, SCRATCH_DISK, STATE_DISK, SYSTEM_DISK, WRITE};

type Result<T = ()> = std::result::Result<T, Failed>;

const KERNEL: GuestKernel = GuestKernel::V6_12;
/// How many cuts, unless told otherwise.
const CUTS: usize = 10;
const CUTS_VARIABLE: &str = "CLOISON_POWER_CUTS";
const SEED_VARIABLE: &str = "CLOISON_POWER_SEED";
/// For how long is written, by the number of cuts.
const SECONDS: std::ops::RangeInclusive<usize> = 5..=30;
const CUTS_IN_A_SECOND: usize = 5;
/// Fewer acknowledged changes than this were no load.
const CHANGES_MIN: u64 = 50;
/// How long a guest may take beside what is asked of it, and for each cut: its
/// processor is emulated, on a machine that may be busy.
/// How much of what was wrong is shown in words.
const EXAMPLES_SHOWN: usize = 3;
const LIMIT: Duration = Duration::from_secs(600);
const LIMIT_OF_A_CUT: Duration = Duration::from_secs(10);

/// Whoever writes through the library loses nothing.
pub(crate) fn keeps() -> Result {
    let report = run(LeftOut::Nothing)?;
    if report.wrong_files() > 0 {
        return Err(told(&report).into());
    }
    // What is not flushed is lost by chance; that it can be, the controls show.
    if report.kept + report.torn + report.dropped == 0 {
        return Err("no cut met a write that could have been lost".into());
    }
    Ok(())
}

/// The control: whoever leaves these flushes out loses something.
pub(crate) fn loses(left_out: LeftOut) -> Result {
    let report = run(left_out)?;
    if report.wrong_files() == 0 {
        return Err("the control is silent".into());
    }
    Ok(())
}

fn told(report: &Report) -> String {
    format!("{:?}\n{}", report.wrong, report.examples.join("\n"))
}

/// Writes in one guest, cuts and looks in another.
fn run(left_out: LeftOut) -> Result<Report> {
    let cuts = variable(CUTS_VARIABLE)?.unwrap_or(CUTS);
    let seed = match variable(SEED_VARIABLE)? {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    let folder = Work::make("power").map_err(|error| chain(&error))?;
    let files = Files::make(folder.path())?;
    let seconds = (cuts / CUTS_IN_A_SECOND).clamp(*SECONDS.start(), *SECONDS.end());
    let load = Load {
        seed,
        seconds: seconds as u64,
        left_out,
    };
    let logged = DiskUse::Logged(files.log.clone());
    let disks = vec![disk(STATE_DISK, &files.disk, logged)];
    let changes: u64 = play(WRITE, &load, disks, LIMIT)?;
    let disks = vec![
        disk(SYSTEM_DISK, &files.system, DiskUse::Read),
        disk(LOG_DISK, &files.log, DiskUse::Read),
        disk(SCRATCH_DISK, &files.scratch, DiskUse::Written),
    ];
    let limit = LIMIT + LIMIT_OF_A_CUT * u32::try_from(cuts)?;
    let report: Report = play(CHECK, &Task { seed, cuts }, disks, limit)?;
    println!(
        "flushes left out: {left_out:?}; seed {seed}, {changes} changes in {seconds} s; \
         {} cuts: {} writes flushed, {} kept, {} torn, {} dropped; {} files: \
         {} wrong after {} cuts {:?}, {} new, {} parts",
        report.cuts,
        report.flushed,
        report.kept,
        report.torn,
        report.dropped,
        report.files,
        report.wrong_files(),
        report.cuts_with_wrong,
        report.wrong,
        report.new,
        report.parts,
    );
    for example in report.examples.iter().take(EXAMPLES_SHOWN) {
        println!("  {example}");
    }
    if changes < CHANGES_MIN || report.cuts != cuts as u64 {
        return Err(format!("{changes} changes and {} cuts are no trial", report.cuts).into());
    }
    Ok(report)
}

fn disk(name: &'static str, file: &std::path::Path, used: DiskUse) -> Disk {
    Disk {
        name,
        file: file.to_owned(),
        used,
    }
}

/// Has this program play a part in a guest, and gives what it said.
fn play<T: Serialize, R: DeserializeOwned>(
    part: &str,
    told: &T,
    disks: Vec<Disk>,
    limit: Duration,
) -> Result<R> {
    let told = serde_json::to_string(told)?;
    let mut guest = Guest::new(KERNEL, &["power", part, &told]);
    guest.disks = disks;
    guest.limit = limit;
    let ended = guest.run(programs()?, &mut std::io::sink());
    let ended = ended.map_err(|error| chain(&error))?;
    println!("power {part}: {:.0} s", ended.lasted.as_secs_f64());
    let last = ended.output.lines().last().unwrap_or_default();
    match (ended.end, serde_json::from_str(last)) {
        (End::Exited(0), Ok(said)) => Ok(said),
        (end, _) => Err(format!("{part}: {end:?}, {}", ended.output).into()),
    }
}

/// This program, found and packed once.
fn programs() -> Result<&'static Programs> {
    static PROGRAMS: OnceLock<std::result::Result<Programs, String>> = OnceLock::new();
    let built =
        PROGRAMS.get_or_init(|| Programs::of_target("power").map_err(|error| chain(&error)));
    built.as_ref().map_err(|error| error.clone().into())
}

fn variable<T: std::str::FromStr>(name: &str) -> Result<Option<T>> {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("{name} is no number: {text:?}").into()),
        },
        Err(_) => Ok(None),
    }
}

fn fresh_seed() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Chance::new(u64::from(since.subsec_nanos()) ^ since.as_secs() << 32).number())
}

/// What had been flushed is there after every cut; the rest is there, is not,
/// and is torn.
pub(crate) fn cuts_are_as_drawn() -> Result {
    let write = |at: usize, byte: u8| Event::Write {
        at: at * BLOCK,
        bytes: vec![byte; 2 * BLOCK],
        is_forced: byte == FORCED,
    };
    const FORCED: u8 = 4;
    let log = Log::of(vec![
        Event::Mark(0),
        write(0, 1),
        Event::Flush,
        Event::Mark(1),
        write(0, 2),
        write(2, 3),
        write(4, FORCED),
        Event::Mark(2),
    ]);
    let mut chance = Chance::new(1);
    let cuts = log.cuts(5000, &mut chance);
    let mut platter = Platter::new(&log, vec![0; 6 * BLOCK]);
    let mut seen = std::collections::BTreeSet::new();
    for cut in &cuts {
        let (disk, _) = platter.after(cut, &mut chance);
        let blocks: Vec<u8> = disk.chunks(BLOCK).map(|block| block[0]).collect();
        if cut.acknowledged >= 1 && (blocks[0] == 0 || blocks[1] == 0) {
            return Err(format!("{cut:?} lost what was flushed: {blocks:?}").into());
        }
        if cut.acknowledged == 2 && blocks[4..] != [FORCED; 2] {
            return Err(format!("{cut:?} lost what was forced: {blocks:?}").into());
        }
        seen.insert((cut.acknowledged, blocks));
    }
    for wanted in [
        (0, [0, 0, 0, 0, 0, 0]),
        (0, [1, 0, 0, 0, 0, 0]),
        (0, [1, 1, 0, 0, 0, 0]),
        (1, [1, 1, 0, 0, 0, 0]),
        (1, [1, 2, 3, 3, 0, 0]),
        (1, [2, 2, 0, 3, FORCED, FORCED]),
    ] {
        if !seen.contains(&(wanted.0, wanted.1.to_vec())) {
            return Err(format!("never drawn: {wanted:?} of {seen:?}").into());
        }
    }
    Ok(())
}
