//! What a server may ask for.

use cloison_tests::Outcome;

use crate::ground::{HOST, Host, cloison};

const MORE: &str = r#"["/usr/bin/sleep", "600"]
[cgroup]
memory_bytes_max = 1073741824"#;

pub(crate) fn refused() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let before = host.registry();
    let file = host.server("acme", "greedy", MORE);
    host.up(&[&file]).wants(
        125,
        &[
            "cgroup.memory_bytes_max",
            "536870912 at most",
            "greedy.toml:5:",
            "policy.cgroup.memory_bytes_max",
        ],
    );
    let mount = host.server(
        "acme",
        "curious",
        "[\"/usr/bin/ls\"]\n[[mounts]]\nsource = \"/etc\"\ntarget = \"/srv\"",
    );
    host.up(&[&mount])
        .wants(125, &["/etc", "policy.host_paths"]);
    let odd = host.server("acme", "odd", "[\"/usr/bin/ls\"]\nids = 65536");
    host.up(&[&odd]).wants(125, &["odd.toml:4:", "its slot"]);
    let foreign = host.sleeper("nobody", "web");
    host.up(&[&foreign])
        .wants(1, &["there is no tenant nobody"]);
    assert_eq!(host.registry(), before);
    assert_eq!(host.records(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn own() -> Outcome {
    let host = Host::new();
    let text = "[policy]\nshared_base = true\n[policy.cgroup]\nmemory_bytes_max = 2147483648\n";
    let file = host.file("rich.toml", text);
    let add = ["tenant", "add", "rich", "--file", &file, "--host", HOST];
    let add: Vec<&str> = add
        .into_iter()
        .chain(["--state", "/tmp/host/state"])
        .collect();
    cloison(&add).wants(0, &[]);
    host.tenant("plain");
    host.up(&[&host.server("rich", "large", MORE)])
        .wants(0, &[]);
    host.up(&[&host.server("plain", "large", MORE)])
        .wants(125, &["536870912 at most"]);
    host.down(&["rich"]).wants(0, &[]);
    Outcome::Passed
}

pub(crate) fn changed() -> Outcome {
    let host = Host::new();
    host.tenant("acme");
    let file = host.sleeper("acme", "web");
    host.up(&[&file]).wants(0, &[]);
    host.set_policy("shared_base = false\n");
    // What runs runs on.
    assert_eq!(host.life("acme/web").as_deref(), Some("running"));
    host.verb(&["stop", "acme/web"]).wants(0, &[]);
    host.up(&["acme"]).wants(1, &["policy"]);
    assert_eq!(host.life("acme/web").as_deref(), Some("absent"));
    assert_eq!(host.records(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn counted() -> Outcome {
    let host = Host::with_policy("shared_base = true\nservers_max = 2\n");
    host.tenant("acme");
    for name in ["a", "b"] {
        host.up(&[&host.sleeper("acme", name)]).wants(0, &[]);
    }
    let third = host.sleeper("acme", "c");
    host.up(&[&third])
        .wants(125, &["has 2 servers", "servers_max"]);
    // Its slot is another's then.
    host.down(&["acme/a"]).wants(0, &[]);
    host.up(&[&third]).wants(0, &[]);
    let slots: Vec<_> = host.ps().iter().map(|one| one["slot"].clone()).collect();
    assert_eq!(slots, [2, 1], "{:?}", host.ps());
    host.down(&["acme"]).wants(0, &[]);
    Outcome::Passed
}
