//! Where a program is launched, and how it is looked at.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use cloison_sandbox::{
    Access, Exec, ExecListener, ExitStatus, IdRange, Io, Kernel, Layer, Mount, NetworkNamespace,
    Plan, Prepared, Proc, Root, Sandbox, SandboxName, Spec, Stopped, Streams, Waivers,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

/// Where `.ci/fetch-programs` puts the tree.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fetched/programs");

const IDS: u32 = 1_879_048_192;
/// `www-data` in a tree of Debian's, `app` in a root of ours.
const USER: u16 = 33;

/// How long a program may take for one thing on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tree, if it was fetched.
pub(crate) fn tree() -> Option<PathBuf> {
    let tree = fs::canonicalize(TREE).ok()?;
    tree.join("usr/sbin/nginx").exists().then_some(tree)
}

/// Puts the tree's `/usr` over this process's own, so that "the host's `/usr`"
/// has the programs: nothing is installed on the host. It goes away with the
/// process.
pub(crate) fn use_as_host(tree: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for part in ["usr", "etc/alternatives"] {
        let over = Path::new("/").join(part);
        mount(Some(&tree.join(part)), &over, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// A root, a proc, and whether its calls are recorded.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) root: Root,
    pub(crate) proc: Proc,
    /// Where the calls are written.
    pub(crate) record: Option<PathBuf>,
}

/// A launch, before it.
pub(crate) struct Launch {
    pub(crate) spec: Spec,
    /// Seen inside as `/srv`, and its own.
    pub(crate) data: PathBuf,
    network: NetworkNamespace,
    sockets: Vec<OwnedFd>,
    place: Place,
}

/// A program that runs.
pub(crate) struct Running {
    /// Until it is taken away.
    sandbox: Option<Sandbox>,
    data: PathBuf,
    network: OwnedFd,
    output: File,
    tracer: Option<Child>,
}

impl Place {
    pub(crate) fn launch(&self, name: &str, command: &[&str]) -> Launch {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut spec = Spec::new(SandboxName::new(name).unwrap(), command);
        spec.ids = Some(IdRange::new(IDS).unwrap());
        spec.root = self.root.clone();
        spec.proc = self.proc;
        (spec.user, spec.group) = (USER, USER);
        spec.environment = environment();
        let data = env::temp_dir().join(format!("data-{name}"));
        DirBuilder::new().mode(0o700).create(&data).unwrap();
        let owner = Some(IDS + u32::from(USER));
        chown(&data, owner, owner).unwrap();
        spec.mounts.push(Mount {
            source: data.clone(),
            target: "/srv".into(),
            access: Access::ReadWrite,
        });
        Launch {
            spec,
            data,
            network: NetworkNamespace::create().unwrap(),
            sockets: Vec::new(),
            place: self.clone(),
        }
    }

    /// Runs a command to its end; what it wrote, if it ended well.
    pub(crate) fn run(&self, name: &str, command: &[&str]) -> Result<String, String> {
        self.launch(name, command)
            .start()
            .end(ExitStatus::Exited(0))
    }
}

fn environment() -> std::collections::BTreeMap<String, String> {
    [
        ("PATH", "/usr/sbin:/usr/bin"),
        ("HOME", "/srv"),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl Launch {
    /// Writes a file that its program finds in `/srv`.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        fs::write(self.data.join(name), content).unwrap();
        self
    }

    /// Lets it bind a port.
    pub(crate) fn binding(mut self, port: u16) -> Self {
        self.spec.tcp.bind.push(port);
        self
    }

    /// Hands in a socket that listens on a port of its network.
    pub(crate) fn listening(mut self, port: u16) -> Self {
        let listener = within(self.network.as_fd().try_clone_to_owned().unwrap(), || {
            std::net::TcpListener::bind(("127.0.0.1", port)).unwrap()
        });
        self.sockets.push(listener.into());
        self
    }

    pub(crate) fn start(self) -> Running {
        let kernel = Kernel::probe().unwrap();
        let mut waivers = Waivers::none();
        for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
            waivers
                .waive(layer, "the tests say what this host lacks")
                .unwrap();
        }
        let network = self.network.as_fd().try_clone_to_owned().unwrap();
        let mut prepared = Prepared::with_network(&self.spec, self.network).unwrap();
        prepared.exec = Some(ExecListener::bind(&socket_in(&self.data)).unwrap());
        let output = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC).unwrap());
        let io = Io {
            streams: streams(&output),
            sockets: self.sockets,
        };
        let plan = Plan::new(&self.spec, &kernel, &waivers, prepared, io).unwrap();
        let held = plan.hold().unwrap();
        let pid = held.pid().as_raw();
        let tracer = self
            .place
            .record
            .as_deref()
            .map(|record| trace(pid, record));
        Running {
            sandbox: Some(held.start().unwrap()),
            data: self.data,
            network,
            output,
            tracer,
        }
    }
}

/// Follows the calls of a process and of all that it starts, and counts them by
/// name. It is followed from the moment on at which all its layers stand.
fn trace(pid: i32, record: &Path) -> Child {
    let tracer = Command::new("/usr/bin/strace")
        .args(["-f", "-c", "-qq", "-o"])
        .arg(record)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{pid}/status");
    let is_traced = || {
        let status = fs::read_to_string(&status).unwrap();
        !status.lines().any(|line| line == "TracerPid:\t0")
    };
    assert!(eventually(is_traced), "strace does not follow");
    tracer
}

/// A directory that only we may enter holds it.
fn socket_in(data: &Path) -> PathBuf {
    let directory = data.with_extension("exec");
    DirBuilder::new().mode(0o700).create(&directory).unwrap();
    directory.join("socket")
}

fn streams(output: &File) -> Streams {
    Streams::Descriptors {
        stdin: File::open("/dev/null").unwrap().into(),
        stdout: output.try_clone().unwrap().into(),
        stderr: output.try_clone().unwrap().into(),
    }
}

impl Running {
    /// Runs a command in it; what it wrote, if it ended well.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<String, String> {
        let mut exec = Exec::new(command.iter().map(|word| (*word).to_owned()).collect());
        exec.environment = environment();
        let output = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC).unwrap());
        let started = self.sandbox.as_ref().unwrap().exec(&exec, streams(&output));
        let status = started
            .map_err(|error| format!("{command:?}: {error:?}"))?
            .wait_for(PATIENCE)
            .map_err(|error| format!("{command:?}: {error:?}"))?;
        let written = text(&output);
        match status {
            Some(ExitStatus::Exited(0)) => Ok(written),
            status => Err(format!("{command:?}: {status:?}: {written}")),
        }
    }

    /// The same, again and again until it ends well.
    pub(crate) fn exec_eventually(&self, command: &[&str]) -> Result<String, String> {
        let mut last = Err(String::new());
        eventually(|| {
            last = self.exec(command);
            last.is_ok()
        });
        last.map_err(|error| format!("{error}\n{}", text(&self.output)))
    }

    /// What an HTTP server on `port` of its network answers.
    pub(crate) fn get(&self, port: u16, path: &str) -> Result<String, String> {
        let network = self.network.try_clone().unwrap();
        within(network, || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .map_err(|error: std::io::Error| error.to_string())
    }

    /// Waits until the answer ends with `wanted`.
    pub(crate) fn get_eventually(&self, port: u16, wanted: &str) -> Result<(), String> {
        let mut last = Ok(String::new());
        let found = eventually(|| {
            last = self.get(port, "/");
            last.as_ref().is_ok_and(|answer| answer.ends_with(wanted))
        });
        if found {
            return Ok(());
        }
        Err(format!("{last:?}: {}", text(&self.output)))
    }

    pub(crate) fn file(&self, name: &str, content: &str) {
        fs::write(self.data.join(name), content).unwrap();
    }

    /// Asks it to end, and wants it to.
    pub(crate) fn stop(mut self, signal: Signal) -> Result<String, String> {
        let stopped = self
            .sandbox
            .as_mut()
            .unwrap()
            .stop(signal, PATIENCE)
            .unwrap();
        self.clear();
        let written = text(&self.output);
        match stopped {
            Stopped::ByItself(ExitStatus::Exited(0)) => Ok(written),
            stopped => Err(format!("{stopped:?}: {written}")),
        }
    }

    /// Waits for its end; what it wrote, if it ended so.
    pub(crate) fn end(mut self, wanted: ExitStatus) -> Result<String, String> {
        let sandbox = self.sandbox.as_mut().unwrap();
        let ended = eventually(|| sandbox.try_wait().unwrap().is_some());
        let status = sandbox.try_wait().unwrap();
        self.clear();
        let written = text(&self.output);
        if ended && status == Some(wanted) {
            Ok(written)
        } else {
            Err(format!("{status:?}: {written}"))
        }
    }

    /// Takes everything away again.
    fn clear(&mut self) {
        let Some(sandbox) = self.sandbox.take() else {
            return;
        };
        sandbox.remove().unwrap();
        if let Some(mut tracer) = self.tracer.take() {
            tracer.wait().unwrap();
        }
        fs::remove_dir_all(self.data.with_extension("exec")).unwrap();
        fs::remove_dir_all(&self.data).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What `make` makes in a thread that has joined `network`.
fn within<T: Send>(network: OwnedFd, make: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let joined = move || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            make()
        };
        scope.spawn(joined).join().unwrap()
    })
}

fn text(file: &File) -> String {
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tries `ready` until it says yes.
fn eventually(mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if ready() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}
