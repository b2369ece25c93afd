//! What a probe finds: a root that holds the program and nothing else, and
//! the canaries.

use std::fs::{self, File, FileTimes, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use cloison_sandbox::{Access, ExecListener, Init, Layer, Mount, Root, Sandbox, Spec, Weakening};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, getpgrp, setpgid};

use super::error::{ProbeError, canary, canary_errno};
use super::handed_in::{Log, Shared};
use super::terminal::VictimTerminal;
use super::victims::{Executed, Victim, said_by, take_key};
use super::watch::lines;
use super::{Canary, Probe};
use crate::ATTEMPT;

/// How a secret begins: all that the program is told of it.
const TOKEN: &str = "cloisoncanary";
/// What stands in the file of a read-only tree.
const UNCHANGED: &str = "unchanged";
/// What is pushed into a terminal.
const MARK: &str = "cloisonmark";
/// The number of the victim: one that no sandbox reaches by itself.
const VICTIM_PID: u32 = 30_011;
/// Where the read-only tree stands inside.
const TREE: &str = "/data";

/// The options of the scene's tmpfs, which a way may change.
const OPTIONS: &str = "size=16m,mode=755";
const SIZE_BYTES: u64 = 16 << 20;

/// Whose handles the program is told, as it names them.
const HANDLES: [&str; 6] = ["net", "mnt", "ipc", "uts", "cgroup", "process"];

static SCENES: AtomicU32 = AtomicU32::new(0);

/// The canaries of one probe, on the stage, in a tmpfs of their own.
#[derive(Debug)]
pub struct Scene {
    directory: PathBuf,
    probe: &'static Probe,
    /// What only a reader of a canary can know.
    secret: String,
    /// What the program is told of its canary.
    words: Vec<String>,
    victim: Option<Victim>,
    terminal: Option<&'static VictimTerminal>,
    log: Option<Log>,
    shared: Option<Shared>,
}

impl Scene {
    /// Makes them. A key changes this process's session keyring, a terminal
    /// its session.
    ///
    /// # Errors
    /// [`ProbeError::Canary`], [`ProbeError::Role`].
    pub fn new(probe: &'static Probe) -> Result<Self, ProbeError> {
        let count = SCENES.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloison-scene-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).map_err(canary("making a directory"))?;
        mount(
            Some("tmpfs"),
            &directory,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(OPTIONS),
        )
        .map_err(canary_errno("mounting a tmpfs"))?;
        let mut scene = Self {
            directory,
            probe,
            secret: format!("{TOKEN}{:016x}", RandomState::new().build_hasher().finish()),
            words: Vec::new(),
            victim: None,
            terminal: None,
            log: None,
            shared: None,
        };
        scene.make_root().map_err(canary("making a root"))?;
        scene.make_canary()?;
        Ok(scene)
    }

    /// Takes all away.
    ///
    /// # Errors
    /// [`ProbeError::Canary`].
    pub fn end(mut self) -> Result<(), ProbeError> {
        self.take_away()
    }

    fn make_root(&self) -> io::Result<()> {
        for point in ["proc", "sys", "dev", "tmp", "run", "data"] {
            fs::create_dir_all(self.directory.join("root").join(point))?;
        }
        let program = self.program();
        fs::write(&program, ATTEMPT)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))
    }

    pub(super) fn program(&self) -> PathBuf {
        self.directory.join("root/attempt")
    }

    fn make_canary(&mut self) -> Result<(), ProbeError> {
        let words: Vec<(&str, String)> = match self.probe.canary {
            Canary::Program
            | Canary::Namespaces
            | Canary::HandedOut
            | Canary::Init
            | Canary::Network
            | Canary::Traces(..)
            | Canary::Itself
            | Canary::Streams
            | Canary::Joining
            | Canary::Caller
            | Canary::Outlived
            | Canary::Inherited
            | Canary::Careless
            | Canary::Unseen(_) => Vec::new(),
            Canary::MaskedTree | Canary::SharedTree => {
                self.make_tree().map_err(canary("making a tree"))?;
                vec![
                    ("ro", TREE.to_owned()),
                    ("mask", format!("{TREE}/masked")),
                    ("scratch", "/tmp/scratch".to_owned()),
                ]
            }
            Canary::OpenDirectory => {
                let outside = self.directory.join("outside");
                fs::write(&outside, &self.secret).map_err(canary("writing a file"))?;
                fs::create_dir(self.directory.join("open")).map_err(canary("a directory"))?;
                vec![("canary", outside.to_string_lossy().into_owned())]
            }
            Canary::Process => self.start_victim()?,
            Canary::Namespaced => self.start_victim_with_handles()?,
            Canary::Group => self.start_victim_in_own_group()?,
            Canary::Log | Canary::Shared => {
                self.make_handed_in().map_err(canary("what is left open"))?;
                Vec::new()
            }
            Canary::Listener => self.start_listener()?,
            Canary::Key => {
                let words = [format!("token={}", self.secret), "keep=1".to_owned()];
                let victim = Victim::start(&self.program(), "key", &words)?;
                let foreign = victim.value("serial").to_owned();
                self.victim = Some(victim);
                let serial = take_key(&self.program(), &self.secret)?;
                vec![("serial", serial), ("foreign", foreign)]
            }
            Canary::Terminal => {
                self.terminal = Some(VictimTerminal::of_this_process()?);
                vec![("mark", MARK.to_owned())]
            }
            Canary::Neighbour => {
                let record = self.record();
                let words = [
                    format!("token={}", self.secret),
                    format!("record={}", record.display()),
                ];
                let victim = Victim::start(&self.program(), "answer", &words)?;
                let port = victim.value("port").to_owned();
                self.victim = Some(victim);
                vec![("port", port)]
            }
        };
        self.words = words
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .chain([format!("token={TOKEN}")])
            .chain(self.is_held().then(|| "watched=1".to_owned()))
            .collect();
        Ok(())
    }

    /// The file of a masked tree is everybody's, so that the mount alone is
    /// in the way; that of a shared tree is the root's.
    fn make_tree(&self) -> io::Result<()> {
        let tree = self.directory.join("tree");
        fs::create_dir_all(tree.join("masked"))?;
        fs::create_dir(self.directory.join("mask"))?;
        fs::write(tree.join("masked/secret"), &self.secret)?;
        fs::write(tree.join("canary"), UNCHANGED)?;
        if self.probe.canary == Canary::MaskedTree {
            fs::set_permissions(tree.join("canary"), Permissions::from_mode(0o666))?;
            fs::set_permissions(&tree, Permissions::from_mode(0o777))?;
        }
        Ok(())
    }

    fn start_victim(&mut self) -> Result<Vec<(&'static str, String)>, ProbeError> {
        let record = self.record();
        let words = [
            format!("token={}", self.secret),
            format!("record={}", record.display()),
            format!("at={VICTIM_PID}"),
        ];
        let victim = Victim::start(&self.program(), "victim", &words)?;
        let words = vec![
            ("victim", victim.value("pid").to_owned()),
            ("address", victim.value("address").to_owned()),
        ];
        self.victim = Some(victim);
        Ok(words)
    }

    fn start_victim_with_handles(&mut self) -> Result<Vec<(&'static str, String)>, ProbeError> {
        let mut words = self.start_victim()?;
        let pid = format!("pid={}", self.victim_pid().unwrap_or(0));
        let mut handles = said_by(&self.program(), "handles", &[pid])?;
        words.extend(HANDLES.map(|kind| (kind, handles.remove(kind).unwrap_or_default())));
        Ok(words)
    }

    fn start_victim_in_own_group(&mut self) -> Result<Vec<(&'static str, String)>, ProbeError> {
        // Number 1, of the stage's first process, means everybody.
        match setpgid(Pid::from_raw(0), Pid::from_raw(0)) {
            // The leader of a session leads its group already.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(canary_errno("making a group")(errno)),
        }
        let mut words = self.start_victim()?;
        words.push(("group", getpgrp().to_string()));
        Ok(words)
    }

    fn make_handed_in(&mut self) -> io::Result<()> {
        if self.probe.canary == Canary::Log {
            self.log = Some(Log::make(&self.directory, &self.secret)?);
        } else {
            let awaited = RandomState::new().build_hasher().finish();
            self.shared = Some(Shared::make(&self.directory, &self.secret, awaited)?);
        }
        Ok(())
    }

    fn start_listener(&mut self) -> Result<Vec<(&'static str, String)>, ProbeError> {
        let name = self.directory.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let path = self.directory.join("socket");
        let path = path.to_string_lossy().into_owned();
        let words = [
            format!("name={name}"),
            format!("path={path}"),
            format!("record={}", self.record().display()),
        ];
        self.victim = Some(Victim::start(&self.program(), "listen", &words)?);
        Ok(vec![("name", name), ("path", path)])
    }

    /// Where the victim notes signals and connections.
    fn record(&self) -> PathBuf {
        self.directory.join("record")
    }

    /// Adds to `spec` what the probe needs: root, command, trees.
    pub(super) fn describe(&self, spec: &mut Spec) {
        spec.root = Root::Directory {
            path: self.directory.join("root"),
            access: Access::ReadOnly,
        };
        spec.command = vec!["/attempt".to_owned(), self.probe.id.to_owned()];
        spec.command.extend(self.words.iter().cloned());
        let shown = |source: &str, target: String| Mount {
            source: self.directory.join(source),
            target: PathBuf::from(target),
            access: Access::ReadOnly,
        };
        if matches!(self.probe.canary, Canary::MaskedTree | Canary::SharedTree) {
            spec.mounts.push(shown("tree", TREE.to_owned()));
            spec.mounts.push(shown("mask", format!("{TREE}/masked")));
        }
        if matches!(self.probe.canary, Canary::Terminal | Canary::Group) {
            // An init would start a session of its own in any case.
            spec.init = Init::Off;
        }
    }

    /// Whether another launch is held meanwhile.
    pub(super) fn has_child(&self) -> bool {
        matches!(self.probe.canary, Canary::Joining | Canary::Caller)
    }

    /// Where the init listens for commands.
    pub(super) fn listener(&self) -> Result<Option<ExecListener>, ProbeError> {
        if self.probe.canary != Canary::Init {
            return Ok(None);
        }
        let private = self.directory.join("private");
        fs::create_dir_all(&private)
            .and_then(|()| fs::set_permissions(&private, Permissions::from_mode(0o700)))
            .map_err(canary("making a directory"))?;
        let listener = ExecListener::bind(&private.join("exec"));
        Ok(Some(listener.map_err(ProbeError::Exec)?))
    }

    /// Starts a victim inside, and tells the program where it is.
    pub(super) fn execute(&self, sandbox: &Sandbox) -> Result<Option<Executed>, ProbeError> {
        if self.probe.canary != Canary::Init {
            return Ok(None);
        }
        let executed = Executed::start(sandbox, &self.secret)?;
        let told = self.directory.join("root/executed");
        fs::write(told, executed.said()).map_err(canary("telling of a command"))?;
        Ok(Some(executed))
    }

    /// The program's standard input, unless it is there to hold it still.
    pub(super) fn input(&self) -> Option<Result<OwnedFd, ProbeError>> {
        self.terminal.map(VictimTerminal::input)
    }

    /// How a plan goes without `layer`, in the way that bares this canary.
    pub(super) fn weaken(&self, layer: Layer) -> Result<Vec<Weakening>, ProbeError> {
        let without = Weakening::Without(layer);
        Ok(match (self.probe.canary, layer) {
            (Canary::MaskedTree, Layer::MountNamespace) => {
                vec![Weakening::Unlocked(TREE.trim_start_matches('/'))]
            }
            (Canary::OpenDirectory, Layer::Descriptors) => {
                let open = File::open(self.directory.join("open"));
                let open = open.map_err(canary("opening a directory"))?;
                let outside = File::open(self.directory.join("outside"));
                let outside = outside.map_err(canary("opening a file"))?;
                let beside = File::open(&self.directory);
                let beside = beside.map_err(canary("opening a directory"))?;
                let leaks = [open, outside, beside].map(|file| Weakening::Leak(file.into()));
                leaks.into_iter().chain([without]).collect()
            }
            (Canary::Log, Layer::Descriptors) => {
                let log = self.log.as_ref().map(Log::open).transpose();
                let log = log.map_err(canary("opening a log"))?;
                let leak = log.map(Weakening::Leak);
                leak.into_iter().chain([without]).collect()
            }
            (Canary::Shared, Layer::Descriptors) => {
                let leaks = self.shared.as_ref().map(Shared::leaks).transpose();
                let leaks = leaks.map_err(canary("copying descriptors"))?;
                let leaks = leaks.into_iter().flatten().map(Weakening::Leak);
                leaks.chain([without]).collect()
            }
            (Canary::Neighbour, Layer::Descriptors) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = listener.map_err(canary("listening"))?;
                let unused = socket(
                    AddressFamily::Inet,
                    SockType::Stream,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )
                .map_err(canary_errno("making a socket"))?;
                let leaks = [listener.into(), unused].map(Weakening::Leak);
                leaks.into_iter().chain([without]).collect()
            }
            _ => vec![without],
        })
    }

    /// Whether a way that got through holds still to be looked at. A terminal
    /// is the program's input, which nothing else can come by.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self.probe.canary, Canary::Terminal)
    }

    pub(super) fn probe(&self) -> &'static Probe {
        self.probe
    }

    pub(super) fn canary(&self) -> Canary {
        self.probe.canary
    }

    /// What only a reader of the canary can hand back.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// The victim's number on the stage.
    pub(super) fn victim_pid(&self) -> Option<i32> {
        self.victim.as_ref()?.value("pid").parse().ok()
    }

    /// Everything as it was before the first attempt.
    pub(super) fn set_back(&self) -> Result<(), ProbeError> {
        if self.has_tree() {
            self.set_tree_back()
                .map_err(canary("setting a tree back"))?;
        }
        if self.record().exists() {
            let emptied = File::options().write(true).open(self.record());
            emptied
                .and_then(|file| file.set_len(0))
                .map_err(canary("clearing the record"))?;
        }
        let told = self.directory.join("root/executed");
        if told.exists() {
            fs::remove_file(told).map_err(canary("removing a file"))?;
        }
        self.set_log_back()?;
        if let Some(shared) = &self.shared {
            shared
                .set_back()
                .map_err(canary("setting descriptors back"))?;
        }
        self.take_marks().map(drop)
    }

    /// A log as it was.
    pub(super) fn set_log_back(&self) -> Result<(), ProbeError> {
        match &self.log {
            Some(log) => log.set_back().map_err(canary("setting a log back")),
            None => Ok(()),
        }
    }

    pub(super) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    pub(super) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    fn has_tree(&self) -> bool {
        matches!(self.probe.canary, Canary::MaskedTree | Canary::SharedTree)
    }

    fn set_tree_back(&self) -> io::Result<()> {
        let (tree, file) = (self.directory.join("tree"), self.tree_file());
        let made = tree.join("made-inside");
        if made.exists() {
            fs::remove_file(made)?;
        }
        chown(&file, Some(0), Some(0))?;
        fs::set_permissions(&file, Permissions::from_mode(self.tree_mode()))?;
        fs::write(&file, UNCHANGED)?;
        let file = File::options().write(true).open(file)?;
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            None::<&str>,
            &self.directory,
            None::<&str>,
            flags,
            Some(OPTIONS),
        )?;
        Ok(())
    }

    fn tree_file(&self) -> PathBuf {
        self.directory.join("tree/canary")
    }

    /// The file of a masked tree is everybody's, that of a shared tree the
    /// root's.
    fn tree_mode(&self) -> u32 {
        if self.probe.canary == Canary::MaskedTree {
            0o666
        } else {
            0o644
        }
    }

    /// Whether the tree is changed as `way` says.
    pub(super) fn tree_shows(&self, way: &str) -> io::Result<bool> {
        let found = fs::metadata(self.tree_file())?;
        Ok(match way {
            "create" => self.directory.join("tree/made-inside").exists(),
            "change-mode" => found.mode() & 0o777 != self.tree_mode(),
            "change-owner" => (found.uid(), found.gid()) != (0, 0),
            "set-times" => found.mtime() == 0,
            "reconfigure" => {
                let size = statvfs(&self.directory)?;
                size.blocks() * size.fragment_size() < SIZE_BYTES
            }
            _ => self.marks()?.iter().any(|mark| mark == way),
        })
    }

    /// The ways that wrote their names into the tree's file.
    pub(super) fn marks(&self) -> io::Result<Vec<String>> {
        if !self.has_tree() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(self.tree_file())?;
        let written = text.strip_prefix(UNCHANGED).unwrap_or(&text);
        Ok(written.lines().map(str::to_owned).collect())
    }

    /// How often the victim noted something since the last attempt began.
    pub(super) fn notes(&self) -> io::Result<usize> {
        Ok(lines(&self.record())?.len())
    }

    /// How often the mark came into the terminal since it was last asked.
    pub(super) fn take_marks(&self) -> Result<usize, ProbeError> {
        let Some(terminal) = &self.terminal else {
            return Ok(0);
        };
        let input = terminal.take_input()?;
        Ok(String::from_utf8_lossy(&input).matches(MARK).count())
    }

    fn take_away(&mut self) -> Result<(), ProbeError> {
        if let Some(mut victim) = self.victim.take() {
            victim.end()?;
        }
        if self.directory.as_os_str().is_empty() {
            return Ok(());
        }
        let directory = std::mem::take(&mut self.directory);
        unmount(&directory)?;
        fs::remove_dir(&directory).map_err(canary("removing a directory"))
    }
}

/// Whether a line of mountinfo is the tree without nosuid and nodev.
pub(super) fn is_bare_tree(line: &str) -> bool {
    let mut words = line.split(' ').skip(4);
    let is_tree = words.next() == Some(TREE);
    let options = words.next().unwrap_or("nosuid,nodev");
    let is_kept = |option| ["nosuid", "nodev"].contains(&option);
    is_tree && !options.split(',').any(is_kept)
}

fn unmount(directory: &Path) -> Result<(), ProbeError> {
    umount2(directory, MntFlags::MNT_DETACH).map_err(canary_errno("unmounting a tmpfs"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        // On the way out of an error; `end` says whether it worked.
        let _taken_away = self.take_away();
    }
}
