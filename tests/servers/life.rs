//! What a server is, and who may change it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;

use cloison_tests::{Outcome, launcher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::{Host, wait_until};

pub(crate) fn outlives() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    host.up(&[&file]).wants(0, &["acme/web running"]);
    assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    let pid = host.pid("acme/web");
    // Of ours nothing stays but its init, which is not the launcher.
    let own = launcher::path().unwrap();
    let programs = fs::read_dir("/proc").unwrap().filter_map(|process| {
        let program = process.unwrap().path().join("exe");
        fs::read_link(program).ok()
    });
    let programs: Vec<_> = programs.collect();
    assert!(!programs.contains(&own), "{programs:?}");
    let ours = |program: &&PathBuf| program.to_string_lossy().contains("memfd:cloison");
    assert_eq!(programs.iter().filter(ours).count(), 1, "{programs:?}");
    // Started again it is left alone.
    host.up(&["acme/web"]).wants(0, &["acme/web running"]);
    assert_eq!(host.pid("acme/web"), pid);
    host.down(&["acme"]).wants(0, &["acme/web absent"]);
    assert_eq!(host.life("acme/web"), None);
    assert_eq!(host.records(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn handled() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    host.up(&[&file]).wants(0, &[]);
    host.verb(&["inspect", "acme/web"])
        .wants(0, &["sandbox acme--web", "seccomp"]);
    let inside = ["exec", "acme/web", "--", "sh", "-c", "echo inside; exit 3"];
    host.verb(&inside).wants(3, &["inside"]);
    host.verb(&["freeze", "acme/web"]).wants(0, &[]);
    assert_eq!(host.life("acme/web").as_deref(), Some("frozen"));
    // It is up: it stays as somebody wanted it.
    host.up(&["acme"]).wants(0, &["acme/web frozen"]);
    host.verb(&["thaw", "acme/web"]).wants(0, &[]);
    assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    host.verb(&["stop", "acme/web"]).wants(0, &["acme/web"]);
    assert_eq!(host.life("acme/web").as_deref(), Some("absent"));
    host.verb(&["stop", "acme/web"]).wants(1, &[]);
    // It is still written down.
    host.up(&["acme/web"]).wants(0, &["acme/web running"]);
    host.down(&["acme/web"]).wants(0, &[]);
    host.up(&["acme/web"])
        .wants(1, &["there is no server acme/web"]);
    Outcome::Passed
}

pub(crate) fn dead() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let brief = host.server("acme", "brief", r#"["/usr/bin/sleep", "0.2"]"#);
    host.up(&[&brief]).wants(0, &[]);
    wait_until("its end", || {
        host.life("acme/brief").as_deref() == Some("dead")
    });
    // Others come and go, and it is still told of.
    let other = host.sleeper("acme", "other");
    host.up(&[&other]).wants(0, &[]);
    assert_eq!(host.life("acme/brief").as_deref(), Some("dead"));
    // One that is killed is no other server's process by its number.
    let pid = host.pid("acme/other");
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    wait_until("its end", || {
        host.life("acme/other").as_deref() == Some("dead")
    });
    host.verb(&["stop", "acme/brief"])
        .wants(0, &["had ended by itself"]);
    assert_eq!(host.life("acme/brief").as_deref(), Some("absent"));
    host.up(&["acme/other"]).wants(0, &["acme/other running"]);
    host.down(&["acme"]).wants(0, &[]);
    assert_eq!(host.records(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn kept() -> Outcome {
    let host = Host::new();
    for tenant in ["acme", "other"] {
        host.tenant(tenant);
        host.up(&[&host.sleeper(tenant, "web")]).wants(0, &[]);
    }
    let refused = host.remove_tenant("acme");
    refused.wants(125, &["acme/web", "stop them first"]);
    assert!(!refused.err.contains("other/web"), "{refused:?}");
    assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    host.down(&["acme"]).wants(0, &[]);
    host.remove_tenant("acme").wants(0, &[]);
    host.down(&["other"]).wants(0, &[]);
    Outcome::Passed
}

pub(crate) fn apart() -> Outcome {
    let host = Host::new();
    let mut seen = BTreeSet::new();
    for tenant in ["acme", "other"] {
        host.tenant(tenant);
        for name in ["web", "mail"] {
            host.up(&[&host.sleeper(tenant, name)]).wants(0, &[]);
            let pid = host.pid(&format!("{tenant}/{name}"));
            let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
            let mut words = map.split_whitespace().skip(1);
            let mut number = || words.next().unwrap().parse::<u32>().unwrap();
            let (first, count) = (number(), number());
            assert_eq!(count, 65_536);
            assert!(seen.insert(first / 65_536), "{first} twice");
        }
    }
    let blocks: BTreeSet<u32> = seen.iter().map(|range| range / 16).collect();
    assert_eq!((seen.len(), blocks.len()), (4, 2), "{seen:?}");
    // None of them is what its files carry on disk.
    assert!(seen.iter().all(|range| range % 16 != 0), "{seen:?}");
    host.down(&["acme", "other"]).wants(0, &[]);
    Outcome::Passed
}

pub(crate) fn many() -> Outcome {
    let host = Host::new();
    let mut files = Vec::new();
    for tenant in ["one", "two", "three"] {
        host.tenant(tenant);
        for name in ["a", "b", "c", "d"] {
            files.push(host.sleeper(tenant, name));
        }
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    host.up(&files)
        .wants(0, &["one/a running", "two/d running"]);
    assert_eq!(host.ps().len(), 12);
    host.down(&["one"]).wants(0, &[]);
    assert_eq!(host.ps().len(), 8);
    // All that are written down.
    host.verb(&["stop", "two/a"]).wants(0, &[]);
    host.up(&[]).wants(0, &["two/a running", "three/d running"]);
    host.down(&["two", "three"]).wants(0, &[]);
    assert_eq!((host.ps().len(), host.records().len()), (0, 0));
    Outcome::Passed
}

pub(crate) fn twice() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    host.up(&[&file]).wants(0, &[]);
    for _ in 0..5 {
        host.verb(&["stop", "acme/web", "--timeout-s", "0"])
            .wants(0, &[]);
        let codes: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| host.up(&["acme/web"])))
                .collect();
            let ended = starts.into_iter().map(|start| start.join().unwrap());
            ended.collect()
        });
        for ended in codes {
            // Who came second is told so, or found it running.
            assert!(
                ended.code == Some(0)
                    || ended.out.contains("runs already")
                    || ended.out.contains("held"),
                "{ended:?}"
            );
        }
        assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    }
    host.down(&["acme"]).wants(0, &[]);
    Outcome::Passed
}

/// As the comments of the sample say.
pub(crate) fn sample() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = launcher::sample("server.toml");
    host.up(&[&file.to_string_lossy()])
        .wants(0, &["acme/web running"]);
    let inside = ["exec", "acme/web", "--", "sh", "-c", "id -u"];
    host.verb(&inside).wants(0, &["1000"]);
    host.down(&["acme/web"]).wants(0, &[]);
    Outcome::Passed
}
