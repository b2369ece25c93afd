//! What is written down of a sandbox that runs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cloison_sandbox::{Hierarchy, IdRange, SandboxName};
use serde::{Deserialize, Serialize};

use super::{Life, Process};
use crate::error::{Error, at, call};

/// The form of a record.
const VERSION: u32 = 1;

/// One sandbox that runs, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The boot in which the numbers of processes count.
    boot_id: String,
    /// Its name.
    pub name: SandboxName,
    /// Its ids on the host.
    pub ids: IdRange,
    /// Who launched it.
    pub launcher: Process,
    /// Whether it runs on when its launcher has ended.
    #[serde(default)]
    pub stays: bool,
    /// Whether its command was executed. One that does not stay is known by its
    /// launcher.
    #[serde(default)]
    pub is_started: bool,
    /// Who is ending it, as long as that one lives.
    #[serde(default)]
    pub stopped_by: Option<Process>,
    /// Its process 1, once there is one.
    pub sandbox: Option<Process>,
    /// Its cgroup in each hierarchy, made or about to be, as the launcher
    /// sees it.
    pub cgroups: BTreeMap<Hierarchy, String>,
    /// What it said of itself while it was held: the field and its value.
    pub self_reported: BTreeMap<String, String>,
}

/// How the file of a record ends that whoever starts next has to look at.
pub(super) const OPEN: &str = "json";
/// How that of one ends that was started and needs nobody: a thousand of them
/// are no work for whoever starts one more.
pub(super) const SETTLED: &str = "started";

/// Where the record of `name` is until it is settled.
pub(super) fn path(directory: &Path, name: &SandboxName) -> PathBuf {
    directory.join(format!("{name}.{OPEN}"))
}

/// Where it is then.
pub(super) fn settled_path(directory: &Path, name: &SandboxName) -> PathBuf {
    directory.join(format!("{name}.{SETTLED}"))
}

/// Whether a file is a record.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == OPEN || end == SETTLED)
}

impl Record {
    /// That of a sandbox to come, of this process.
    pub(super) fn new(
        name: SandboxName,
        ids: IdRange,
        stays: bool,
        cgroups: BTreeMap<Hierarchy, String>,
    ) -> Result<Self, Error> {
        let launcher = Process::find(nix::unistd::getpid().as_raw());
        Ok(Self {
            version: VERSION,
            boot_id: boot_id()?,
            name,
            ids,
            launcher: launcher.map_err(call("reading our own start time"))?,
            stays,
            is_started: false,
            stopped_by: None,
            sandbox: None,
            cgroups,
            self_reported: BTreeMap::new(),
        })
    }

    /// That of `name`; `None`: there is none.
    pub(super) fn of(directory: &Path, name: &SandboxName) -> Result<Option<Self>, Error> {
        let (settled, open) = (settled_path(directory, name), path(directory, name));
        // It may be settled between two looks.
        for path in [&settled, &open, &settled] {
            match Self::read(path) {
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    /// Moves it to where whoever starts next need not look.
    pub(super) fn settle(&self, directory: &Path) -> Result<(), Error> {
        let settled = settled_path(directory, &self.name);
        match fs::rename(path(directory, &self.name), &settled) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(at("naming", &settled)),
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let torn = |source| Error::Torn {
            path: path.to_owned(),
            source,
        };
        let bytes = fs::read(path).map_err(at("reading", path))?;
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| torn(Some(error)))?;
        let is_named = path
            .file_stem()
            .is_some_and(|stem| stem == record.name.as_str());
        if record.version == VERSION && is_named {
            Ok(record)
        } else {
            Err(torn(None))
        }
    }

    /// Writes it whole: nobody ever sees half of it.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        let part = directory.join(format!("{}.part", self.name));
        self.write_by(&part, directory).inspect_err(|_| {
            // Whoever starts next removes it where this fails.
            match fs::remove_file(&part) {
                Ok(()) | Err(_) => {}
            }
        })
    }

    fn write_by(&self, part: &Path, directory: &Path) -> Result<(), Error> {
        let settled = settled_path(directory, &self.name);
        let whole = if settled.exists() {
            settled
        } else {
            path(directory, &self.name)
        };
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Torn {
            path: whole.clone(),
            source: Some(error),
        })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(part)
            .map_err(at("making", part))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(at("writing", part))?;
        fs::rename(part, &whole).map_err(at("naming", &whole))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(at("writing", directory))
    }

    /// Whether `pid` was noted as its process 1.
    pub(super) fn is_of(&self, pid: i32) -> bool {
        let noted = self.sandbox.as_ref();
        noted.is_some_and(|process| process.pid == pid)
    }

    /// Whether the launcher that wrote it still lives.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`].
    pub fn launcher_lives(&self) -> Result<bool, Error> {
        let lives = || {
            self.launcher
                .lives()
                .map_err(call("looking for a launcher"))
        };
        Ok(self.is_of_this_boot()? && lives()?)
    }

    /// Whether somebody is ending it. One who died has given up.
    pub(super) fn is_stopping(&self) -> Result<bool, Error> {
        let lives = |process: &Process| process.lives().map_err(call("looking for who stops it"));
        Ok(self.is_of_this_boot()? && self.stopped_by.as_ref().map_or(Ok(false), lives)?)
    }

    /// Whether its process 1 still lives.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`].
    pub fn sandbox_lives(&self) -> Result<bool, Error> {
        let lives = |process: &Process| process.lives().map_err(call("looking for a sandbox"));
        Ok(self.is_of_this_boot()? && self.sandbox.as_ref().map_or(Ok(false), lives)?)
    }

    /// What the sandbox is now.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::System`], [`Error::Control`].
    pub fn life(&self) -> Result<Life, Error> {
        Life::of(self)
    }

    /// Whether it, and its ids, are in use: its sandbox lives, or is about to.
    pub(super) fn counts(&self) -> Result<bool, Error> {
        let runs = self.stays && self.is_started && self.sandbox_lives()?;
        Ok(runs || self.launcher_lives()? && !(self.stays && self.is_started))
    }

    pub(super) fn is_of_this_boot(&self) -> Result<bool, Error> {
        Ok(boot_id()? == self.boot_id)
    }
}

fn boot_id() -> Result<String, Error> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).map_err(at("reading", PATH))?;
    Ok(text.trim_end().to_owned())
}
