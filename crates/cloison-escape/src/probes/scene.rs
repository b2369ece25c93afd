//! What a probe finds: a root that holds the program and nothing else, and
//! the canaries.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cloison_sandbox::{Access, Init, Layer, Mount, Root, Spec, Weakening};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::error::{ProbeError, canary, canary_errno};
use super::terminal::VictimTerminal;
use super::victims::{Victim, take_key};
use super::{Canary, Probe};
use crate::ATTEMPT;

/// What only a reader of a canary can know.
const TOKEN: &str = "cloisoncanary4711";
/// What is pushed into a terminal.
const MARK: &str = "cloisonmark";
/// The number of the victim: one that no sandbox reaches by itself.
const VICTIM_PID: u32 = 30_011;
/// Where the read-only tree stands inside.
const TREE: &str = "/data";

static SCENES: AtomicU32 = AtomicU32::new(0);

/// The canaries of one probe, on the stage, in a tmpfs of their own.
#[derive(Debug)]
pub struct Scene {
    directory: PathBuf,
    probe: &'static Probe,
    /// What the program is told of its canary.
    words: Vec<String>,
    victim: Option<Victim>,
    terminal: Option<&'static VictimTerminal>,
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
            Some("size=16m,mode=755"),
        )
        .map_err(canary_errno("mounting a tmpfs"))?;
        let mut scene = Self {
            directory,
            probe,
            words: Vec::new(),
            victim: None,
            terminal: None,
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
        for point in ["proc", "dev", "tmp", "run", "data"] {
            fs::create_dir_all(self.directory.join("root").join(point))?;
        }
        let program = self.program();
        fs::write(&program, ATTEMPT)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))
    }

    fn program(&self) -> PathBuf {
        self.directory.join("root/attempt")
    }

    fn make_canary(&mut self) -> Result<(), ProbeError> {
        let words: Vec<(&str, String)> = match self.probe.canary {
            Canary::None => Vec::new(),
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
                fs::write(&outside, TOKEN).map_err(canary("writing a file"))?;
                fs::create_dir(self.directory.join("open")).map_err(canary("a directory"))?;
                vec![("canary", outside.to_string_lossy().into_owned())]
            }
            Canary::Process => self.start_victim()?,
            Canary::Key => {
                let words = [format!("token={TOKEN}"), "keep=1".to_owned()];
                let victim = Victim::start(&self.program(), "key", &words)?;
                let foreign = victim.value("serial").to_owned();
                self.victim = Some(victim);
                let serial = take_key(&self.program(), TOKEN)?;
                vec![("serial", serial), ("foreign", foreign)]
            }
            Canary::Terminal => {
                self.terminal = Some(VictimTerminal::of_this_process()?);
                vec![("mark", MARK.to_owned())]
            }
            Canary::Neighbour => {
                let words = [format!("token={TOKEN}")];
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
            .collect();
        Ok(())
    }

    /// The file of a masked tree is everybody's, so that the mount alone is
    /// in the way; that of a shared tree is the root's.
    fn make_tree(&self) -> io::Result<()> {
        let tree = self.directory.join("tree");
        fs::create_dir_all(tree.join("masked"))?;
        fs::create_dir(self.directory.join("mask"))?;
        fs::write(tree.join("masked/secret"), TOKEN)?;
        fs::write(tree.join("canary"), "unchanged")?;
        if self.probe.canary == Canary::MaskedTree {
            fs::set_permissions(tree.join("canary"), Permissions::from_mode(0o666))?;
            fs::set_permissions(&tree, Permissions::from_mode(0o777))?;
        }
        Ok(())
    }

    fn start_victim(&mut self) -> Result<Vec<(&'static str, String)>, ProbeError> {
        let record = self.record();
        let words = [
            format!("token={TOKEN}"),
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

    /// Where the victim notes its signals.
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
        if self.probe.canary == Canary::Terminal {
            // An init would start a session of its own in any case.
            spec.init = Init::Off;
        }
    }

    /// The program's standard input.
    pub(super) fn input(&self) -> Result<OwnedFd, ProbeError> {
        match &self.terminal {
            Some(terminal) => terminal.input(),
            None => File::open("/dev/null")
                .map(OwnedFd::from)
                .map_err(canary("opening /dev/null")),
        }
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
                vec![without, Weakening::Leak(open.into())]
            }
            (Canary::Neighbour, Layer::Descriptors) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = listener.map_err(canary("listening"))?;
                vec![without, Weakening::Leak(listener.into())]
            }
            _ => vec![without],
        })
    }

    /// Whether the canary itself saw the attempt arrive since it was last
    /// asked; `None` for one that cannot tell.
    pub(super) fn was_reached(&self) -> Result<Option<bool>, ProbeError> {
        match self.probe.canary {
            Canary::Process => {
                let record = self.record();
                let signals = fs::read(&record).map_err(canary("reading the record"))?;
                File::options()
                    .write(true)
                    .open(&record)
                    .and_then(|file| file.set_len(0))
                    .map_err(canary("clearing the record"))?;
                Ok(Some(!signals.is_empty()))
            }
            Canary::Terminal => match &self.terminal {
                Some(terminal) => {
                    let input = terminal.take_input()?;
                    let mark = MARK.as_bytes();
                    Ok(Some(input.windows(mark.len()).any(|piece| piece == mark)))
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
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

fn unmount(directory: &Path) -> Result<(), ProbeError> {
    umount2(directory, MntFlags::MNT_DETACH).map_err(canary_errno("unmounting a tmpfs"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        // On the way out of an error; `end` says whether it worked.
        let _taken_away = self.take_away();
    }
}
