//! The tables of probes in `SECURITY.md`, from the probes' own data.

use cloison_escape::probes::{Canary, PROBES, Probe};
use cloison_sandbox::Layer;

use crate::error::Error;
use crate::table::table;

/// The lines that the tables stand between.
const FIRST: &str = "<!-- made by `cargo xtask docs`: the probes -->";
const LAST: &str = "<!-- end of what is made -->";

/// `text` with the tables anew.
///
/// # Errors
/// [`Error::NoPlace`]
pub(crate) fn spliced(text: &str) -> Result<String, Error> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = only(&lines, FIRST)?;
    let last = only(&lines, LAST)?;
    let (Some(before), Some(after)) = (lines.get(..=first), lines.get(last..)) else {
        return Err(NO_PLACE);
    };
    if first > last {
        return Err(NO_PLACE);
    }
    Ok(format!("{}{}{}", before.concat(), made(), after.concat()))
}

const NO_PLACE: Error = Error::NoPlace {
    first: FIRST,
    last: LAST,
};

/// Where the one line `mark` is.
fn only(lines: &[&str], mark: &str) -> Result<usize, Error> {
    let mut places = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim_end_matches('\n') == mark)
        .map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        _ => Err(NO_PLACE),
    }
}

fn made() -> String {
    let probes = table(
        [
            "probe",
            "what is tried",
            "reference",
            "layers that hold it",
            "taken away in the control",
        ],
        PROBES.into_iter().map(row),
    );
    let alone = table(
        [
            "probe",
            "held by this layer alone",
            "ways",
            "why no second one",
        ],
        PROBES.into_iter().flat_map(exceptions),
    );
    let seen = table(
        [
            "probe",
            "looked at from outside",
            "what is looked at",
            "ways of which there is only its word, and why",
        ],
        PROBES.into_iter().map(sight),
    );
    let silent = table(
        ["probe", "ways", "why", "on which machines"],
        PROBES.into_iter().flat_map(silences),
    );
    format!(
        "\n{probes}\nNo attack may depend on one layer, but for these ways, named by how they begin:\n\n\
         {alone}\n\
         The program's word alone is no proof, but for the ways named here. In each way that gets\n\
         through it holds still until the runner has looked, or hands back a secret that only the\n\
         canary holds; where word and sight differ, the run fails:\n\n\
         {seen}\n\
         These ways get through not even in the control, so that nothing is proved of them. One\n\
         that is silent and not listed fails the run, and so does one that is listed and speaks,\n\
         unless that hangs on the machine:\n\n\
         {silent}\n{}\n",
        crate::races::made()
    )
}

fn sight(probe: &Probe) -> [String; 4] {
    let is_seen = match probe.canary {
        Canary::Unseen(_) => "no",
        _ if probe.unseen.is_empty() => "yes",
        _ => "yes, but for some ways",
    };
    let unseen: Vec<String> = probe
        .unseen
        .iter()
        .map(|ways| format!("{}: {}", ways.names.join(", "), ways.reason))
        .collect();
    [
        probe.id.to_uppercase(),
        is_seen.to_owned(),
        probe.canary.seen_as().to_owned(),
        match probe.canary {
            Canary::Unseen(_) => "all".to_owned(),
            _ => unseen.join("; "),
        },
    ]
}

fn silences(probe: &Probe) -> impl Iterator<Item = [String; 4]> {
    probe.silent.iter().map(|silent| {
        [
            probe.id.to_uppercase(),
            silent.ways.names.join(", "),
            silent.ways.reason.to_owned(),
            silent.on.to_string(),
        ]
    })
}

fn row(probe: &Probe) -> [String; 5] {
    [
        probe.id.to_uppercase(),
        probe.title.to_owned(),
        probe.reference.to_owned(),
        names(probe.layers),
        names(probe.control.without),
    ]
}

fn exceptions(probe: &Probe) -> impl Iterator<Item = [String; 4]> {
    probe.only.iter().map(|only| {
        [
            probe.id.to_uppercase(),
            only.layer.name().to_owned(),
            only.ways.join(", "),
            only.reason.to_owned(),
        ]
    })
}

fn names(layers: &[Layer]) -> String {
    let names: Vec<&str> = layers.iter().map(|layer| layer.name()).collect();
    names.join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use cloison_escape::probes::PROBES;

    use super::{FIRST, LAST, spliced};

    #[test]
    fn what_stands_between_the_marks_is_made_anew() {
        let text = format!("head\n{FIRST}\n| A99 | by hand |\n{LAST}\ntail\n");
        let made = spliced(&text).unwrap();
        assert!(made.starts_with(&format!("head\n{FIRST}\n\n| probe |")));
        assert!(made.ends_with(&format!("|\n\n{LAST}\ntail\n")));
        assert!(!made.contains("A99"));
        assert_eq!(spliced(&made).unwrap(), made);
    }

    #[test]
    fn every_probe_has_its_row() {
        let made = super::made();
        for probe in PROBES {
            let row = format!("| {} | {} |", probe.id.to_uppercase(), probe.title);
            assert_eq!(made.matches(&row).count(), 1, "{row}");
            for only in probe.only {
                assert!(made.contains(only.reason), "{}", only.reason);
            }
            assert!(made.contains(probe.canary.seen_as()), "{}", probe.id);
            let silent = probe.silent.iter().map(|silent| &silent.ways);
            for ways in probe.unseen.iter().chain(silent) {
                assert!(made.contains(&ways.names.join(", ")), "{:?}", ways.names);
                assert!(made.contains(ways.reason), "{}", ways.reason);
            }
        }
    }

    #[test]
    fn a_text_without_one_place_is_refused() {
        for text in [
            String::new(),
            format!("{FIRST}\n"),
            format!("{LAST}\n{FIRST}\n"),
            format!("{FIRST}\n{FIRST}\n{LAST}\n"),
        ] {
            assert!(spliced(&text).is_err(), "{text}");
        }
    }
}
