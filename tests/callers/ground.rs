//! A caller of another state: this program again, started by what sets it.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use cloison_sandbox::{
    Error, ExitStatus, Held, Init, Io, Kernel, Layer, Plan, Prepared, Spec, Streams, Waivers,
    Weakening,
};

use crate::{inherited, odd};

/// Names the part that this process has.
const ROLE: &str = "CLOISON_ODD_CALLER";
/// The first range of the default pool.
pub(crate) const IDS: u32 = 1_879_048_192;

pub(crate) fn is_played() -> bool {
    std::env::var_os(ROLE).is_some()
}

pub(crate) fn play() {
    let role = std::env::var(ROLE).unwrap();
    match role.as_str() {
        "sigchld" => odd::play_sigchld(),
        "environment" => odd::play_environment(),
        "terminal" => odd::play_terminal(),
        closed if closed.starts_with("closed ") => odd::play_closed(&closed[7..]),
        kinds => inherited::play(kinds),
    }
}

/// This program in that part, started by `wrapper`.
pub(crate) fn part(role: &str, wrapper: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(AsRef::as_ref).chain([own.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it and wants it to end well.
pub(crate) fn played(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub(crate) fn spec(name: &str, command: &[&str]) -> Spec {
    let mut spec: Spec = serde_json::from_value(serde_json::json!({
        "name": name, "command": command, "ids": IDS,
    }))
    .unwrap();
    spec.environment
        .insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    spec
}

pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::probe().unwrap())
}

pub(crate) fn waivers() -> Waivers {
    let mut waivers = Waivers::none();
    for layer in [
        Layer::CoreScheduling,
        Layer::SpeculationControl,
        // For guests.
        Layer::LandlockNetwork,
        Layer::LandlockScope,
    ] {
        let reason = "the tests say what this host lacks";
        waivers.waive(layer, reason).unwrap();
    }
    waivers
}

pub(crate) fn plan(spec: &Spec, weakenings: Vec<Weakening>) -> Result<Plan, Error> {
    let (prepared, io) = (Prepared::new(spec)?, Io::null()?);
    Plan::weakened(spec, kernel(), &waivers(), prepared, io, weakenings)
}

/// What a shell inside says, and how it ended.
pub(crate) fn said(name: &str, script: &str) -> Result<(String, ExitStatus), Error> {
    let (reader, writer) = std::io::pipe().unwrap();
    let spec = Spec {
        init: Init::Off,
        ..spec(name, &["/usr/bin/sh", "-c", script])
    };
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    let io = Io {
        streams: Streams::Descriptors {
            stdin: null(),
            stdout: writer.into(),
            stderr: null(),
        },
        sockets: Vec::new(),
    };
    let plan = Plan::new(&spec, kernel(), &waivers(), Prepared::new(&spec)?, io)?;
    let mut sandbox = plan.hold()?.start()?;
    let status = sandbox.wait()?;
    sandbox.remove()?;
    let text = std::io::read_to_string(reader).unwrap();
    Ok((text, status))
}

/// One launch to its end, whose status is told and after which nothing is left.
pub(crate) fn launch(name: &str) -> Result<(), Error> {
    let spec = spec(name, &["/usr/bin/sh", "-c", "exit 7"]);
    let mut sandbox = plan(&spec, Vec::new())?.hold().and_then(Held::start)?;
    let status = sandbox.wait()?;
    sandbox.remove()?;
    assert_eq!(status, ExitStatus::Exited(7));
    Ok(())
}

/// The cgroups of sandboxes that stand.
pub(crate) fn cgroups() -> Vec<std::path::PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    hierarchies
        .flat_map(|hierarchy| {
            std::fs::read_dir(hierarchy.unwrap().path())
                .into_iter()
                .flatten()
        })
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/cloison-") && path.is_dir())
        .collect()
}

/// The descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// The processes whose parent is this one.
pub(crate) fn children() -> usize {
    let own = format!("PPid:\t{}\n", std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("status")).ok())
        .filter(|status| status.contains(&own))
        .count()
}

/// Tries `ready` until it says yes, for at most ten seconds.
pub(crate) fn eventually(mut ready: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if ready() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    false
}
