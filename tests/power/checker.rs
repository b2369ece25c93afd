//! The checker, in a guest: makes the disk as each cut would have left it,
//! mounts it, and looks at every file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloison::{Error, StateDirectory};
use cloison_tests::chance::Chance;
use cloison_tests::guest::find_disk;
use serde::{Deserialize, Serialize};

use crate::layout::{Mounted, STATE};
use crate::load::{Content, Held, NAMES, What, after, change, content};
use crate::log::{Cut, Log, Platter};
use crate::{Failure, LOG_DISK, SCRATCH_DISK, SYSTEM_DISK};

/// A version that no change has.
const NEW_VERSION: u64 = u64::MAX;
/// What a file is called while it is written.
const PART: &str = ".part";
const LOCK: &str = "lock";
const EXAMPLES_MAX: usize = 10;

/// What a checker is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) seed: u64,
    pub(crate) cuts: usize,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) cuts: u64,
    /// Writes that a flush had brought to the disk at the last cut.
    pub(crate) flushed: u64,
    /// Those without a flush, of all cuts: there all the same, there in part, not
    /// there.
    pub(crate) kept: u64,
    pub(crate) torn: u64,
    pub(crate) dropped: u64,
    /// Files looked at.
    pub(crate) files: u64,
    /// Those that the change under way had already reached.
    pub(crate) new: u64,
    /// Files begun and left.
    pub(crate) parts: u64,
    /// What was wrong, and how often.
    pub(crate) wrong: BTreeMap<String, u64>,
    /// Cuts after which something was.
    pub(crate) cuts_with_wrong: u64,
    /// Some of it in words.
    pub(crate) examples: Vec<String>,
}

impl Report {
    pub(crate) fn wrong_files(&self) -> u64 {
        self.wrong.values().sum()
    }

    fn fault(&mut self, cut: &Cut, kind: &str, what: String) {
        *self.wrong.entry(kind.to_owned()).or_default() += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{kind}, {cut:?}: {what}"));
        }
    }
}

/// Tries each cut.
pub(crate) fn check(task: &Task) -> Result<Report, Failure> {
    let mut chance = Chance::new(task.seed.rotate_left(17));
    let log = Log::read(&mut BufReader::new(File::open(find_disk(LOG_DISK)?)?))?;
    let cuts = log.cuts(task.cuts, &mut chance);
    let mut platter = Platter::new(&log, fs::read(find_disk(SYSTEM_DISK)?)?);
    let scratch = find_disk(SCRATCH_DISK)?;
    let mut report = Report::default();
    let (mut held, mut done) = (Held::default(), 0);
    for cut in &cuts {
        while done < cut.acknowledged {
            done += 1;
            held = after(held, task.seed, done);
        }
        let (disk, fate) = platter.after(cut, &mut chance);
        report.cuts += 1;
        report.flushed = fate.flushed;
        report.kept += fate.kept;
        report.torn += fate.torn;
        report.dropped += fate.dropped;
        OpenOptions::new()
            .write(true)
            .open(&scratch)?
            .write_all_at(&disk, 0)?;
        let before = report.wrong_files();
        look(&scratch, task.seed, cut, &held, &mut report)?;
        report.cuts_with_wrong += u64::from(report.wrong_files() > before);
    }
    Ok(report)
}

fn look(
    disk: &Path,
    seed: u64,
    cut: &Cut,
    held: &Held,
    report: &mut Report,
) -> Result<(), Failure> {
    let mounted = match Mounted::mount(disk) {
        Ok(mounted) => mounted,
        Err(errno) => {
            report.fault(cut, "unmountable", errno.to_string());
            return Ok(());
        }
    };
    let state = match StateDirectory::open(Path::new(STATE)) {
        Ok(state) => state,
        Err(error) => {
            report.fault(cut, "unopened", error.to_string());
            return Ok(());
        }
    };
    let next = after(*held, seed, cut.acknowledged + 1);
    for (file, (old, new)) in held.iter().zip(next).enumerate() {
        let name = NAMES.get(file).ok_or("no such file")?;
        let found = read(&state, seed, file);
        report.files += 1;
        report.new += u64::from(new != *old && found == Ok(new));
        if found != Ok(*old) && found != Ok(new) {
            let kind = match (&found, old) {
                (Err(_), _) => "torn",
                (Ok(None), _) => "lost",
                (Ok(Some(_)), None) => "returned",
                (Ok(found), old) if found < old => "older",
                _ => "another",
            };
            report.fault(
                cut,
                kind,
                format!("{name}: {found:?}, not {old:?} or {new:?}"),
            );
        }
    }
    for name in names()? {
        let known = name.strip_suffix(PART).unwrap_or(&name);
        report.parts += u64::from(known != name);
        if known != LOCK && !NAMES.contains(&known) {
            report.fault(cut, "unknown", name);
        }
    }
    if let Err(error) = write_again(&state, seed) {
        report.fault(cut, "unwritable", error.to_string());
    }
    drop((state, mounted));
    Ok(())
}

/// Which change wrote the file; an error if none wrote what is in it.
fn read(state: &StateDirectory, seed: u64, file: usize) -> Result<Option<u64>, String> {
    let name = NAMES.get(file).copied().unwrap_or_default();
    let found: Option<Content> = state.read(name).map_err(|error| {
        let path = match error {
            Error::Torn { source, .. } => source.map(|source| source.to_string()),
            other => Some(other.to_string()),
        };
        path.unwrap_or_default()
    })?;
    let Some(found) = found else { return Ok(None) };
    let number = found.version;
    let change = change(seed, number);
    if (change.file, change.what) != (file, What::Written) || found != content(seed, number, name) {
        return Err(format!("nobody wrote what it holds as {number}"));
    }
    Ok(Some(number))
}

fn names() -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(STATE)?.collect::<Result<Vec<_>, _>>()?;
    let names = entries.iter().map(|entry| entry.file_name());
    Ok(names
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}

/// What a tool does next: the directory takes new files, whatever was left.
fn write_again(state: &StateDirectory, seed: u64) -> Result<(), Failure> {
    let lock = state.lock(Duration::ZERO, || Ok::<(), Error>(()))?;
    for name in NAMES {
        let new = content(seed, NEW_VERSION, name);
        state.write(&lock, name, &new)?;
        if state.read::<Content>(name)?.as_ref() != Some(&new) {
            return Err(format!("{name} is not what was written").into());
        }
    }
    let left: Vec<PathBuf> = names()?
        .into_iter()
        .filter(|name| name.ends_with(PART))
        .map(PathBuf::from)
        .collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}").into());
    }
    Ok(())
}
