//! Every sample file runs.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use cloison_tests::Outcome;
use cloison_tests::launcher::sample;

use super::ground::{Running, cloison, end, run, state};

/// What is said of a file system in memory before Linux 6.3.
const NOT_MAPPED: &str = "tmpfs cannot be id-mapped by this kernel";

pub(crate) fn complete() -> Outcome {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(sample("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".toml") {
            found.insert(name);
        }
    }
    // That of a server is tried where servers are: `sample_server_runs`.
    let tested = [
        "hello.toml",
        "host.toml",
        "own-root.toml",
        "server.toml",
        "web.toml",
    ];
    assert_eq!(found, tested.map(str::to_owned).into());
    Outcome::Passed
}

pub(crate) fn hello() -> Outcome {
    let file = sample("hello.toml");
    let file = file.to_str().unwrap();
    let ended = end(run(&[file]));
    ended.wants(0, &[]);
    assert!(
        ended.out.starts_with("Hello from hello, a sandbox"),
        "{ended:?}"
    );
    // The command line goes before the file.
    let ended = end(run(&[file, "--env", "GREETING=Salut", "--name", "other"]));
    assert!(
        ended.out.starts_with("Salut from other, a sandbox"),
        "{ended:?}"
    );
    let ended = end(run(&[file, "sh", "-c", "echo $GREETING again"]));
    assert_eq!(ended.out, "Hello again\n", "{ended:?}");
    Outcome::Passed
}

pub(crate) fn own_root() -> Outcome {
    // As its first lines say.
    let text = std::fs::read_to_string(sample("own-root.toml")).unwrap();
    let script: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(|line| !line.starts_with("cloison"))
        .map(|line| format!("{line}\n"))
        .collect();
    let made = std::process::Command::new("sh")
        .args(["-ec", &script])
        .status();
    assert!(made.unwrap().success(), "{script}");
    let file = sample("own-root.toml");
    let ended = end(run(&[file.to_str().unwrap()]));
    let left = std::fs::read_dir("/tmp/own-root").unwrap().count();
    std::fs::remove_dir_all("/tmp/own-root").unwrap();
    if ended.code == Some(125) && ended.err.contains(NOT_MAPPED) {
        return Outcome::Skipped(format!("/tmp: {NOT_MAPPED}"));
    }
    ended.wants(0, &[]);
    assert_eq!(
        ended.out, "kept in memory\n/ belongs to user 0\n",
        "{ended:?}"
    );
    assert_eq!(left, 8);
    // Without it: the place in the file.
    let ended = end(run(&[file.to_str().unwrap()]));
    ended.wants(125, &["/tmp/own-root", "own-root.toml:25:8"]);
    Outcome::Passed
}

pub(crate) fn web() -> Outcome {
    let file = sample("web.toml");
    let mut running = Running::start(&mut run(&[
        file.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]));
    let line = running.error_line();
    let address = line.trim().strip_prefix("cloison: listening on ");
    let address = address.unwrap_or_else(|| panic!("{line}"));
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        assert!(answer.ends_with("\r\n\r\nHello from a server without a network.\n"));
    }
    running.terminate().wants(128 + 15, &[]);
    // The relay ends with the sandbox.
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn host() -> Outcome {
    let file = sample("host.toml");
    let ended = end(cloison(&["check", "--host", file.to_str().unwrap()]));
    if ended.code == Some(1) && ended.out.contains("waive landlock-network in") {
        return Outcome::Skipped("this kernel lacks more than the sample waives".to_owned());
    }
    ended.wants(0, &[]);
    assert!(ended.out.contains("this host can start `app`"), "{ended:?}");
    Outcome::Passed
}
