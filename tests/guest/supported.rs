//! Kernels that must do, and systemd.

use std::time::Duration;

use cloison_tests::guest::{Counts, End, Form, Guest, GuestKernel, HOST_FILE};

use crate::{Result, expected, old, run, seen};

/// That the loss of every layer and of every field is noticed. All cases of
/// `launch` take an emulated processor too long for each day.
const LAYERS: &[&str] = &["launch", "broken"];
/// That no escape gets through: control and whole, without knock-outs.
const PROBES: &[&str] = &["probes"];
/// That what the samples describe runs: a web server among them.
const PAYLOADS: &[&str] = &["launcher", "sample_"];
/// That no server starves another, also of what only a guest may be emptied of.
const NEIGHBOURS: &[&str] = &["noisy"];
/// That the rate of a real disk is kept.
const DISK: &[&str] = &["noisy", "disk"];
/// That servers of tenants live on without a tool, and are handled by any.
const SERVERS: &[&str] = &["servers", "server_"];
/// What root may be only on a machine of its own.
const MIGHTY: &[&str] = &["callers", "mighty"];
/// The environment variable that names whole targets instead, or none.
const CHOSEN: &str = "CLOISON_GUEST_TARGETS";
/// An emulated processor is twenty times slower, and may be one of many on a
/// busy machine.
const LIMIT: Duration = Duration::from_secs(1500);

pub(crate) fn keeps(kernel: GuestKernel) -> Result {
    starts(kernel, Form::Bare)?;
    match std::env::var(CHOSEN) {
        Ok(chosen) => {
            for target in chosen.split_whitespace() {
                passes(kernel, Form::Bare, &[target])?;
            }
        }
        Err(_) => {
            passes(kernel, Form::Bare, LAYERS)?;
            passes(kernel, Form::Bare, PROBES)?;
            passes(kernel, Form::Bare, PAYLOADS)?;
            passes(kernel, Form::Bare, NEIGHBOURS)?;
            passes(kernel, Form::Bare, MIGHTY)?;
            passes(kernel, Form::Bare, SERVERS)?;
        }
    }
    Ok(())
}

/// As a production host has it: cgroups that systemd made, a service with
/// `Delegate=yes`.
pub(crate) fn with_systemd() -> Result {
    let kernel = GuestKernel::V6_12;
    starts(kernel, Form::Full)?;
    starts_as_a_service(kernel)?;
    is_a_service(kernel)?;
    for target in [LAYERS, DISK] {
        let handed_on = [&["sh", "-c", HAND_ON, "sh"], target].concat();
        passes(kernel, Form::Full, &handed_on)?;
    }
    Ok(())
}

/// Hands the controllers of the service on to the stage, which does not do that
/// itself: nothing that it did not make is changed by it.
const HAND_ON: &str = "service=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/..
    for controller in $(cat $service/cgroup.controllers); do
        echo +$controller >$service/cgroup.subtree_control
    done
    exec \"$@\"";

/// Starts the launcher as a service of its own with a property, says what it
/// wrote and ends as it did. A guest has no message bus for `--wait`.
const AS_A_SERVICE: &str = "systemd-run --quiet --unit tried --property Type=oneshot \
    --property RemainAfterExit=yes --property WorkingDirectory=\"$PWD\" \
    --property StandardOutput=file:/run/said --property StandardError=file:/run/said \
    --property \"$1\" /guest/bin/cloison run --host \"$2\" examples/hello.toml
    cat /run/said
    exit \"$(systemctl show --value --property ExecMainStatus tried)\"";

/// As one that systemd starts by itself, in no leaf: the launcher makes one where
/// the service was delegated to it, and where it was not says what is lacking.
fn starts_as_a_service(kernel: GuestKernel) -> Result {
    let started = |delegate| {
        let command = ["sh", "-c", AS_A_SERVICE, "sh", delegate, HOST_FILE];
        run(&guest(kernel, Form::Full, &command))
    };
    let (end, output) = started("Delegate=yes")?;
    if end != End::Exited(0) || !output.contains("Hello from hello, a sandbox") {
        return Err(format!("delegated: {end:?}: {output}").into());
    }
    let (end, output) = started("Delegate=no")?;
    if end != End::Exited(125) || !output.contains("remedy: run this program with a delegated") {
        return Err(format!("not delegated: {end:?}: {output}").into());
    }
    Ok(())
}

/// A server as a service: the unit is sound, systemd knows the server's own
/// process, ends it, and starts it again when it dies.
const SERVER_AS_A_SERVICE: &str = r#"set -eu
    ln -s /guest/bin/cloison /usr/bin/cloison
    cp examples/systemd/cloison@.service /etc/systemd/system/
    unit='cloison@acme-web.service'
    systemd-analyze verify --man=no "/etc/systemd/system/$unit"
    mkdir -p /etc/cloison
    cat "$1" >/etc/cloison/host.toml
    printf '[policy]\nshared_base = true\n' >>/etc/cloison/host.toml
    cloison tenant add acme >/dev/null
    # Written down, where the launcher may make cgroups.
    systemd-run --quiet --unit first --property Type=oneshot --property Delegate=yes \
        /guest/bin/cloison up "$PWD/examples/server.toml" --output discard
    cloison stop acme/web >/dev/null
    systemctl daemon-reload
    systemctl start "$unit"
    server() { cloison ps --json | tr -d ' \n' | sed 's/.*"pid":\([0-9]*\).*/\1/'; }
    main() { systemctl show --value --property MainPID "$unit"; }
    first=$(main)
    test "$first" = "$(server)"
    grep -q "$unit" "/proc/$first/cgroup"
    kill -KILL "$first"
    for try in $(seq 60); do
        test "$(systemctl is-active "$unit")" = active && test "$(main)" != "$first" && break
        sleep 1
    done
    test "$(main)" != "$first"
    test "$(main)" = "$(server)"
    systemctl stop "$unit"
    cloison ps --json | grep -q '"life": "absent"'
    cloison down acme/web
    cloison tenant remove acme --purge
    echo "is a service""#;

fn is_a_service(kernel: GuestKernel) -> Result {
    let command = ["sh", "-c", SERVER_AS_A_SERVICE, "sh", HOST_FILE];
    let (end, output) = run(&guest(kernel, Form::Full, &command))?;
    if end != End::Exited(0) || !output.ends_with("is a service\n") {
        return Err(format!("a server as a service: {end:?}: {output}").into());
    }
    Ok(())
}

fn starts(kernel: GuestKernel, form: Form) -> Result {
    let check = ["cloison", "check", "--json", "--host", HOST_FILE];
    let (end, output) = run(&guest(kernel, form, &check))?;
    let finding: serde_json::Value =
        serde_json::from_str(&output).map_err(|error| format!("{error}: {end:?}, {output}"))?;
    if end != End::Exited(0) || finding["can_start"] != true {
        return Err(format!("{end:?}: {output}").into());
    }
    let hello = ["cloison", "run", "--host", HOST_FILE, "examples/hello.toml"];
    let (end, output) = run(&guest(kernel, form, &hello))?;
    if end != End::Exited(0) || !output.starts_with("Hello from hello, a sandbox") {
        return Err(format!("{end:?}: {output}").into());
    }
    if form == Form::Full {
        return Ok(());
    }
    let layers = finding["layers"].as_array().ok_or("no layers")?;
    seen::note(kernel, |seen| {
        seen.starts = true;
        seen.waived = old::waived(layers);
        seen.without = old::without(&finding);
        seen.passed += 1;
    })
}

fn passes(kernel: GuestKernel, form: Form, command: &[&str]) -> Result {
    let (end, output) = run(&guest(kernel, form, command))?;
    let counts = Counts::of(&output).ok_or_else(|| format!("{end:?}: {output}"))?;
    seen::count(kernel, &counts)?;
    if end != End::Exited(0) || counts.failed > 0 || counts.passed == 0 {
        return Err(format!("{command:?}: {end:?}: {output}").into());
    }
    Ok(())
}

fn guest(kernel: GuestKernel, form: Form, command: &[&str]) -> Guest {
    let mut guest = Guest::new(kernel, command);
    guest.form = form;
    guest.limit = LIMIT;
    let skips = expected::skips(kernel);
    let environment = [
        ("CLOISON_EXPECT_SKIPS", skips.as_str()),
        ("CLOISON_QUICK", "1"),
        ("CLOISON_PROBES", "without-knock-outs"),
    ];
    guest.environment = environment
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    guest
}
