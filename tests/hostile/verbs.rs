//! Every verb, on a sandbox with a hostile root.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Exec, ExecListener, ExitStatus, Held, Io, OwnAccess, Prepared, Spec, Streams,
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
pub(crate) fn every_verb(held: Held) -> Result<usize, String> {
    let failed = |verb: &'static str| move |error: String| format!("{verb}: {error}");
    let text = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let begun = Instant::now();
    let mut sandbox = held
        .start()
        .map_err(|e| text(&e))
        .map_err(failed("start"))?;
    sandbox
        .inspect()
        .map_err(|e| text(&e))
        .map_err(failed("inspect"))?;
    let exec = Exec::new(
        ["/usr/bin/sh", "-c", "cat /proc/self/status >/dev/null"]
            .map(str::to_owned)
            .to_vec(),
    );
    let io = Io::null().unwrap();
    let mut second = sandbox
        .exec(&exec, io.streams)
        .map_err(|e| text(&e))
        .map_err(failed("exec"))?;
    let ended = second
        .wait_for(PATIENCE)
        .map_err(|e| text(&e))
        .map_err(failed("exec"))?;
    if ended != Some(ExitStatus::Exited(0)) {
        return Err(format!("exec ended with {ended:?}"));
    }
    let cgroup = &sandbox.prepared().cgroup;
    cgroup
        .freeze()
        .and_then(|()| cgroup.thaw())
        .map_err(|e| text(&e))
        .map_err(failed("freeze and thaw"))?;
    sandbox
        .stop(Signal::SIGTERM, Duration::from_millis(200))
        .map_err(|e| text(&e))
        .map_err(failed("stop"))?;
    sandbox
        .remove()
        .map_err(|e| text(&e))
        .map_err(failed("removal"))?;
    if begun.elapsed() > PATIENCE {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    Ok(7)
}

/// Root of its own tree, he puts links, FIFOs and loops where he can while the
/// verbs go on.
pub(crate) fn mangled() -> Outcome {
    shown();
    fs::create_dir_all(VICTIM).unwrap();
    fs::write(Path::new(VICTIM).join("file"), "victim").unwrap();
    let script = "rm -rf /etc; ln -s /proc/1/root /etc; mkfifo /fifo /passwd; ln -s loop /loop; \
                  ln -s / /srv/back; mv /srv /gone; ln -s /tmp/victim /srv; rm -f /lib /bin; \
                  mkdir -p /a/b/c/d/e/f/g; chmod 000 /a; echo done; exec sleep 60";
    let mut tried = 0;
    for access in [OwnAccess::ReadWrite, memory()] {
        fresh_tree();
        let before = Outside::look(&[VICTIM]);
        let spec = spec(own_root(access.clone()), script);
        let (mut output, stdout) = std::io::pipe().unwrap();
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
            stderr: null().into(),
        };
        let held = match launch(&spec, prepared(&spec), Some(streams)) {
            Launch::Held(held) => *held,
            Launch::Refused(error) | Launch::Failed(error) => {
                return Outcome::Failed(format!("{error:?}"));
            }
        };
        // The verbs come when the tree is as bad as it gets.
        let verbs = std::thread::spawn(move || every_verb(held));
        let mut word = [0; 5];
        let said = output.read_exact(&mut word);
        match (verbs.join().unwrap(), said) {
            (Ok(verbs), _) => tried += verbs,
            (Err(error), said) => return Outcome::Failed(format!("{error}; {said:?}")),
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
