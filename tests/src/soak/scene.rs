//! What mishaps are had with: a kernel, hostile roots, a spawner that dies.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Access, ExecListener, IdRange, Init, Kernel, Layer, NetworkNamespace, Root, SandboxName, Spec,
    Waivers, spawner_pid,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, mkfifo};

use super::Measure;
use super::measure::of_process;

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;
/// How much more private memory a spawner may have than one without children.
const SPAWNER_KIB_MAX: u64 = 64;
/// What an idle spawner has open.
const SPAWNER_DESCRIPTORS: u64 = 4;
/// How long the children of a killed spawner may hold its socket.
const MOMENT: Duration = Duration::from_secs(1);
const FOLDER: &str = "/tmp/soak";

/// What all threads use.
pub(super) struct Scene {
    pub(super) kernel: Kernel,
    pub(super) waivers: Waivers,
    pub(super) roots: Vec<PathBuf>,
    /// Odd while a spawner is being killed.
    killings: AtomicU64,
    killing: Mutex<()>,
    begun: Instant,
    last_killing_ms: AtomicU64,
    /// The private memory of a spawner that has done little, and the most.
    idle_kib: AtomicU64,
    most_kib: AtomicU64,
}

impl Scene {
    /// # Panics
    /// If the kernel cannot be probed or `/tmp` not be written.
    pub(super) fn new() -> Self {
        let mut waivers = Waivers::none();
        for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
            let waived = waivers.waive(layer, "the soak runs on any host");
            assert!(waived.is_ok(), "both may be waived");
        }
        let kernel = Kernel::assume();
        assert!(kernel.is_ok(), "{kernel:?}");
        Self {
            kernel: kernel.unwrap_or_else(|_| Kernel::complete()),
            waivers,
            roots: hostile_roots(),
            killings: AtomicU64::new(0),
            killing: Mutex::new(()),
            begun: Instant::now(),
            last_killing_ms: AtomicU64::new(0),
            idle_kib: AtomicU64::new(0),
            most_kib: AtomicU64::new(0),
        }
    }

    /// A spec of the host's `/usr`, whose name and ids no other thread has.
    pub(super) fn spec(&self, number: u32, command: &str) -> Spec {
        let name = SandboxName::new(format!("soak-{number}"));
        let command = ["/usr/bin/sh", "-c", command].map(str::to_owned);
        // Letters, a hyphen and a number are a name.
        let name = name.unwrap_or_else(|error| unreachable!("{error}"));
        let mut spec = Spec::new(name, command.to_vec());
        spec.ids = IdRange::new(IDS + number * IdRange::COUNT).ok();
        spec
    }

    /// The same in a root that cannot be one.
    pub(super) fn hostile_spec(&self, number: u32, which: u64) -> Spec {
        let mut spec = self.spec(number, "true");
        let count = self.roots.len() as u64;
        let at = usize::try_from(which % count.max(1)).unwrap_or(0);
        if let Some(path) = self.roots.get(at) {
            spec.root = Root::Directory {
                path: path.clone(),
                access: Access::ReadOnly,
            };
        }
        spec.init = if which.is_multiple_of(2) {
            Init::On
        } else {
            Init::Off
        };
        spec
    }

    /// Where a second command can be asked for.
    pub(super) fn listener(&self, number: u32) -> Result<ExecListener, String> {
        let folder = Path::new(FOLDER).join(format!("exec-{number}"));
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(true);
        let made = private.create(&folder);
        made.map_err(|error| error.to_string())?;
        let path = folder.join("init");
        // One of a launch that was lost with its spawner is replaced.
        ExecListener::bind(&path).map_err(|error| format!("{error:?}"))
    }

    /// A number that is another when a spawner was killed meanwhile.
    pub(super) fn killings(&self) -> u64 {
        self.killings.load(Ordering::SeqCst)
    }

    /// Kills the spawner, whatever it does.
    pub(super) fn kill_spawner(&self) {
        let _turn = self.killing.lock();
        self.killings.fetch_add(1, Ordering::SeqCst);
        if let Some(pid) = spawner_pid() {
            self.most_kib.fetch_max(of_process(pid).0, Ordering::SeqCst);
            let pid = Pid::from_raw(pid.cast_signed());
            // Nobody has reaped it: whoever replaces it does.
            let _told = kill(pid, Signal::SIGKILL);
            // A signal takes its time, in which the spawner still takes requests.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let _ended = waitid(Id::Pid(pid), flags);
        }
        self.killings.fetch_add(1, Ordering::SeqCst);
        let now = self.begun.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.last_killing_ms.store(now, Ordering::SeqCst);
    }

    /// Whether a spawner was killed a moment ago: a request to it may lie in
    /// a socket that the last of its children has still open, and is lost with
    /// that.
    pub(super) fn has_just_killed(&self) -> bool {
        let last = Duration::from_millis(self.last_killing_ms.load(Ordering::SeqCst));
        self.killings() > 0 && self.begun.elapsed().saturating_sub(last) < MOMENT
    }

    /// Kills and reaps the spawner, when nobody launches.
    pub(super) fn end_spawner(&self) {
        let Some(pid) = spawner_pid() else { return };
        let pid = Pid::from_raw(pid.cast_signed());
        // An error: it has ended and is reaped.
        let _told = kill(pid, Signal::SIGKILL);
        let _reaped = waitpid(pid, None);
    }

    /// Remembers what a spawner has that has done little, as what each may
    /// have.
    pub(super) fn look_at_spawner(&self) {
        let (private_kib, _) = idle_spawner();
        self.idle_kib.store(private_kib, Ordering::SeqCst);
        self.most_kib.store(private_kib, Ordering::SeqCst);
    }

    /// The most that a spawner had, of those that were killed and the last one.
    pub(super) fn spawners(&self) -> [Measure; 2] {
        let (private_kib, descriptors) = idle_spawner();
        self.most_kib.fetch_max(private_kib, Ordering::SeqCst);
        [
            Measure {
                name: "descriptors of the spawner",
                before: SPAWNER_DESCRIPTORS,
                after: descriptors,
                grows_max: 0,
            },
            Measure {
                name: "memory of a spawner, KiB",
                before: self.idle_kib.load(Ordering::SeqCst),
                after: self.most_kib.load(Ordering::SeqCst),
                grows_max: SPAWNER_KIB_MAX,
            },
        ]
    }
}

/// Private memory and descriptors of the spawner, once it has nothing to do.
fn idle_spawner() -> (u64, u64) {
    // Whatever became of the last one, now there is one.
    let made = NetworkNamespace::create();
    let mut found = (0, 0);
    for _ in 0..1000 {
        found = spawner_pid().map_or(found, of_process);
        if made.is_err() || found.1 == SPAWNER_DESCRIPTORS {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    found
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The snapshot of the stage tells of what stays.
        let _removed = fs::remove_dir_all(FOLDER);
    }
}

/// Roots with one mount point that is none: a link that leaves it, a link in a
/// circle, a FIFO, a file, nothing.
///
/// # Panics
/// If `/tmp` cannot be written.
fn hostile_roots() -> Vec<PathBuf> {
    let made = make_roots();
    assert!(made.is_ok(), "{made:?}");
    made.unwrap_or_default()
}

fn make_roots() -> std::io::Result<Vec<PathBuf>> {
    const POINTS: [&str; 4] = ["proc", "dev", "tmp", "run"];
    let mut roots = Vec::new();
    for spoilt in POINTS {
        for how in ["link-out", "link-round", "fifo", "file", "missing"] {
            let root = Path::new(FOLDER).join(format!("{spoilt}-{how}"));
            for point in POINTS.into_iter().filter(|point| *point != spoilt) {
                fs::create_dir_all(root.join(point))?;
            }
            let spoilt = root.join(spoilt);
            match how {
                "link-out" => symlink("/", spoilt)?,
                "link-round" => symlink(&spoilt, &spoilt)?,
                "fifo" => mkfifo(&spoilt, Mode::S_IRWXU)?,
                "file" => fs::write(spoilt, "")?,
                _ => {}
            }
            roots.push(root);
        }
    }
    roots.push(Path::new(FOLDER).join("no-such-root"));
    Ok(roots)
}
