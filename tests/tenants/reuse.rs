//! A block is handed out again only when nothing has one of its ids.
//!
//! Each case has a pool of one block. Its tenant is purged while one thing
//! has an id of it: nobody is added then, and the error names the thing. With
//! it gone somebody is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cloison::{Host, Removal, Retired, TenantSettings};
use cloison_tests::Outcome;
use nix::unistd::{Gid, Uid, getgroups, setfsgid, setfsuid, setgroups};

use super::ground::{Place, name, nobody, refused};

fn add(host: &Host) -> Result<cloison::Tenant, cloison::Error> {
    host.add_tenant(&name("next"), TenantSettings::default())
}

/// Adds a tenant and purges him.
fn gone(host: &Host) -> Vec<Retired> {
    host.add_tenant(&name("gone"), TenantSettings::default())
        .unwrap();
    host.remove_tenant(&name("gone"), Removal::Purge, nobody)
        .unwrap();
    host.retired().unwrap()
}

/// Purges a tenant while `make` has made something with the id `nth` of his
/// block, and `remove` has not removed it.
fn waits<T>(
    place: &Place,
    nth: u32,
    holder: &str,
    make: impl FnOnce(u32) -> T,
    remove: impl FnOnce(T),
) {
    let host = place.host();
    let id = place.pool.ids().start() + nth;
    assert_eq!(gone(&host).len(), 1);
    let made = make(id);
    for _ in 0..2 {
        refused(
            add(&host),
            &[
                "no block left for one more tenant; 1 wait",
                &format!("the first because {holder}"),
                "end what has the ids that wait",
            ],
        );
        assert_eq!(host.retired().unwrap().len(), 1, "it is forgotten");
    }
    remove(made);
    // The kernel takes keys away a little later.
    let begun = Instant::now();
    let added = loop {
        match add(&host) {
            Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                thread::sleep(Duration::from_millis(20));
            }
            added => break added.unwrap(),
        }
    };
    assert_eq!(added.block.first(), *place.pool.ids().start());
    assert_eq!(host.retired().unwrap(), []);
    host.remove_tenant(&name("next"), Removal::Purge, nobody)
        .unwrap();
}

/// A process that only waits.
fn sleeping(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn process() -> Outcome {
    let place = Place::new(9, 1);
    // Of the disk's ids, of the first server's, of the last.
    for nth in [0, 65_536, 1_048_575] {
        waits(
            &place,
            nth,
            "process ",
            |id| sleeping(Command::new("cat").uid(id).gid(0)),
            end,
        );
    }
    // A purge is not begun while one runs: it would make new files.
    let host = place.host();
    let tenant = add(&host).unwrap();
    let child = sleeping(
        Command::new("cat")
            .uid(tenant.block.first() + 70_000)
            .gid(0),
    );
    refused(
        host.remove_tenant(&name("next"), Removal::Purge, nobody),
        &[&format!("process {} has one of the ids", child.id())],
    );
    assert_eq!(host.tenant(&name("next")).unwrap(), tenant);
    end(child);
    host.remove_tenant(&name("next"), Removal::Purge, nobody)
        .unwrap();
    Outcome::Passed
}

/// A thread of ours with another id of file systems, which no other thread has.
pub(crate) fn thread() -> Outcome {
    let place = Place::new(10, 1);
    for is_group in [false, true] {
        waits(
            &place,
            77_777,
            &format!("process {}", std::process::id()),
            |id| {
                let (end, ended) = channel::<()>();
                let (tell, ready) = channel();
                let running = thread::spawn(move || {
                    if is_group {
                        setfsgid(Gid::from_raw(id));
                    } else {
                        setfsuid(Uid::from_raw(id));
                    }
                    tell.send(()).unwrap();
                    ended.recv().unwrap_err();
                });
                ready.recv().unwrap();
                (end, running)
            },
            |(end, running)| {
                drop(end);
                running.join().unwrap();
            },
        );
    }
    Outcome::Passed
}

pub(crate) fn group() -> Outcome {
    let place = Place::new(11, 1);
    waits(
        &place,
        65_536,
        "process ",
        |id| sleeping(Command::new("cat").gid(id)),
        end,
    );
    // One among others, of the test itself.
    let own = getgroups().unwrap();
    waits(
        &place,
        131_072,
        &format!("process {}", std::process::id()),
        |id| setgroups(&[Gid::from_raw(4), Gid::from_raw(id)]).unwrap(),
        |()| setgroups(&own).unwrap(),
    );
    Outcome::Passed
}

/// Makes a key in a session's keyring, gives it to a user, or a group, and stays
/// with the keyring until its input ends. It has no other id than root's.
const KEEP_KEY: &str = r#"
    my ($kind, $name, $content) = ("user", "cloison-reuse", "x");
    my $key = syscall(248, $kind, $name, $content, 1, -3);
    die "add_key: $!" if $key < 0;
    syscall(250, 4, $key, $ARGV[0] + 0, $ARGV[1] + 0) == 0 or die "chown: $!";
    $| = 1;
    print "made\n";
    <STDIN>;
"#;

fn keep_key(owners: [String; 2]) -> Child {
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", KEEP_KEY, "--"]).args(owners);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut line = String::new();
    let output = child.stdout.as_mut().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "made\n");
    child
}

pub(crate) fn key() -> Outcome {
    let place = Place::new(12, 1);
    for is_group in [false, true] {
        waits(
            &place,
            65_536,
            "a key: `",
            |id| {
                keep_key(if is_group {
                    ["-1".to_owned(), id.to_string()]
                } else {
                    [id.to_string(), "-1".to_owned()]
                })
            },
            end,
        );
    }
    Outcome::Passed
}

pub(crate) fn system_v() -> Outcome {
    let place = Place::new(13, 1);
    for (kind, make, remove) in [
        ("shm", ["-M", "4096"], "-m"),
        ("sem", ["-S", "1"], "-s"),
        ("msg", ["-Q", "-p0600"], "-q"),
    ] {
        waits(
            &place,
            65_999,
            &format!("the System V object {kind} "),
            |id| {
                let mut command = Command::new("ipcmk");
                let output = command.args(make).uid(id).gid(0).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                // `Shared memory id: 3`
                text.trim().rsplit(' ').next().unwrap().to_owned()
            },
            |number| {
                let status = Command::new("ipcrm").args([remove, &number]).status();
                assert!(status.unwrap().success());
            },
        );
    }
    Outcome::Passed
}

pub(crate) fn map() -> Outcome {
    let place = Place::new(14, 1);
    for file in ["uid_map", "gid_map"] {
        waits(
            &place,
            65_536,
            "the user namespace of process ",
            |id| {
                let child = sleeping(Command::new("unshare").args(["--user", "cat"]));
                let map = format!("/proc/{}/{file}", child.id());
                let own = fs::read_link("/proc/self/ns/user").unwrap();
                let others = format!("/proc/{}/ns/user", child.id());
                while fs::read_link(&others).is_ok_and(|it| it == own) {
                    thread::sleep(Duration::from_millis(5));
                }
                // Its one process keeps the host's id, which is not mapped.
                fs::write(map, format!("5 {id} 10")).unwrap();
                child
            },
            end,
        );
    }
    Outcome::Passed
}

pub(crate) fn file() -> Outcome {
    let place = Place::new(15, 1);
    let root = place.storage("gone");
    let holder = format!("the file {}", root.display());
    waits(
        &place,
        3,
        &holder,
        |id| {
            fs::create_dir_all(root.join("x")).unwrap();
            fs::write(root.join("x/file"), "").unwrap();
            chown(root.join("x/file"), Some(id), Some(id)).unwrap();
        },
        |()| fs::remove_dir_all(&root).unwrap(),
    );
    Outcome::Passed
}

/// A block that was never a tenant's is passed over while something has one of
/// its ids, whoever made it.
pub(crate) fn first_use() -> Outcome {
    let place = Place::new(16, 2);
    let host = place.host();
    let start = *place.pool.ids().start();
    let child = sleeping(Command::new("cat").uid(start + 5).gid(0));
    let second = add(&host).unwrap();
    assert_eq!(second.block.first(), start + cloison::Block::COUNT);
    let other = host.add_tenant(&name("other"), TenantSettings::default());
    refused(other, &["no block left"]);
    end(child);
    let first = host.add_tenant(&name("other"), TenantSettings::default());
    assert_eq!(first.unwrap().block.first(), start);
    Outcome::Passed
}
