//! Servers that run: how fast one stands still, and what each keeps resident.

use std::error::Error;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cloison_sandbox::{ExitStatus, Init, Io, Plan, Prepared, Sandbox, SandboxName, Spec, Streams};

use crate::ours::Common;

const FREEZE_TARGET_MS: f64 = 20.0;
const PROCESSES: usize = 200;
const MEMORY_TARGET_KIB: u64 = 100;

/// A server that waits for the end of its input.
struct Server {
    sandbox: Sandbox,
    input: OwnedFd,
    output: OwnedFd,
}

impl Server {
    fn start(common: &Common, name: &str, command: &[&str]) -> Result<Self, Box<dyn Error>> {
        let spec = Spec {
            name: SandboxName::new(name)?,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            init: Init::On,
            ..common.spec.clone()
        };
        let (stdin, input) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (output, stdout) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let stderr = OwnedFd::from(fs::File::options().write(true).open("/dev/null")?);
        let io = Io {
            streams: Streams::Descriptors {
                stdin,
                stdout,
                stderr,
            },
            sockets: Vec::new(),
        };
        let prepared = Prepared::new(&spec)?;
        let plan = Plan::new(&spec, &common.kernel, &common.waivers, prepared, io)?;
        Ok(Self {
            sandbox: plan.hold()?.start()?,
            input,
            output,
        })
    }

    /// Waits until it has said something.
    fn is_ready(&self) -> Result<(), Box<dyn Error>> {
        match nix::unistd::read(&self.output, &mut [0; 64])? {
            0 => Err("a server ended before it was ready".into()),
            _ => Ok(()),
        }
    }

    fn end(mut self) -> Result<(), Box<dyn Error>> {
        drop(self.input);
        let status = self.sandbox.wait()?;
        if status != ExitStatus::Exited(0) {
            return Err(format!("a server ended with {status:?}").into());
        }
        let mut prepared = self.sandbox.into_prepared()?;
        prepared.cgroup.remove()?;
        Ok(())
    }
}

/// From the call to when every one of 200 processes stands still.
pub(crate) fn freeze(common: &Common, count: usize) -> Result<(), Box<dyn Error>> {
    let words = format!("count={PROCESSES}");
    let server = Server::start(common, "crowd", &["/attempt", "crowd", &words])?;
    server.is_ready()?;
    let cgroup = &server.sandbox.prepared().cgroup;
    let processes = cgroup.processes()?.len();
    let mut times = Vec::new();
    for _ in 0..count.max(1) {
        let begun = Instant::now();
        cgroup.freeze()?;
        times.push(begun.elapsed());
        if !cgroup.is_frozen()? {
            return Err("the server is not frozen".into());
        }
        cgroup.thaw()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    server.end()?;
    times.sort_unstable();
    let milliseconds = |place: usize| times.get(place).map_or(f64::NAN, ms);
    let (median, most) = (milliseconds(times.len() / 2), milliseconds(times.len() - 1));
    let verdict = if most <= FREEZE_TARGET_MS {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "freeze of a server with {processes} processes, ms: median {median:.3}, most {most:.3}, \
         target {FREEZE_TARGET_MS:.0} {verdict} (n {})",
        times.len()
    );
    Ok(())
}

fn ms(time: &Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What of ours stays in memory for each server that runs.
pub(crate) fn memory(common: &Common, count: usize) -> Result<(), Box<dyn Error>> {
    let count = count.max(2);
    // The first starts the spawner and fills caches.
    let mut servers = vec![waiting(common, 0)?];
    let before = Ours::now()?;
    for number in 1..count {
        servers.push(waiting(common, number)?);
    }
    let after = Ours::now()?;
    let mut inits = Vec::new();
    let mut theirs = 0;
    for server in &servers {
        let pid = server.sandbox.pid().as_raw();
        inits.push(private_kib(pid)?);
        theirs += server.sandbox.prepared().cgroup.processes()?.len() - 1;
    }
    inits.sort_unstable();
    let others = processes()?.len().saturating_sub(inits.len() + theirs);
    for server in servers {
        server.end()?;
    }
    let most = inits.last().copied().unwrap_or(u64::MAX);
    let verdict = if most <= MEMORY_TARGET_KIB {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "memory of ours for each of {count} servers, private KiB: init {} (most {most}), \
         target {MEMORY_TARGET_KIB} {verdict}",
        inits.get(inits.len() / 2).copied().unwrap_or_default(),
    );
    let more = (count - 1) as f64;
    println!(
        "    each further server adds to the caller {:.1}, to the spawner {:.1}; \
         processes beside inits and commands: {others} (before the servers: {})",
        (after.caller as f64 - before.caller as f64) / more,
        (after.spawner as f64 - before.spawner as f64) / more,
        before.others,
    );
    Ok(())
}

fn waiting(common: &Common, number: usize) -> Result<Server, Box<dyn Error>> {
    let name = format!("memory-{number}");
    let server = Server::start(common, &name, &["/attempt", "crowd", "count=1"])?;
    server.is_ready()?;
    Ok(server)
}

/// What is there once, however many servers run.
struct Ours {
    caller: u64,
    spawner: u64,
    others: usize,
}

impl Ours {
    /// With one server, of one command.
    fn now() -> Result<Self, Box<dyn Error>> {
        let spawner = cloison_sandbox::spawner_pid().ok_or("no spawner runs")?;
        Ok(Self {
            caller: private_kib(nix::unistd::getpid().as_raw())?,
            spawner: private_kib(i32::try_from(spawner)?)?,
            others: processes()?.len().saturating_sub(2),
        })
    }
}

fn processes() -> Result<Vec<i32>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        found.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(found)
}

/// The private memory of a process.
///
/// # Source
/// proc_pid_smaps(5)
fn private_kib(pid: i32) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let mut sum = 0;
    for line in text.lines().filter(|line| line.starts_with("Private_")) {
        let number = line
            .split_whitespace()
            .nth(1)
            .ok_or("a line of no number")?;
        sum += number.parse::<u64>()?;
    }
    Ok(sum)
}
