//! A host on the stage, and what an operator types.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cloison_tests::launcher::{self, sample};
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// The environment variable with the path of the settings of a host that lacks
/// more than the sample waives.
const WAIVERS: &str = "CLOISON_TESTS_HOST";
/// Everything of the host.
const PLACE: &str = "/tmp/host";
const STATE: &str = "/tmp/host/state";
const RUNTIME: &str = "/tmp/host/run";
/// Its settings.
pub(crate) const HOST: &str = "/tmp/host/host.toml";

/// A host whose policy lets servers have the host's own `/usr`; gone with the
/// value.
pub(crate) struct Host;

impl Host {
    pub(crate) fn new() -> Self {
        Self::with_policy("shared_base = true\n")
    }

    pub(crate) fn with_policy(policy: &str) -> Self {
        fs::create_dir(PLACE).unwrap();
        let host = Self;
        host.set_policy(policy);
        host
    }

    /// What counts from now on.
    pub(crate) fn set_policy(&self, policy: &str) {
        let path = std::env::var_os(WAIVERS).map_or_else(|| sample("host.toml"), PathBuf::from);
        let waivers = fs::read_to_string(path).unwrap();
        let waivers = waivers.split("[policy]").next().unwrap();
        fs::write(HOST, format!("{waivers}\n[policy]\n{policy}")).unwrap();
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = format!("{PLACE}/{name}");
        fs::write(&path, text).unwrap();
        path
    }

    /// The file of a server that sleeps.
    pub(crate) fn sleeper(&self, tenant: &str, name: &str) -> String {
        self.server(tenant, name, r#"["/usr/bin/sleep", "600"]"#)
    }

    /// The file of a server with that command.
    pub(crate) fn server(&self, tenant: &str, name: &str, command: &str) -> String {
        let text = format!("tenant = \"{tenant}\"\nname = \"{name}\"\ncommand = {command}\n");
        self.file(&format!("{tenant}-{name}.toml"), &text)
    }

    pub(crate) fn tenant(&self, name: &str) {
        let place = ["--host", HOST, "--state", STATE];
        let words: Vec<&str> = ["tenant", "add", name].into_iter().chain(place).collect();
        cloison(&words).wants(0, &[]);
    }

    /// The words of `up`, for what traces it.
    pub(crate) fn words_of_up<'a>(&self, which: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["up", "--host", HOST, "--state", STATE, "--runtime", RUNTIME];
        words.extend(["--output", "discard"]);
        words.extend(which);
        words
    }

    /// Where everything of it is.
    pub(crate) fn words_of_place(&self) -> [&'static str; 6] {
        ["--host", HOST, "--state", STATE, "--runtime", RUNTIME]
    }

    pub(crate) fn words_of_down<'a>(&self, which: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["down", "--host", HOST, "--state", STATE];
        words.extend(["--runtime", RUNTIME, "--timeout-s", "0"]);
        words.extend(which);
        words
    }

    pub(crate) fn up(&self, which: &[&str]) -> Ended {
        cloison(&self.words_of_up(which))
    }

    pub(crate) fn down(&self, which: &[&str]) -> Ended {
        cloison(&self.words_of_down(which))
    }

    /// Any other verb, on what runs.
    pub(crate) fn verb(&self, words: &[&str]) -> Ended {
        let (verb, rest) = words.split_first().unwrap();
        let place = ["--state", RUNTIME];
        let words: Vec<&str> = [*verb]
            .into_iter()
            .chain(place)
            .chain(rest.iter().copied())
            .collect();
        cloison(&words)
    }

    pub(crate) fn remove_tenant(&self, name: &str) -> Ended {
        let place = ["--state", STATE, "--runtime", RUNTIME, "--purge"];
        let words: Vec<&str> = ["tenant", "remove", name]
            .into_iter()
            .chain(place)
            .collect();
        cloison(&words)
    }

    /// Every server, as `ps` tells.
    pub(crate) fn ps(&self) -> Vec<Value> {
        let ended = cloison(&["ps", "--json", "--state", STATE, "--runtime", RUNTIME]);
        ended.wants(0, &[]);
        serde_json::from_str(&ended.out).unwrap()
    }

    /// What one is now; `None`: it is not defined.
    pub(crate) fn life(&self, id: &str) -> Option<String> {
        let all = self.ps();
        let found = all.iter().find(|server| server["id"] == *id)?;
        Some(found["life"].as_str().unwrap().to_owned())
    }

    pub(crate) fn pid(&self, id: &str) -> i64 {
        let all = self.ps();
        let found = all.iter().find(|server| server["id"] == *id);
        found.unwrap()["pid"].as_i64().unwrap()
    }

    /// What is written down of what runs.
    pub(crate) fn records(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["servers", "servers/ids", "servers/exec"] {
            let entries = fs::read_dir(Path::new(RUNTIME).join(folder));
            for entry in entries.into_iter().flatten() {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        names.retain(|name| !["lock", "ids", "exec"].contains(&name.as_str()));
        names.sort();
        names
    }

    /// Where the tenants' files are.
    pub(crate) fn storage(&self) -> PathBuf {
        Path::new(STATE).join("storage")
    }

    pub(crate) fn registry(&self) -> Vec<u8> {
        fs::read(format!("{STATE}/registry.json")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !thread::panicking() {
            while umount2(&Path::new(STATE).join("storage"), MntFlags::MNT_DETACH).is_ok() {}
            fs::remove_dir_all(PLACE).unwrap();
        }
    }
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Wants this code, and each of these in what it wrote.
    #[track_caller]
    pub(crate) fn wants(&self, code: i32, fragments: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let text = format!("{}{}", self.out, self.err);
        for fragment in fragments {
            assert!(text.contains(fragment), "{fragment:?} in {self:?}");
        }
    }
}

/// The launcher, without input.
pub(crate) fn cloison(words: &[&str]) -> Ended {
    let mut command = Command::new(launcher::path().unwrap());
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
