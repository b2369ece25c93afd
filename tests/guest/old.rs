//! The kernel that is too old.

use cloison_sandbox::{Feature, Layer};
use cloison_tests::guest::{End, Guest, GuestKernel, HOST_FILE};

use crate::{Result, run, seen};

const KERNEL: GuestKernel = GuestKernel::V5_10;

/// What 5.10 cannot give and nobody may waive: each layer with the first
/// feature that is missing.
const REFUSED: [(Layer, Feature); 2] = [
    (Layer::MountNamespace, Feature::MountSetattr),
    (Layer::LandlockFiles, Feature::LandlockFiles),
];

pub(crate) fn refused() -> Result {
    let (end, output) = run(&Guest::new(
        KERNEL,
        &["cloison", "check", "--json", "--host", HOST_FILE],
    ))?;
    let finding: serde_json::Value =
        serde_json::from_str(&output).map_err(|error| format!("{error}: {end:?}, {output}"))?;
    if end != End::Exited(1) || finding["can_start"] != false {
        return Err(format!("{end:?}, {output}").into());
    }
    let layers = finding["layers"].as_array().ok_or("no layers")?;
    let missing: Vec<&serde_json::Value> = layers
        .iter()
        .filter(|judged| judged["verdict"] == "unavailable")
        .collect();
    let expected: Vec<serde_json::Value> = REFUSED
        .iter()
        .map(|(layer, _)| layer.name().into())
        .collect();
    let named: Vec<&serde_json::Value> = missing.iter().map(|judged| &judged["layer"]).collect();
    if named != expected.iter().collect::<Vec<_>>() {
        return Err(format!("refused: {named:?}, expected: {expected:?}").into());
    }
    for (layer, feature) in REFUSED {
        refuses_to_run(layer, feature, &missing)?;
    }
    let refused = REFUSED
        .map(|(layer, feature)| format!("{layer} (needs {feature}, Linux {})", feature.since()));
    seen::note(KERNEL, |seen| {
        seen.refused = refused.to_vec();
        seen.waived = waived(layers);
        seen.without = without(&finding);
    })?;
    runs_nothing()
}

/// `check` names the feature, since when there is one, and the remedy.
fn refuses_to_run(layer: Layer, feature: Feature, missing: &[&serde_json::Value]) -> Result {
    let judged = missing
        .iter()
        .find(|judged| judged["layer"] == layer.name());
    let missing = &judged.ok_or("not refused")?["missing"];
    let told = [&missing["feature"], &missing["since"], &missing["remedy"]];
    let wanted = [feature.name(), feature.since(), feature.remedy()];
    if told != wanted {
        return Err(format!("{layer}: {told:?}, wanted {wanted:?}").into());
    }
    Ok(())
}

/// `run` refuses with the first of them, and leaves nothing: no process, no
/// cgroup, no mount, no record.
fn runs_nothing() -> Result {
    let script = "
        state() { cat /proc/self/mounts; ls -R /sys/fs/cgroup/delegated | grep cloison
            ls -A /run/cloison 2>/dev/null | grep json; ps -e -o comm= | grep -v kworker; }
        state >/tmp/before
        cloison run --host tests/guest/host.toml -- sh -c 'echo RAN >/dev/console; echo RAN'
        echo \"code $?\"
        state >/tmp/after
        grep -vxFf /tmp/before /tmp/after | grep -v cloison-launcher && echo LEFT
        true";
    let (end, output) = run(&Guest::new(KERNEL, &["sh", "-c", script]))?;
    let (layer, feature) = REFUSED[0];
    let wanted = [
        "code 125".to_owned(),
        format!(
            "the layer {layer} needs {feature} (Linux {})",
            feature.since()
        ),
        feature.remedy().to_owned(),
    ];
    for wanted in wanted {
        if !output.contains(&wanted) {
            return Err(format!("no {wanted:?} in {output}").into());
        }
    }
    if end != End::Exited(0) || output.contains("RAN") || output.contains("LEFT") {
        return Err(format!("{end:?}: {output}").into());
    }
    seen::note(KERNEL, |seen| seen.passed += 1)
}

/// The names of layers that were waived since the kernel lacks them.
pub(crate) fn waived(layers: &[serde_json::Value]) -> Vec<String> {
    layers
        .iter()
        .filter(|judged| judged["verdict"] == "waived")
        .filter_map(|judged| judged["layer"].as_str().map(str::to_owned))
        .collect()
}

/// The optional features that the kernel has not.
pub(crate) fn without(finding: &serde_json::Value) -> Vec<String> {
    let states = finding["kernel"]["features"].as_array();
    let absent: Vec<&serde_json::Value> = states
        .into_iter()
        .flatten()
        .filter(|state| state["state"] == "absent")
        .map(|state| &state["feature"])
        .collect();
    Feature::ALL
        .iter()
        .filter(|feature| feature.lost_without().is_some())
        .map(|feature| feature.name().to_owned())
        .filter(|name| absent.iter().any(|absent| **absent == name.as_str()))
        .collect()
}
