//! `--listen`: what the relay promises to clients and servers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cloison_tests::Outcome;

use super::ground::{Running, end, run, state};

/// Accepts and keeps each connection; the first line of one that is not
/// silent comes back.
const KEEPS: &str = r#"
    open(my $listener, "+<&=", 3) or die; my @kept;
    while (accept(my $client, $listener)) { push @kept, $client; syswrite $client, "in\n" }
"#;

fn serve(script: &str, listen: &[&str]) -> (Running, Vec<String>) {
    let mut words = Vec::new();
    for address in listen {
        words.extend(["--listen", address]);
    }
    words.extend(["--", "perl", "-e", script]);
    let mut running = Running::start(&mut run(&words));
    let ephemeral = listen.iter().filter(|address| address.ends_with(":0"));
    let addresses = ephemeral
        .map(|_| {
            let line = running.error_line();
            let address = line.trim().strip_prefix("cloison: listening on ");
            address.unwrap_or_else(|| panic!("{line}")).to_owned()
        })
        .collect();
    (running, addresses)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).unwrap();
    stream
}

fn greeted(stream: &mut TcpStream) -> bool {
    let mut line = [0; 3];
    stream.read_exact(&mut line).is_ok() && line == *b"in\n"
}

/// What a server wrote arrives, although it ended and the client is slow.
pub(crate) fn last_bytes() -> Outcome {
    const BYTES: usize = 3_000_000;
    let script = format!(
        r#"open(my $l, "+<&=", 3) or die; accept(my $c, $l); print $c "x" x {BYTES}; close $c;"#
    );
    let (running, addresses) = serve(&script, &["127.0.0.1:0"]);
    let mut stream = connect(&addresses[0]);
    let mut received = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        thread::sleep(Duration::from_millis(5));
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => received += length,
            Err(error) => panic!("after {received} bytes: {error}"),
        }
    }
    assert_eq!(received, BYTES);
    running.end().wants(0, &[]);
    // A client that takes nothing holds nobody up for long.
    let (running, addresses) = serve(&script, &["127.0.0.1:0"]);
    let stream = connect(&addresses[0]);
    let begun = std::time::Instant::now();
    running.end().wants(0, &[]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(stream);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

/// Silent connections do not keep others out.
pub(crate) fn full() -> Outcome {
    let (running, addresses) = serve(KEEPS, &["127.0.0.1:0"]);
    let mut first = connect(&addresses[0]);
    assert!(greeted(&mut first));
    let mut kept: Vec<TcpStream> = (0..63).map(|_| connect(&addresses[0])).collect();
    assert!(kept.iter_mut().all(greeted));
    let mut one_more = connect(&addresses[0]);
    assert!(greeted(&mut one_more), "nobody was let in any more");
    // The one that was silent longest had to go, and no other.
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    for stream in &mut kept {
        stream.set_nonblocking(true).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "another one was closed");
    }
    running.terminate().wants(128 + 15, &[]);
    Outcome::Passed
}

/// Two addresses of one port are one socket inside.
pub(crate) fn one_port() -> Outcome {
    let script = r#"
        print "$ENV{LISTEN_FDS}\n"; $| = 1; print "ready\n";
        open(my $listener, "+<&=", 3) or die;
        while (accept(my $client, $listener)) { syswrite $client, "in\n" }
    "#;
    let (mut running, _) = serve(script, &["127.0.0.1:18080", "[::1]:18080"]);
    assert_eq!(running.line(), "1\n");
    assert_eq!(running.line(), "ready\n");
    for address in ["127.0.0.1:18080", "[::1]:18080"] {
        assert!(greeted(&mut connect(address)), "{address}");
    }
    running.terminate().wants(128 + 15, &[]);
    end(run(&[
        "--listen",
        "127.0.0.1:18080",
        "--listen",
        "18080",
        "true",
    ]))
    .wants(125, &["listening on 127.0.0.1:18080 failed"]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

/// A launcher that may open no more waits, and does not spin.
pub(crate) fn no_descriptors() -> Outcome {
    let (running, addresses) = serve(KEEPS, &["127.0.0.1:0"]);
    assert!(greeted(&mut connect(&addresses[0])));
    let pid = running.child.id();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let last = open
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
        .max()
        .unwrap();
    for more in [1, 2] {
        let limit = format!("--nofile={}:4096", last + more);
        let limited = Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &limit])
            .status();
        assert!(limited.unwrap().success());
        let mut crowd: Vec<TcpStream> = (0..24).map(|_| connect(&addresses[0])).collect();
        thread::sleep(Duration::from_millis(200));
        let before = ticks(pid);
        thread::sleep(Duration::from_secs(1));
        let spent = ticks(pid) - before;
        assert!(spent < 20, "{spent} ticks of 100 with {more} to open");
        for stream in &mut crowd {
            match stream.write_all(b"x") {
                Ok(()) | Err(_) => {}
            }
        }
    }
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), "--nofile=1024:4096"])
        .status();
    assert!(limited.unwrap().success());
    thread::sleep(Duration::from_millis(300));
    assert!(greeted(&mut connect(&addresses[0])), "it accepts again");
    running.terminate().wants(128 + 15, &[]);
    Outcome::Passed
}

/// Processor time of a process: user and system.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let field = |at: usize| rest.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
    field(11) + field(12)
}
