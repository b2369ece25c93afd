//! What check, inspect, completions and man show.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use cloison_sandbox::{Kernel, Layer, Waivers};
use cloison_tests::Outcome;
use cloison_tests::launcher::sample;
use nix::mount::{MsFlags, mount, umount};
use serde_json::Value;

use super::ground::{Running, cloison, end, run, sandbox_of};

pub(crate) fn inspected() -> Outcome {
    let running = Running::named("seen", &["sleep", "600"]);
    let pid = sandbox_of("seen").unwrap().to_string();
    for target in ["seen", &pid] {
        let ended = end(cloison(&["inspect", target]));
        ended.wants(0, &[]);
        let first = format!("sandbox seen: process {pid}, launched by process ");
        assert!(ended.out.starts_with(&first), "{ended:?}");
        for fragment in [
            "cgroup running",
            "no new privs                 1  [read]",
            "uid map                      0 1879048192 65536  [read]",
            "securebits                   0xef  [self-reported before it started]",
            "signal scope                 unknown  [unreadable: no interface of the kernel tells]",
        ] {
            assert!(
                ended.out.contains(fragment),
                "{fragment:?} in {}",
                ended.out
            );
        }
    }
    running.terminate().wants(128 + 15, &[]);
    end(cloison(&["inspect", "seen"])).wants(1, &["no sandbox named seen runs"]);
    end(cloison(&["inspect", &pid])).wants(1, &["there is no process"]);
    Outcome::Passed
}

pub(crate) fn any_process() -> Outcome {
    let ended = end(cloison(&["inspect", "1"]));
    ended.wants(0, &[]);
    assert!(ended.out.starts_with("process 1\n"), "{ended:?}");
    assert!(
        ended
            .out
            .contains("pid namespace                the host's  [read]")
    );
    assert!(
        ended
            .out
            .contains("securebits                   unknown  [unreadable: not reported]")
    );
    Outcome::Passed
}

pub(crate) fn clash() -> Outcome {
    let file = "/tmp/passwd";
    let mut text = fs::read_to_string("/etc/passwd").unwrap();
    let line = text.lines().count() + 1;
    text.push_str("old\x1b[2J:x:1900000000:5::/:/bin/sh\n");
    fs::write(file, text).unwrap();
    let none: Option<&str> = None;
    mount(Some(file), "/etc/passwd", none, MsFlags::MS_BIND, none).unwrap();
    let host = sample("host.toml");
    let checked = end(cloison(&["check", "--host", host.to_str().unwrap()]));
    let ran = end(run(&["true"]));
    umount("/etc/passwd").unwrap();
    fs::remove_file(file).unwrap();
    checked.wants(1, &[]);
    let wanted = format!("/etc/passwd, line {line}, names ids from 1900000000 to 1900000000");
    assert!(checked.out.contains(&wanted), "{checked:?}");
    assert!(checked.out.contains("this host cannot start `app`"));
    assert!(!checked.out.contains('\x1b'), "{checked:?}");
    ran.wants(125, &[&wanted]);
    Outcome::Passed
}

pub(crate) fn json() -> Outcome {
    let parse = |words: &[&str]| {
        let ended = end(cloison(words));
        let value: Value = serde_json::from_str(&ended.out).unwrap();
        (ended.code, value)
    };
    let host = sample("host.toml");
    for words in [
        &["check", "--json"][..],
        &["check", "--json", "--host", host.to_str().unwrap()],
    ] {
        let (code, check) = parse(words);
        let can_start = check["can_start"].as_bool().unwrap();
        assert_eq!(code, Some(i32::from(!can_start)));
        let layers = check["layers"].as_array().unwrap();
        assert_eq!(layers.len(), Layer::ALL.len());
        let missing = layers
            .iter()
            .filter(|layer| layer["verdict"] == "unavailable");
        for layer in missing {
            assert!(layer["missing"]["remedy"].is_string(), "{layer}");
            assert!(!can_start);
        }
        assert!(check["kernel"]["features"].as_array().unwrap().len() > 30);
        assert_eq!(check["ids"]["first"], 1_879_048_192);
        let pools = check["pools"].as_array().unwrap();
        assert!(pools.iter().any(|pool| pool["used"].as_u64() > Some(0)));
    }

    let running = Running::named("seen", &["sleep", "600"]);
    let (code, seen) = parse(&["inspect", "--json", "seen"]);
    assert_eq!(code, Some(0));
    assert_eq!(seen["sandbox"]["name"], "seen");
    assert_eq!(seen["sandbox"]["cgroup_state"], "running");
    let posture = seen["posture"].as_array().unwrap();
    let of = |field: &str| posture.iter().find(|fact| fact["field"] == field).unwrap();
    assert_eq!(of("no-new-privs")["value"], 1);
    assert_eq!(of("no-new-privs")["known"], "read");
    assert_eq!(of("tasks-max")["value"], 512);
    assert_eq!(of("tasks-max")["known"], "read");
    assert!(seen["usage"]["tasks"].as_u64() >= Some(2));
    assert!(seen["usage"]["memory_bytes"].as_u64() > Some(0));
    running.terminate().wants(128 + 15, &[]);
    Outcome::Passed
}

pub(crate) fn judged() -> Outcome {
    let (probed, assumed) = (Kernel::probe().unwrap(), Kernel::assume().unwrap());
    for layer in Layer::ALL {
        assert_eq!(
            assumed.verdict(layer, &Waivers::none()),
            probed.verdict(layer, &Waivers::none()),
            "{layer}"
        );
    }
    Outcome::Passed
}

pub(crate) fn manual() -> Outcome {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = end(cloison(&["completions", shell]));
        ended.wants(0, &[]);
        assert!(ended.out.contains("listen"), "{shell}");
    }
    let folder = "/tmp/man1";
    fs::create_dir(folder).unwrap();
    end(cloison(&["man", folder])).wants(0, &[]);
    for (page, wanted) in [
        ("cloison.1", "inspect"),
        ("cloison-run.1", "LISTEN_FDS"),
        ("cloison-check.1", "json"),
        ("cloison-inspect.1", "self"),
    ] {
        let text = fs::read_to_string(format!("{folder}/{page}")).unwrap();
        assert!(text.starts_with(".ie") && text.contains(wanted), "{page}");
    }
    fs::remove_dir_all(folder).unwrap();
    for verb in ["run", "check", "inspect", "completions", "man"] {
        let ended = end(cloison(&[verb, "--help"]));
        ended.wants(0, &[]);
        assert!(ended.out.contains("Example"), "{verb}");
    }
    let version = end(cloison(&["--version"]));
    assert_eq!(
        version.out,
        format!("cloison {}\n", env!("CARGO_PKG_VERSION"))
    );
    Outcome::Passed
}

pub(crate) fn closed_reader() -> Outcome {
    for words in [&["inspect", "1"][..], &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = cloison(words);
        let mut child = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(command);
        let mut text = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{words:?}: {text}");
        assert_eq!(text, "");
    }
    Outcome::Passed
}
