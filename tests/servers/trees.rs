//! Trees of tenants, and servers that have them as their roots.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison_tests::fault::{Deed, Fault, Role, Traced, traced};
use cloison_tests::{Outcome, REPORT, launcher};

use crate::ground::Host;

const BASE: &str = "/tmp/base";
const LIMIT: Duration = Duration::from_secs(60);

/// A base with a shell and what it needs; gone with the value.
struct Base;

impl Base {
    fn new() -> Self {
        for name in ["proc", "dev", "tmp", "run", "srv", "usr/bin", "etc"] {
            fs::create_dir_all(Path::new(BASE).join(name)).unwrap();
        }
        let mut files: BTreeSet<PathBuf> = BTreeSet::new();
        for name in ["dash", "sleep", "cat", "id", "touch"] {
            let program = PathBuf::from("/usr/bin").join(name);
            let output = Command::new("ldd").arg(&program).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let words = said.split_whitespace().filter(|word| word.starts_with('/'));
            files.extend(words.map(PathBuf::from));
            files.insert(program);
        }
        for file in files {
            let to = Path::new(BASE).join(file.strip_prefix("/").unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&file, to).unwrap();
        }
        symlink("usr/bin", Path::new(BASE).join("bin")).unwrap();
        symlink("dash", Path::new(BASE).join("usr/bin/sh")).unwrap();
        fs::write(Path::new(BASE).join("etc/motd"), "the base\n").unwrap();
        Self
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        fs::remove_dir_all(BASE).unwrap();
    }
}

fn tree(host: &Host, verb: &str, words: &[&str]) -> crate::ground::Ended {
    let place = host.words_of_place();
    // It takes no settings of the host.
    let words: Vec<&str> = ["tree", verb]
        .into_iter()
        .chain(words.iter().copied())
        .chain(place[2..].iter().copied())
        .collect();
    crate::ground::cloison(&words)
}

fn storage(host: &Host, tenant: &str) -> PathBuf {
    host.storage().join(tenant).join("trees")
}

pub(crate) fn own() -> Outcome {
    let (host, _base) = (Host::with_policy(""), Base::new());
    for tenant in ["acme", "other"] {
        host.tenant(tenant);
        tree(&host, "add", &[tenant, "site", BASE]).wants(0, &["has the tree site"]);
        let text = format!(
            "tenant = \"{tenant}\"\nname = \"web\"\n\
             command = [\"/usr/bin/sh\", \"-c\", \"sleep 600\"]\n\
             [root.tree]\nname = \"site\"\naccess = \"read-write\"\n"
        );
        let file = host.file(&format!("{tenant}.toml"), &text);
        host.up(&[&file]).wants(0, &["running"]);
    }
    let write = [
        "exec",
        "acme/web",
        "--",
        "sh",
        "-c",
        "echo mine >/srv/file; cat /etc/motd",
    ];
    host.verb(&write).wants(0, &["the base"]);
    let look = ["exec", "other/web", "--", "sh", "-c", "cat /srv/file"];
    host.verb(&look).wants(1, &["No such file"]);
    // Neither the other tenant's nor the base's inode, and never an id of the
    // host's.
    let inodes: BTreeSet<(u64, u64)> = [
        storage(&host, "acme").join("site/etc/motd"),
        storage(&host, "other").join("site/etc/motd"),
        Path::new(BASE).join("etc/motd"),
    ]
    .iter()
    .map(|path| {
        let found = fs::metadata(path).unwrap();
        (found.dev(), found.ino())
    })
    .collect();
    assert_eq!(inodes.len(), 3);
    let made = fs::metadata(storage(&host, "acme").join("site/srv/file")).unwrap();
    assert!(
        made.uid() >= 1_879_048_192 && made.uid().is_multiple_of(1 << 20),
        "{}",
        made.uid()
    );
    tree(&host, "list", &["acme"]).wants(0, &["site", "acme/web"]);
    host.down(&["acme", "other"]).wants(0, &[]);
    Outcome::Passed
}

pub(crate) fn refused() -> Outcome {
    let (host, _base) = (Host::with_policy(""), Base::new());
    host.tenant("acme");
    let add = |base: &str| tree(&host, "add", &["acme", "site", base]);
    add("/tmp/absent").wants(125, &["/tmp/absent"]);
    fs::set_permissions(BASE, fs::Permissions::from_mode(0o777)).unwrap();
    add(BASE).wants(125, &["not the host root's alone"]);
    fs::set_permissions(BASE, fs::Permissions::from_mode(0o755)).unwrap();
    let odd = Path::new(BASE).join("srv/odd");
    std::os::unix::fs::chown(Path::new(BASE).join("etc/motd"), Some(70_000), None).unwrap();
    add(BASE).wants(125, &["etc/motd"]);
    assert!(!odd.exists());
    assert_eq!(names(&storage(&host, "acme")), [""; 0]);
    std::os::unix::fs::chown(Path::new(BASE).join("etc/motd"), Some(0), None).unwrap();
    add(BASE).wants(0, &[]);
    add(BASE).wants(125, &["there is a tree site already"]);
    let text = "tenant = \"acme\"\nname = \"web\"\ncommand = [\"/usr/bin/sh\"]\n\
                [root.tree]\nname = \"site\"\n";
    host.up(&[&host.file("acme.toml", text)]);
    tree(&host, "remove", &["acme", "site"]).wants(125, &["acme/web"]);
    host.down(&["acme"]).wants(0, &[]);
    tree(&host, "remove", &["acme", "site"]).wants(0, &[]);
    tree(&host, "remove", &["acme", "site"]).wants(1, &["there is no tree site"]);
    assert_eq!(names(&storage(&host, "acme")), [""; 0]);
    Outcome::Passed
}

/// Whoever copies is killed at one call in so many.
pub(crate) fn whole() -> Outcome {
    let (host, _base) = (Host::with_policy(""), Base::new());
    host.tenant("acme");
    let place = host.words_of_place();
    let words: Vec<&str> = ["tree", "add", "acme", "site", BASE]
        .into_iter()
        .chain(place[2..].iter().copied())
        .collect();
    let (mut kills, mut there) = (0, 0);
    for nth in (0..).step_by(41) {
        let traced = begin(&words, Fault::at(Role::Caller, nth, Deed::Kill));
        let trace = traced.end(LIMIT).unwrap();
        let is_there = names(&storage(&host, "acme")).contains(&"site".to_owned());
        if is_there {
            there += 1;
            assert_eq!(
                files(&storage(&host, "acme").join("site")),
                files(Path::new(BASE))
            );
            tree(&host, "remove", &["acme", "site"]).wants(0, &[]);
        }
        // What it left is in nobody's way.
        tree(&host, "add", &["acme", "site", BASE]).wants(0, &[]);
        tree(&host, "remove", &["acme", "site"]).wants(0, &[]);
        assert_eq!(names(&storage(&host, "acme")), [""; 0]);
        if trace.hit.is_none() {
            break;
        }
        kills += 1;
    }
    println!("{REPORT}killed {kills} times, the tree was there {there} times, whole");
    if kills < 10 {
        return Outcome::Failed("too few kills".to_owned());
    }
    Outcome::Passed
}

fn begin(words: &[&str], fault: Fault) -> Traced {
    let program = launcher::path().unwrap();
    let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    let wrapper = Path::new(env!("CARGO_BIN_EXE_traced"));
    let mut command = traced(wrapper, program.as_os_str(), &arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Traced::start(command, Some(fault))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// How many there are of everything beneath it, and how long the files are.
fn files(directory: &Path) -> (usize, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        sum.0 += 1;
        if found.is_dir() {
            let (count, bytes) = files(&path);
            sum = (sum.0 + count, sum.1 + bytes);
        } else {
            sum.1 += found.len();
        }
    }
    sum
}
