//! Hosts of many tenants: up and down beside runc, the five-hundredth launch
//! beside the tenth, a list of a thousand.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cloison::runtime::Ground;
use cloison::settings::{Policy, ServerSettings, SettingsFile};
use cloison::{Host, HostSettings, Pool, TenantName, TenantSettings};
use cloison_sandbox::{Hierarchies, Io, Kernel};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bundle::{self, Root};
use crate::ours::Common;
use crate::peers::Whole;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PLACE: &str = "/tmp/hosts";
const TENANTS: usize = 21;
const SERVERS: usize = 500;
const AT_ONCE: usize = 4;
const UP_TARGET: f64 = 0.25;
const LATE_TARGET: f64 = 1.5;
const LISTED: u32 = 1000;
const LIST_TARGET_MS: f64 = 50.0;

/// A host of its own; gone with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Result<Self> {
        let place = Self(Path::new(PLACE).join(name));
        fs::create_dir_all(&place.0)?;
        Ok(place)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn runtime(&self) -> PathBuf {
        self.0.join("run")
    }

    fn host(&self, common: &Common, id_pool: Pool) -> Result<Host> {
        let settings = HostSettings {
            id_pool,
            waive: common.waivers.clone(),
            policy: Policy {
                shared_base: true,
                ..Policy::default()
            },
        };
        let host = Host::open(&self.state(), settings)?;
        Ok(host.with_runtime(self.runtime().join("servers")))
    }

    /// The settings of a server that sleeps.
    fn server(&self, tenant: &str, name: &str) -> Result<(PathBuf, ServerSettings)> {
        let path = self.0.join(format!("{tenant}-{name}.toml"));
        let command = r#"["/usr/bin/sleep", "600"]"#;
        fs::write(
            &path,
            format!("tenant = \"{tenant}\"\nname = \"{name}\"\ncommand = {command}\n"),
        )?;
        let settings = ServerSettings::from_file(&SettingsFile::read(&path)?)?;
        Ok((path, settings))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while umount2(&self.state().join("storage"), MntFlags::MNT_DETACH).is_ok() {}
        match fs::remove_dir_all(&self.0) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// Every part of it.
pub(crate) fn run(common: &Common, rounds: usize) -> Result<()> {
    up_and_down(common, rounds.clamp(2, 7))?;
    late(common)?;
    listing(common)
}

/// 21 tenants with a server each, beside 21 containers of runc's; as many at
/// once in both.
fn up_and_down(common: &Common, rounds: usize) -> Result<()> {
    let launcher = match Whole::launcher() {
        Ok(launcher) => launcher,
        Err(reason) => {
            println!("hosts SKIPPED: {reason}");
            return Ok(());
        }
    };
    let place = Place::new("up")?;
    let host = place.host(common, Pool::default())?;
    let host_file = place.0.join("host.toml");
    let policy = "\n[policy]\nshared_base = true\n";
    fs::write(&host_file, format!("{}{policy}", Common::host_file()))?;
    let mut files = Vec::new();
    let mut names = Vec::new();
    for nth in 0..TENANTS {
        let tenant = format!("tenant-{nth}");
        host.add_tenant(&tenant.parse()?, TenantSettings::default())?;
        files.push(place.server(&tenant, "web")?.0);
        names.push(PathBuf::from(tenant));
    }
    let verb = |verb: &str, which: &[PathBuf], more: &[&str]| {
        let mut command = Command::new(&launcher);
        command.arg(verb).args(which).arg("--host").arg(&host_file);
        command.arg("--state").arg(place.state());
        command.arg("--runtime").arg(place.runtime()).args(more);
        done(&mut command)
    };
    let profile = bundle::dockers_profile();
    let seccomp = profile.as_ref().ok();
    let containers = containers(seccomp)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        verb("up", &files, &["--output", "discard"])?;
        verb("down", &names, &["--timeout-s", "0"])?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        each(&containers, |(name, bundle)| {
            let bundle = bundle.display().to_string();
            runc(&["run", "--detach", "--bundle", &bundle, name])
        })?;
        each(&containers, |(name, _)| runc(&["delete", "--force", name]))?;
        theirs.push(begun.elapsed());
    }
    let ratio = median(&mut ours).as_secs_f64() / median(&mut theirs).as_secs_f64();
    println!(
        "{TENANTS} tenants with a server each, up and down: {:.0} ms, runc {} the same \
         {:.0} ms, ratio {ratio:.2}, target {UP_TARGET} {} (n {rounds}, {AT_ONCE} at once)",
        ms(median(&mut ours)),
        if seccomp.is_some() {
            "with Docker's profile"
        } else {
            "without a filter"
        },
        ms(median(&mut theirs)),
        verdict(ratio <= UP_TARGET),
    );
    Ok(())
}

fn containers(seccomp: Option<&Value>) -> Result<Vec<(String, PathBuf)>> {
    (0..TENANTS)
        .map(|nth| {
            let name = format!("tenant-{nth}");
            let at = Path::new("/tmp/bundles/hosts").join(&name);
            bundle::make(&at, Root::HostsUsr, &["/usr/bin/sleep", "600"], seccomp)?;
            Ok((name, at))
        })
        .collect()
}

fn runc(words: &[&str]) -> Result<()> {
    let mut command = Command::new("runc");
    command.args(["--root", "/tmp/containers", "--rootless=true"]);
    done(command.args(words))
}

fn done(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if output.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ended with {output}").into())
    }
}

/// Does it for each, so many at once.
fn each<T: Sync>(all: &[T], act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> std::result::Result<(), String> {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(one).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

/// Whether the five-hundredth server starts as fast as the tenth.
fn late(common: &Common) -> Result<()> {
    let place = Place::new("late")?;
    let host = place.host(common, Pool::default())?;
    let kernel = Kernel::probe()?;
    let hierarchies = Hierarchies::find()?;
    let ground = Ground {
        kernel: &kernel,
        waivers: &common.waivers,
        hierarchies: &hierarchies,
    };
    let mut times = Vec::new();
    let mut running = Vec::new();
    'all: for tenant in 0.. {
        let name = format!("tenant-{tenant}");
        host.add_tenant(&name.parse()?, TenantSettings::default())?;
        for nth in 0..15 {
            if running.len() == SERVERS {
                break 'all;
            }
            let (_, settings) = place.server(&name, &format!("server-{nth}"))?;
            host.define_server(&settings)?;
            let streams = Io::null()?.streams;
            let begun = Instant::now();
            match host.start_server(&settings.id, ground, streams) {
                Ok(sandbox) => {
                    times.push(begun.elapsed());
                    running.push((settings.id, sandbox));
                }
                Err(error) => {
                    let why = cloison_tests::chain(&error);
                    println!("late launches end at {}: {why}", running.len());
                    break 'all;
                }
            }
        }
    }
    let part = |from: usize, to: usize| {
        let mut part: Vec<Duration> = times.iter().copied().take(to).skip(from).collect();
        median(&mut part)
    };
    let (early, last) = (
        part(5, 15),
        part(times.len().saturating_sub(10), times.len()),
    );
    let ratio = last.as_secs_f64() / early.as_secs_f64();
    println!(
        "the last ten of {} launches: {:.2} ms, the tenth and its neighbours {:.2} ms, ratio \
         {ratio:.2}, target {LATE_TARGET} {}",
        times.len(),
        ms(last),
        ms(early),
        verdict(ratio <= LATE_TARGET && times.len() == SERVERS),
    );
    let begun = Instant::now();
    let listed = host.servers(None)?.len();
    println!(
        "    listing {listed} servers, {:.1} ms",
        ms(begun.elapsed())
    );
    for (id, sandbox) in running {
        drop(sandbox);
        host.stop_server(&id, Signal::SIGKILL, Duration::ZERO)?;
    }
    Ok(())
}

/// A thousand tenants of a larger pool, listed.
fn listing(common: &Common) -> Result<()> {
    let place = Place::new("list")?;
    let first = 0xb000_0000;
    let pool = Pool::new(first, first + LISTED * cloison::Block::COUNT - 1)?;
    let host = place.host(common, pool)?;
    for nth in 0..LISTED {
        let name: TenantName = format!("tenant-{nth}").parse()?;
        host.add_tenant(&name, TenantSettings::default())?;
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let listed = host.tenants()?.len();
        times.push(begun.elapsed());
        if listed != LISTED as usize {
            return Err(format!("{listed} of {LISTED} tenants are listed").into());
        }
    }
    let took = ms(median(&mut times));
    println!(
        "listing {LISTED} tenants: {took:.1} ms, target {LIST_TARGET_MS:.0} {}",
        verdict(took <= LIST_TARGET_MS)
    );
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
