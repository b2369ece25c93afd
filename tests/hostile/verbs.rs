//! Every verb, on a sandbox with a hostile root.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Exec, ExecListener, ExitStatus, Held, Io, OwnAccess, Prepared, Sandbox, Spec, Streams,
};
use cloison_tests::Outcome;
use nix::sys::signal::Signal;

use crate::ground::{Launch, VICTIM, fresh_tree, launch, memory, own_root, shown, spec};
use crate::outside::Outside;

/// Nothing here waits for a tenant: this is for a machine that is very busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What is made beforehand, with a place to listen for `exec`.
pub(crate) fn prepared(spec: &Spec) -> Prepared {
    let directory = Path::new("/tmp/exec");
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    let mut prepared = Prepared::new(spec).unwrap();
    prepared.exec = Some(ExecListener::bind(&directory.join("socket")).unwrap());
    prepared
}

/// Start, inspect, exec, freeze, thaw, stop, removal; how many were tried.
/// Whatever fails, nothing is left frozen or running.
pub(crate) fn every_verb(held: Held) -> Result<usize, String> {
    every_verb_after(held, |_| Ok(0))
}

/// The same, with `first` behind the start: how many that tried.
fn every_verb_after(
    held: Held,
    first: impl FnOnce(&Sandbox) -> Result<usize, String>,
) -> Result<usize, String> {
    let begun = Instant::now();
    let mut sandbox = held.start().map_err(failed("start"))?;
    let tried = first(&sandbox).and_then(|tried| {
        inspect_exec_freeze(&sandbox)?;
        sandbox
            .stop(Signal::SIGTERM, Duration::from_millis(200))
            .map_err(failed("stop"))?;
        Ok(tried + 7)
    });
    let removed = sandbox.remove().map_err(failed("removal"));
    let tried = tried?;
    removed?;
    if begun.elapsed() > PATIENCE {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    Ok(tried)
}

fn failed<E: std::fmt::Debug>(verb: &'static str) -> impl Fn(E) -> String {
    let begun = Instant::now();
    move |error| format!("{verb}: {error:?} after {:?}", begun.elapsed())
}

/// What leaves it running: four verbs.
fn inspect_exec_freeze(sandbox: &Sandbox) -> Result<(), String> {
    sandbox.inspect().map_err(failed("inspect"))?;
    let ended = run_inside(sandbox, "cat /proc/self/status >/dev/null")?;
    if ended != ExitStatus::Exited(0) {
        return Err(format!("exec ended with {ended:?}"));
    }
    let cgroup = &sandbox.prepared().cgroup;
    let frozen = cgroup.freeze().map_err(failed("freeze"));
    cgroup.thaw().map_err(failed("thaw"))?;
    frozen
}

fn run_inside(sandbox: &Sandbox, script: &str) -> Result<ExitStatus, String> {
    let words = ["/usr/bin/sh", "-c", script].map(str::to_owned);
    let mut exec = Exec::new(words.to_vec());
    exec.environment
        .insert("PATH".to_owned(), "/usr/bin".to_owned());
    let mut second = sandbox
        .exec(&exec, Io::null().unwrap().streams)
        .map_err(failed("exec"))?;
    let ended = second.wait_for(PATIENCE).map_err(failed("exec"))?;
    ended.ok_or_else(|| "exec does not end".to_owned())
}

/// Root of its own tree, he puts links, FIFOs and loops where he can while the
/// verbs go on.
pub(crate) fn mangled() -> Outcome {
    shown();
    fs::create_dir_all(VICTIM).unwrap();
    fs::write(Path::new(VICTIM).join("file"), "victim").unwrap();
    let script = "rm -rf /etc; ln -s /proc/1/root /etc; mkfifo /fifo /passwd; ln -s loop /loop; \
                  ln -s / /srv/back; mv /srv /gone; ln -s /tmp/victim /srv; rm -f /bin; \
                  mkdir -p /a/b/c/d/e/f/g; chmod 000 /a; mkdir /done; exec sleep 60";
    // Each took place. What a layer in memory lies over cannot be moved away.
    let all = "test -d /done && test \"$(readlink /etc)\" = /proc/1/root && test -p /fifo \
               && test -p /passwd && test -L /loop && ! test -L /bin \
               && test \"$(stat -c %a /a)\" = 0";
    let moved = "test -d /gone/deep && test \"$(readlink /srv)\" = /tmp/victim";
    let not_moved = "test -d /srv/deep && test -L /srv/victim";
    let mut tried = 0;
    for access in [OwnAccess::ReadWrite, memory()] {
        fresh_tree();
        let before = Outside::look(&[VICTIM]);
        let spec = spec(own_root(access.clone()), script);
        let (mut output, stdout) = std::io::pipe().unwrap();
        let stderr = stdout.try_clone().unwrap();
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap()
        };
        let streams = Streams::Descriptors {
            stdin: null().into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let held = match launch(&spec, prepared(&spec), Some(streams)) {
            Launch::Held(held) => *held,
            Launch::Refused(error) | Launch::Failed(error) => {
                return Outcome::Failed(format!("{error:?}"));
            }
        };
        let srv = match access {
            OwnAccess::ReadWrite => moved,
            _ => not_moved,
        };
        // They come while it is at it, and once more when all is done.
        let mangled = format!("{all} && {srv}");
        let verbs = every_verb_after(held, |sandbox| {
            inspect_exec_freeze(sandbox)?;
            let deadline = Instant::now() + PATIENCE / 2;
            while run_inside(sandbox, &mangled)? != ExitStatus::Exited(0) {
                if Instant::now() > deadline {
                    return Err("it was not mangled so".to_owned());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(4)
        });
        match verbs {
            Ok(verbs) => tried += verbs,
            Err(error) => {
                let mut said = String::new();
                drop(output.read_to_string(&mut said));
                return Outcome::Failed(format!("{access:?}: {error}; it said {said:?}"));
            }
        }
        let changes = before.changes(&Outside::look(&[VICTIM]));
        if !changes.is_empty() {
            return Outcome::Failed(changes.join("\n"));
        }
    }
    fs::remove_dir_all("/tmp/tenant").unwrap();
    println!("{}2 mangled roots, {tried} verbs", cloison_tests::REPORT);
    Outcome::Passed
}
