//! The example that keeps servers running.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use cloison_tests::{Outcome, launcher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::{Host, wait_until};

/// One that runs, and each line that it wrote.
struct Orchestrator {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Orchestrator {
    fn start(host: &Host, files: &[String]) -> Self {
        let mut command = Command::new(launcher::orchestrator().unwrap());
        command.args(host.words_of_place()).args(files);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, said) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                said.lock().unwrap().push(line.unwrap());
            }
        });
        Self { child, lines }
    }

    fn count(&self, fragment: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(fragment)).count()
    }

    fn end(mut self, signal: Signal) -> Vec<String> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.success(), signal == Signal::SIGTERM, "{status}");
        let lines = self.lines.lock().unwrap();
        lines.clone()
    }
}

pub(crate) fn keeps() -> Outcome {
    let host = Host::new();
    let mut files = Vec::new();
    for tenant in ["acme", "other"] {
        host.tenant(tenant);
        files.push(host.sleeper(tenant, "web"));
    }
    files.push(host.server("acme", "brief", r#"["/usr/bin/sleep", "0.1"]"#));
    let running = Orchestrator::start(&host, &files);
    wait_until("three starts of one that dies", || {
        running.count("acme/brief runs") >= 3
    });
    assert_eq!(running.count("acme/web runs"), 1);
    assert_eq!(host.life("other/web").as_deref(), Some("running"));
    // One that somebody else ends is started again too.
    host.verb(&["stop", "other/web"]).wants(0, &[]);
    wait_until("its next start", || running.count("other/web runs") == 2);
    let lines = running.end(Signal::SIGTERM);
    let ended = |id: &str| {
        lines
            .iter()
            .any(|line| line.contains(&format!("{id} is ended")))
    };
    assert!(ended("acme/web") && ended("other/web"), "{lines:?}");
    for server in host.ps() {
        let life = server["life"].as_str().unwrap();
        assert!(["absent", "dead"].contains(&life), "{server}");
    }
    host.down(&["acme", "other"]).wants(0, &[]);
    assert_eq!(host.records(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn replaced() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let files = [host.sleeper("acme", "web")];
    let first = Orchestrator::start(&host, &files);
    wait_until("its start", || first.count("acme/web runs") == 1);
    let pid = host.pid("acme/web");
    first.end(Signal::SIGKILL);
    // It needs nobody.
    assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    let second = Orchestrator::start(&host, &files);
    wait_until("its start", || second.count("acme/web runs") == 1);
    assert_ne!(host.pid("acme/web"), pid);
    second.end(Signal::SIGTERM);
    host.down(&["acme"]).wants(0, &[]);
    Outcome::Passed
}
