//! `cloison check`: can this host start a sandbox, and if not, why.

use std::fmt::Write;

use cloison::{Clash, Documented, clashes};
use cloison_sandbox::{Kernel, Layer, LayerVerdict, Pool, Unavailable, Waivers, pools};
use serde::Serialize;

use crate::error::{Error, call};
use crate::report::{escaped, print, print_json};
use crate::{cli, kernel, settings};

/// What `check` found.
#[derive(Serialize)]
struct Finding<'a> {
    can_start: bool,
    layers: Vec<Judged>,
    kernel: &'a Kernel,
    ids: Ids,
    /// What all servers share with the host.
    pools: Vec<Pool>,
}

#[derive(Serialize)]
struct Judged {
    layer: Layer,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Unavailable>,
}

#[derive(Serialize)]
struct Ids {
    first: u32,
    last: u32,
    /// What systemd documents for another use.
    documented: Vec<Documented>,
    clashes: Vec<Clash>,
}

/// Looks at this host; gives the exit code.
pub(crate) fn check(options: &cli::Check) -> Result<u8, Error> {
    let host = settings::host(options.host.file.as_deref())?;
    let (used, waivers) = (host.id_pool.ids(), host.waive);
    let kernel = kernel::probed()?;
    let ids = Ids {
        first: *used.start(),
        last: *used.end(),
        documented: Documented::within(&used).collect(),
        clashes: clashes(&used)?,
    };
    let layers: Vec<Judged> = Layer::ALL
        .into_iter()
        .map(|layer| judge(layer, &kernel, &waivers))
        .collect();
    let finding = Finding {
        can_start: layers.iter().all(|judged| judged.missing.is_none()) && ids.clashes.is_empty(),
        layers,
        kernel: &kernel,
        ids,
        pools: pools().map_err(call("looking at the pools of the kernel"))?,
    };
    if options.format.json {
        print_json(&finding)?;
    } else {
        print(&shown(&finding))?;
    }
    Ok(if finding.can_start { 0 } else { 1 })
}

fn judge(layer: Layer, kernel: &Kernel, waivers: &Waivers) -> Judged {
    let (verdict, reason, missing) = match kernel.verdict(layer, waivers) {
        LayerVerdict::Applied => ("applied", None, None),
        LayerVerdict::NotNeeded(reason) => ("not-needed", Some(reason.to_string()), None),
        LayerVerdict::Waived(reason) => ("waived", Some(reason), None),
        LayerVerdict::Unavailable(missing) => (
            "unavailable",
            Some(missing.absence.to_string()),
            Some(missing),
        ),
    };
    Judged {
        layer,
        verdict,
        reason,
        missing,
    }
}

fn shown(finding: &Finding<'_>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    match write_finding(&mut text, finding) {
        Ok(()) | Err(std::fmt::Error) => text,
    }
}

fn write_finding(text: &mut String, finding: &Finding<'_>) -> std::fmt::Result {
    writeln!(text, "Linux {}\n", escaped(finding.kernel.release()))?;
    for judged in &finding.layers {
        write!(text, "{:<20} {}", judged.layer.name(), judged.verdict)?;
        match (&judged.missing, &judged.reason) {
            (Some(missing), _) => {
                write!(text, ": needs {} (Linux {}", missing.feature, missing.since)?;
                if let Some(option) = missing.option {
                    write!(text, ", {option}")?;
                }
                writeln!(text, "); {}", missing.absence)?;
                writeln!(text, "{:<20} remedy: {}", "", missing.remedy)?;
            }
            (None, Some(reason)) => writeln!(text, ": {}", escaped(reason))?,
            (None, None) => writeln!(text)?,
        }
    }
    let ids = &finding.ids;
    writeln!(text, "\nids {} to {} for sandboxes", ids.first, ids.last)?;
    for range in &ids.documented {
        let (first, last) = (range.first, range.last);
        writeln!(text, "  among them {first} to {last}: {}", range.name)?;
    }
    for clash in &ids.clashes {
        writeln!(text, "  clash: {clash}: `{}`", escaped(&clash.text))?;
    }
    writeln!(text, "\nshared by all servers and the host")?;
    for pool in &finding.pools {
        let told = |number: Option<u64>| {
            number.map_or_else(|| "?".to_owned(), |number| number.to_string())
        };
        let (used, size) = (told(pool.used), told(pool.size));
        writeln!(text, "  {:<46} {used} of {size}", pool.name)?;
        if pool.is_running_dry() {
            writeln!(text, "  warning: it is running dry; {}", pool.remedy)?;
        }
    }
    for (feature, state) in finding.kernel.states() {
        if let (false, Some(lost)) = (state.is_met(), feature.lost_without()) {
            writeln!(text, "\nwithout {feature}: {lost}")?;
            writeln!(text, "  remedy: {}", feature.remedy())?;
        }
    }
    let count = |verdict| {
        let layers = finding.layers.iter();
        layers.filter(|judged| judged.verdict == verdict).count()
    };
    writeln!(
        text,
        "\n{}: {} layers applied, {} not needed, {} waived, {} unavailable; {} clashes of ids",
        if finding.can_start {
            "this host can start `app`"
        } else {
            "this host cannot start `app`"
        },
        count("applied"),
        count("not-needed"),
        count("waived"),
        count("unavailable"),
        ids.clashes.len(),
    )
}
