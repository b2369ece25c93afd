//! Guests: other kernels than this machine's, run in QEMU's emulation of a
//! processor, to try there what is tried here.
//!
//! ```text
//! cargo xtask guest 6.1 -- cloison check
//! cargo xtask guest 6.12 --full -- probes
//! ```
//!
//! A guest is made for one command and ended with it. It has two processors,
//! memory, three serial ports, the disks that it is given and, in the full form,
//! one that forgets what is written to it; no network device at all. Its cgroups are of version 2
//! alone, as on a production host. The programs in it are those of the
//! workspace, at the paths that they have here, and a few of this machine's
//! `/usr/bin` with the libraries that they need.
//!
//! The first port is the console, the second carries the command's output, the
//! third says how it ended. QEMU is ended on every path: when its time is
//! over, when whoever waits for it returns, and by the kernel when that
//! process dies.

mod archive;
mod cargo;
mod compat;
mod count;
mod disk;
mod freight;
mod kernel;
mod order;
mod qemu;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use archive::Archive;
pub use cargo::Programs;
pub use compat::{AllSeen, Seen};
pub use count::Counts;
pub use disk::{Disk, DiskUse, find_disk};
pub use kernel::GuestKernel;
pub use order::{
    CONSOLE, End, FOLDER, Form, INIT, ORDER, OUTPUT, Order, PROGRAMS, RESULT, ROOT, SERVE,
};

/// The settings of a host that lacks what may be lacking, from the workspace.
pub const HOST_FILE: &str = "tests/guest/host.toml";

/// Says that this machine is a guest, made for one run and ended with it.
pub(crate) const IN_GUEST: &str = "CLOISON_IN_GUEST";
/// How many times as long a case may last there.
const SLOWER: &str = "20";

/// What is handed on from the environment here to that of the command.
const HANDED_ON: &[&str] = &[
    "CLOISON_EXPECT_SKIPS",
    "CLOISON_PROBE",
    "CLOISON_PROBES",
    "CLOISON_QUICK",
    "RUST_BACKTRACE",
];

/// A guest to be made: which kernel, in which form, for how long, for what.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: GuestKernel,
    /// What it consists of.
    pub form: Form,
    /// How long it may last, from the start of QEMU.
    pub limit: Duration,
    /// The program, looked up in [`PROGRAMS`] and `/usr/bin`, and its arguments.
    pub command: Vec<String>,
    /// What its environment says beside what is handed on.
    pub environment: BTreeMap<String, String>,
    /// Its disks, apart from that of the full form.
    pub disks: Vec<Disk>,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the command did.
    pub end: End,
    /// What it wrote, outputs and errors together.
    pub output: String,
    /// How long all of it took.
    pub lasted: Duration,
}

impl Guest {
    /// A guest of the bare form that may last ten minutes.
    #[must_use]
    pub fn new(kernel: GuestKernel, command: &[&str]) -> Self {
        Self {
            kernel,
            form: Form::Bare,
            limit: Duration::from_secs(600),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::new(),
            disks: Vec::new(),
        }
    }

    /// Boots it, runs the command, copies its output to `to` as it comes, and
    /// returns when QEMU has ended.
    ///
    /// # Errors
    /// [`GuestError`]: nothing of the guest is left then either.
    pub fn run(&self, programs: &Programs, to: &mut dyn Write) -> Result<Ended, GuestError> {
        let folder = Work::make(self.kernel.name())?;
        self.pack(programs, &folder.0)?;
        qemu::run(self, &folder.0, to)
    }

    fn pack(&self, programs: &Programs, folder: &Path) -> Result<(), GuestError> {
        let path = folder.join(qemu::ARCHIVE);
        let failed = |source| GuestError::File {
            path: path.clone(),
            source,
        };
        fs::copy(programs.archive(), &path).map_err(failed)?;
        let file = File::options().append(true).open(&path).map_err(failed)?;
        // The kernel unpacks one archive behind the other.
        let mut archive = Archive::new(BufWriter::new(file));
        let mut order = self.order(programs);
        for (name, bytes) in self.kernel.modules()? {
            let path = Path::new(FOLDER).join("modules").join(name);
            archive.file(&path, 0o644, &bytes).map_err(failed)?;
            order.modules.push(path);
        }
        let order = serde_json::to_vec(&order).map_err(|error| failed(error.into()))?;
        archive
            .file(Path::new(ORDER), 0o644, &order)
            .and_then(|()| archive.folder(Path::new(ROOT)))
            .map_err(failed)?;
        archive.finish().map_err(failed).map(drop)
    }

    fn order(&self, programs: &Programs) -> Order {
        let mut environment = BTreeMap::from(
            [
                ("PATH", format!("{PROGRAMS}:/usr/bin:/usr/sbin:/bin:/sbin")),
                ("HOME", "/root".to_owned()),
                ("TERM", "dumb".to_owned()),
                (IN_GUEST, "1".to_owned()),
                ("CLOISON_SLOWER", SLOWER.to_owned()),
                ("CLOISON_TESTS_HOST", HOST_FILE.to_owned()),
                // What a test would build has been built here.
                ("CARGO", "/usr/bin/true".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let handed_on = HANDED_ON
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)));
        environment.extend(handed_on);
        environment.extend(self.environment.clone());
        Order {
            modules: Vec::new(),
            command: self.command.clone(),
            environment,
            directory: workspace(),
            shown: vec![
                PathBuf::from(FOLDER),
                programs.folder().to_owned(),
                workspace().join("examples"),
                workspace().join("tests"),
            ],
            form: self.form,
        }
    }
}

/// Why a guest did not run a command to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// No such kernel.
    #[error("there is no kernel {0} for a guest: 5.10, 6.1, 6.12 or 7.3")]
    NoSuchKernel(String),
    /// `.ci/fetch-guests` has not run.
    #[error("the kernel {0} is not there: run .ci/fetch-guests")]
    NotFetched(GuestKernel),
    /// `.ci/fetch-guests` has not run.
    #[error("the disk of the full form is not there: run .ci/fetch-guests")]
    NoDisk,
    /// The kernel's package has not what a guest needs.
    #[error("the kernel {kernel} has no module {name}")]
    NoModule {
        /// The kernel.
        kernel: GuestKernel,
        /// The module.
        name: &'static str,
    },
    /// A program that a guest needs is not on this machine.
    #[error("{0} is not in the search path of this machine")]
    NoProgram(&'static str),
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} ended with {status}: {said}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its errors.
        said: String,
    },
    /// What cargo says cannot be read.
    #[error("what cargo says of its programs cannot be read")]
    Cargo(#[source] serde_json::Error),
    /// It was ended.
    #[error("the guest lasted longer than {limit_s} s; its console ended with:\n{console}")]
    TimeOver {
        /// Its limit.
        limit_s: u64,
        /// The end of its console.
        console: String,
    },
    /// It said nothing of its command's end.
    #[error("the guest ended without a word; its console ended with:\n{console}")]
    Silent {
        /// The end of its console.
        console: String,
    },
}

/// A folder for what is needed for a while, removed with it.
#[derive(Debug)]
pub struct Work(PathBuf);

impl Work {
    /// Makes it below the workspace's own `target`.
    ///
    /// # Errors
    /// [`GuestError::File`].
    pub fn make(name: &str) -> Result<Self, GuestError> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = workspace()
            .join("target/guests")
            .join(format!("{name}-{number}-{}", std::process::id()));
        remove_stale(&workspace().join("target/guests"));
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(GuestError::File { path, source }),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

/// Removes what a process left that was killed. What cannot be removed is in
/// nobody's way.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').next().and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid: u32| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The workspace, without a `..` in its path: a guest has it at the same one.
pub(crate) fn workspace() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.parent().unwrap_or(path).to_owned()
}

fn fetched() -> PathBuf {
    workspace().join("target/fetched")
}

/// What a program writes that ends well.
fn said_by(command: &mut Command) -> Result<Vec<u8>, GuestError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(source) => return Err(GuestError::Start { program, source }),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(GuestError::Program {
        program,
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
