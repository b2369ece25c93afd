//! tenant add, list, show, remove and restore.

use std::fs;
use std::path::Path;

use cloison_tests::Outcome;
use cloison_tests::launcher::sample;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use super::ground::{Ended, Running, cloison, end, record, sandbox_of, wait_until};

/// Where the host's state is, and where its settings are.
const STATE: &str = "/tmp/state-of-tenants";
const HOST: &str = "/tmp/host-of-tenants.toml";
const BLOCK: u64 = 1 << 20;

/// The sample's waivers, and a pool of two blocks, of which this is the first
/// id. Keys know no stage: those of another case would count.
fn write_host(nth: u64) -> u64 {
    let first = 0xa000_0000 + nth * 2 * BLOCK;
    let last = first + 2 * BLOCK - 1;
    let waivers = fs::read_to_string(sample("host.toml")).unwrap();
    let text = format!("{waivers}\n[id_pool]\nfirst = {first}\nlast = {last}\n");
    fs::write(HOST, text).unwrap();
    first
}

fn remove_all() {
    // One that was never opened has no mount.
    let storage = Path::new(STATE).join("storage");
    if storage.exists() {
        umount2(&storage, MntFlags::MNT_DETACH).unwrap();
    }
    if Path::new(STATE).exists() {
        fs::remove_dir_all(STATE).unwrap();
    }
    fs::remove_file(HOST).unwrap();
}

fn tenant(words: &[&str]) -> Ended {
    let mut command = cloison(&["tenant"]);
    command.args(words).args(["--state", STATE]);
    if words.first() == Some(&"add") {
        command.args(["--host", HOST]);
    }
    end(command)
}

fn json(words: &[&str]) -> Value {
    let mut all = words.to_vec();
    all.push("--json");
    let ended = tenant(&all);
    ended.wants(0, &[]);
    assert_eq!(ended.err, "");
    serde_json::from_str(&ended.out).unwrap()
}

pub(crate) fn life() -> Outcome {
    let first = write_host(0);
    let added = tenant(&["add", "shop", "--description", "customer \u{202e}1"]);
    added.wants(0, &[]);
    let range = format!("{first} to {}", first + BLOCK - 1);
    for fragment in [
        "tenant shop: present\n",
        &range,
        "/tmp/state-of-tenants/storage/shop",
        "customer \\u{202e}1",
    ] {
        assert!(added.out.contains(fragment), "{fragment:?} in {added:?}");
    }
    let shown = json(&["show", "shop"]);
    assert_eq!(shown["name"], "shop");
    assert_eq!(shown["block"], first);
    assert_eq!(shown["block_last"], first + BLOCK - 1);
    assert_eq!(shown["state"], "present");
    assert_eq!(shown["settings"]["description"], "customer \u{202e}1");
    let second = json(&["add", "blog"]);
    assert_eq!(second["block"], first + BLOCK);
    assert_eq!(tenant(&["show", "shop"]).out, added.out);
    let listed = json(&["list"]);
    let names = listed["tenants"].as_array().unwrap().iter();
    let names: Vec<&Value> = names.map(|tenant| &tenant["name"]).collect();
    assert_eq!(names, ["blog", "shop"]);
    assert_eq!(listed["retired"], serde_json::json!([]));

    let removed = tenant(&["remove", "shop"]);
    removed.wants(0, &[]);
    assert!(removed.out.contains("its storage stays"), "{removed:?}");
    assert_eq!(json(&["show", "shop"])["state"], "kept");
    assert_eq!(json(&["restore", "shop"])["state"], "present");
    assert_eq!(json(&["remove", "shop", "--purge"])["purged"], true);
    assert!(!Path::new(STATE).join("storage/shop").exists());
    let listed = tenant(&["list"]);
    listed.wants(0, &[]);
    assert!(listed.out.contains("\nblog "), "{listed:?}");
    let waiting = format!("not handed out again yet: {range}, of shop until 20");
    assert!(listed.out.contains(&waiting), "{listed:?}");
    assert_eq!(json(&["list"])["retired"][0]["tenant"], "shop");
    remove_all();
    Outcome::Passed
}

pub(crate) fn refused() -> Outcome {
    let first = write_host(1);
    tenant(&["list"]).wants(125, &["there is no directory /tmp/state-of-tenants"]);
    assert!(!Path::new(STATE).exists(), "something was made");
    tenant(&["add", "Shop"]).wants(125, &["a name has 1 to 23"]);
    tenant(&["add", "a", "--description", "two\nlines"]).wants(125, &["one line"]);
    tenant(&[]).wants(125, &[]);
    tenant(&["add", "shop"]).wants(0, &[]);
    tenant(&["add", "shop"]).wants(125, &["a tenant shop already", "remedy: choose another"]);
    for verb in ["show", "remove", "restore"] {
        tenant(&[verb, "nobody"]).wants(1, &["no tenant nobody", "remedy: see who there is"]);
    }
    tenant(&["add", "blog"]).wants(0, &[]);
    let full = tenant(&["add", "third"]);
    full.wants(
        125,
        &[
            "no block left",
            "remedy: name a larger id_pool in host.toml",
        ],
    );
    assert_eq!(full.out, "");
    for (text, fragments) in [
        (
            "[id_pool]\nfirst = 1\nlast = 2\n",
            &["a multiple of 65536", "tenants.toml:1:1"][..],
        ),
        ("[id_pol]\n", &["did you mean `id_pool`?"]),
    ] {
        fs::write(HOST, text).unwrap();
        tenant(&["add", "third"]).wants(125, fragments);
    }
    let registry = Path::new(STATE).join("registry.json");
    let text = fs::read_to_string(&registry).unwrap();
    for (from, to, fragment) in [
        (
            "\"format\": 1",
            "\"format\": 2",
            "is of format 2; this version knows up to 1",
        ),
        (
            "\"host\": \"",
            "\"host\": \"x",
            "was written by another host",
        ),
        (
            "\"block\": ",
            "\"blck\": ",
            "is not a file of this library, or is damaged",
        ),
        (
            &(first + BLOCK).to_string(),
            &first.to_string(),
            "are owned twice",
        ),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        fs::write(&registry, &changed).unwrap();
        tenant(&["list"]).wants(125, &["registry.json", fragment, "remedy: "]);
        tenant(&["remove", "shop"]).wants(125, &[fragment]);
        assert_eq!(fs::read_to_string(&registry).unwrap(), changed);
    }
    remove_all();
    Outcome::Passed
}

/// A sandbox that is no tenant's has no id of one.
pub(crate) fn clear() -> Outcome {
    let first = write_host(3);
    // The registry that counts is the usual one.
    let none: Option<&str> = None;
    mount(none, "/var/lib", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let ids_of = |name: &str| {
        let mut command = cloison(&["run", "--host", HOST, "--name", name, "--", "sleep", "600"]);
        let running = Running::start(&mut command);
        wait_until("the sandbox", || sandbox_of(name).is_some());
        let ids = record(name).unwrap()["ids"].as_u64().unwrap();
        running.terminate().wants(128 + 15, &[]);
        ids
    };
    let added = end(cloison(&[
        "tenant", "add", "shop", "--host", HOST, "--json",
    ]));
    added.wants(0, &[]);
    let added: Value = serde_json::from_str(&added.out).unwrap();
    assert_eq!(added["block"], first);
    assert_eq!(ids_of("beside"), first + BLOCK);
    umount2("/var/lib/cloison/storage", MntFlags::MNT_DETACH).unwrap();
    umount2("/var/lib", MntFlags::MNT_DETACH).unwrap();
    // The control: on a host without tenants it has the first ones.
    assert_eq!(ids_of("alone"), first);
    fs::remove_file(HOST).unwrap();
    Outcome::Passed
}
