//! The table that a person reads.

use std::fmt::Write as _;

use nix::errno::Errno;

use crate::measure::{CANARIES, Canary, Service, State};
use crate::outcome::{Outcome, Row};
use crate::tenancy::Condition;

const LEGEND: &str = "files, services and canaries as found from outside; ?: nobody answers for it";

/// The whole output.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut lines = vec![
        format!("attacker  sha256:{}", outcome.attacker_sha256),
        format!("host      {}", outcome.kernel),
        format!("tenants   {}, {}", outcome.rows.len(), enclosure(outcome)),
        String::new(),
        heading(),
    ];
    lines.extend(outcome.rows.iter().map(row));
    lines.push(LEGEND.to_owned());
    lines.push(String::new());
    lines.extend(account(outcome));
    lines.extend(absences(outcome));
    lines.extend(waivers(outcome));
    lines.push(notice(outcome));
    lines.push(result(outcome));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn enclosure(outcome: &Outcome) -> &'static str {
    if outcome.walls {
        "each in a sandbox"
    } else {
        "without walls: ordinary processes of one user"
    }
}

fn heading() -> String {
    let mut line = format!("{:<12} {:>5}  {:<8}", "tenant", "files", "service");
    for (name, _) in CANARIES {
        push(&mut line, format_args!(" {name:<10}"));
    }
    line + " state"
}

fn row(row: &Row) -> String {
    let files = format!("{}/{}", row.found.files_intact, row.found.files_total);
    let mut line = format!(
        "{:<12} {files:>5}  {:<8}",
        row.tenant,
        service(row.found.service)
    );
    for (_, canaries) in CANARIES {
        let word = summary(row, canaries);
        push(&mut line, format_args!(" {word:<10}"));
    }
    let hostile = if row.hostile { " (hostile)" } else { "" };
    format!("{line} {}{hostile}", condition(row.condition))
}

fn service(service: Service) -> &'static str {
    match service {
        Service::Whole => "whole",
        Service::Changed => "CHANGED",
        Service::Silent => "SILENT",
    }
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Running => "running",
        Condition::Frozen => "FROZEN",
        Condition::Ended => "ENDED",
    }
}

/// One word for several canaries: the worst that was found.
fn summary(row: &Row, canaries: &[Canary]) -> &'static str {
    let states = || canaries.iter().map(|canary| row.found.state(*canary));
    if states().any(|state| state == State::Taken) {
        "TAKEN"
    } else if states().any(|state| state == State::Unknown) {
        "?"
    } else if states().any(|state| state == State::Intact) {
        "intact"
    } else {
        "-"
    }
}

/// What the attacker says, which proves that it tried and nothing else.
fn account(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec!["the attacker's own account (tried, let through, first refusal):".into()];
    for way in &outcome.account.ways {
        let refusal = if way.refusal == 0 {
            "-".to_owned()
        } else {
            format!("{:?}", Errno::from_raw(way.refusal))
        };
        lines.push(format!(
            "  {:<10} {:>6} {:>6}  {refusal}",
            way.name, way.tried, way.through
        ));
    }
    lines
}

fn absences(outcome: &Outcome) -> Vec<String> {
    let absent = outcome.absent().into_iter();
    absent
        .map(|((canary, errno), count)| {
            let errno = Errno::from_raw(errno);
            format!("absent: {canary:?} of {count} tenants, who may not have one ({errno:?})")
        })
        .collect()
}

fn waivers(outcome: &Outcome) -> Vec<String> {
    let waived = outcome.waived.iter();
    waived
        .map(|waived| format!("without the layer {}: {}", waived.layer, waived.reason))
        .collect()
}

fn notice(outcome: &Outcome) -> String {
    let Some(notice) = &outcome.notice else {
        return "noticed: nothing".to_owned();
    };
    let frozen = notice
        .frozen_after_us
        .map(|micros| format!(", frozen {micros} us later"));
    format!(
        "noticed: a changed file of {}, {} ms after the attack began{}",
        notice.tenant,
        notice.after_ms,
        frozen.unwrap_or_default()
    )
}

fn result(outcome: &Outcome) -> String {
    let (hit, all) = (outcome.hit(), outcome.rows.len());
    let seconds = outcome.duration_ms as f64 / 1000.0;
    let frozen = outcome.rows.iter();
    let frozen = frozen.filter(|row| row.condition == Condition::Frozen);
    let frozen = match frozen.count() {
        0 => String::new(),
        count => format!(", {count} frozen"),
    };
    let untouched = all - hit;
    let mut line = format!("result: {hit} hit{frozen}, {untouched} untouched, in {seconds:.1} s");
    for short in outcome.shortcomings() {
        push(&mut line, format_args!("\nNOT AS CLAIMED: {short}"));
    }
    line
}

fn push(line: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    if line.write_fmt(content).is_err() {
        line.push('?');
    }
}
