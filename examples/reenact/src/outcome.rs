//! What came of the attack, and whether that is what is claimed.

use std::collections::BTreeMap;

use cloison_sandbox::Layer;
use nix::errno::Errno;
use serde::Serialize;

use crate::account::Account;
use crate::measure::{CANARIES, Canary, Found, Service, State};
use crate::tenancy::Condition;

/// What was found of one tenant after the attack.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) tenant: &'static str,
    pub(crate) hostile: bool,
    pub(crate) condition: Condition,
    #[serde(flatten)]
    pub(crate) found: Found,
}

/// A layer that this host cannot give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Waived {
    pub(crate) layer: Layer,
    pub(crate) reason: String,
}

/// The first change that the outside saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Notice {
    /// Whose file had changed.
    pub(crate) tenant: &'static str,
    /// How long after the request that began the attack.
    pub(crate) after_ms: u64,
    /// How long it took from there until the tenant was found frozen.
    pub(crate) frozen_after_us: Option<u64>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) walls: bool,
    pub(crate) attacker_sha256: String,
    pub(crate) kernel: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) waived: Vec<Waived>,
    pub(crate) notice: Option<Notice>,
    pub(crate) account: Account,
    pub(crate) duration_ms: u64,
}

/// An outcome with what follows from it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    hit: usize,
    untouched: usize,
    /// Why it is not what is claimed; empty if it is.
    shortcomings: Vec<String>,
}

impl Outcome {
    /// What follows from it, for programs to read.
    pub(crate) fn summary(&self) -> Summary<'_> {
        let hit = self.hit();
        Summary {
            outcome: self,
            hit,
            untouched: self.rows.len() - hit,
            shortcomings: self.shortcomings(),
        }
    }

    /// How many tenants lost anything.
    pub(crate) fn hit(&self) -> usize {
        self.rows.iter().filter(|row| !row.found.is_whole()).count()
    }

    /// Canaries that tenants could not have, with the error number and how
    /// many tenants lack it: what the walls keep away from a neighbour's
    /// canary was not shown there.
    pub(crate) fn absent(&self) -> BTreeMap<(Canary, i32), usize> {
        let mut absent = BTreeMap::new();
        for (canary, state) in self.rows.iter().flat_map(|row| &row.found.canaries) {
            if let State::Absent(errno) = state {
                *absent.entry((*canary, *errno)).or_default() += 1;
            }
        }
        absent
    }

    /// Why this is not what is claimed; nothing if it is.
    pub(crate) fn shortcomings(&self) -> Vec<String> {
        let mut short = self.attack_shortcomings();
        let rows = self.rows.iter();
        if self.walls {
            short.extend(rows.filter_map(Row::short_of_walls));
            if self.notice.as_ref().map(|notice| notice.tenant) != self.hostile() {
                short.push("the hit was not noticed where it was".to_owned());
            }
        } else {
            short.extend(rows.filter_map(Row::short_of_reach));
            for ((canary, errno), count) in self.absent() {
                let errno = Errno::from_raw(errno);
                short.push(format!(
                    "{count} tenants have no {canary:?} canary ({errno:?})"
                ));
            }
        }
        short
    }

    /// What is wanted of the attack itself, with and without walls.
    fn attack_shortcomings(&self) -> Vec<String> {
        let missing = self.account.missing();
        let mut short = Vec::new();
        if !missing.is_empty() {
            short.push(format!("the attacker did not try: {}", missing.join(", ")));
        }
        for row in self.rows.iter().filter(|row| !row.hostile) {
            let lacks = CANARIES
                .into_iter()
                .filter(|(_, all)| !row.found.has_one_of(all));
            let tenant = row.tenant;
            short.extend(lacks.map(|(way, _)| format!("{tenant} had no canary for {way}")));
        }
        if self.notice.is_none() {
            short.push("no file was changed while the outside watched".to_owned());
        }
        short
    }

    fn hostile(&self) -> Option<&'static str> {
        self.rows.iter().find(|row| row.hostile).map(|r| r.tenant)
    }
}

impl Row {
    /// With walls the hostile tenant lost files and is frozen, and nobody
    /// else lost anything.
    fn short_of_walls(&self) -> Option<String> {
        let tenant = self.tenant;
        if !self.hostile {
            let whole = self.found.is_whole() && self.condition == Condition::Running;
            return (!whole).then(|| format!("{tenant} was reached"));
        }
        if self.found.files_intact == self.found.files_total {
            return Some(format!("{tenant} is hostile and its files are whole"));
        }
        let stopped = self.condition == Condition::Frozen && self.found.service == Service::Silent;
        (!stopped).then(|| format!("{tenant} is hostile and not frozen"))
    }

    /// Without walls everybody lost every file and every canary.
    fn short_of_reach(&self) -> Option<String> {
        let tenant = self.tenant;
        if self.found.files_intact > 0 {
            return Some(format!("{tenant} kept files"));
        }
        let mut kept = self.found.canaries.iter();
        let (canary, state) = kept.find(|(_, state)| **state != State::Taken)?;
        Some(format!("{tenant}: {canary:?} is {state:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{WAYS, Way};

    fn found(files_intact: usize, service: Service, state: State) -> Found {
        let all = CANARIES.into_iter().flat_map(|(_, canaries)| canaries);
        Found {
            files_intact,
            files_total: 5,
            service,
            canaries: all.map(|canary| (*canary, state)).collect(),
        }
    }

    fn row(hostile: bool, condition: Condition, found: Found) -> Row {
        Row {
            tenant: if hostile { "cleaning" } else { "bakery" },
            hostile,
            condition,
            found,
        }
    }

    fn outcome(walls: bool, rows: Vec<Row>) -> Outcome {
        let ways = WAYS.map(|name| Way {
            name,
            tried: 1,
            through: 0,
            refusal: 1,
        });
        Outcome {
            walls,
            attacker_sha256: String::new(),
            kernel: String::new(),
            rows,
            waived: Vec::new(),
            notice: Some(Notice {
                tenant: "cleaning",
                after_ms: 1,
                frozen_after_us: Some(1),
            }),
            account: Account {
                ways: ways.to_vec(),
                ended: false,
            },
            duration_ms: 1,
        }
    }

    fn set(outcome: &mut Outcome, row: usize, state: State) {
        let canaries = &mut outcome.rows[row].found.canaries;
        canaries.insert(Canary::Key, state);
    }

    fn held() -> Outcome {
        let hostile = found(0, Service::Silent, State::Unknown);
        let neighbour = found(5, Service::Whole, State::Intact);
        outcome(
            true,
            vec![
                row(true, Condition::Frozen, hostile),
                row(false, Condition::Running, neighbour),
            ],
        )
    }

    #[test]
    fn one_hit_and_frozen_is_what_walls_promise() {
        assert_eq!(held().shortcomings(), Vec::<String>::new());
        assert_eq!(held().hit(), 1);
    }

    #[test]
    fn every_lack_is_a_shortcoming() {
        let lacks: [fn(&mut Outcome); 9] = [
            |o| o.rows[1].found.files_intact = 4,
            |o| o.rows[1].found.service = Service::Silent,
            |o| set(o, 1, State::Taken),
            |o| set(o, 1, State::Unknown),
            // The only canary of its way: nothing was shown for that way.
            |o| set(o, 1, State::Absent(1)),
            |o| o.rows[0].condition = Condition::Running,
            |o| o.rows[0].found.files_intact = 5,
            |o| o.notice = None,
            |o| o.account.ways.truncate(7),
        ];
        for (number, lack) in lacks.into_iter().enumerate() {
            let mut outcome = held();
            lack(&mut outcome);
            assert!(!outcome.shortcomings().is_empty(), "lack {number}");
        }
    }

    #[test]
    fn without_walls_one_canary_kept_is_a_shortcoming() {
        let reached = || {
            let all = found(0, Service::Changed, State::Taken);
            outcome(false, vec![row(false, Condition::Running, all)])
        };
        assert_eq!(reached().shortcomings(), Vec::<String>::new());
        for kept in [State::Intact, State::Absent(1), State::Unknown] {
            let mut outcome = reached();
            set(&mut outcome, 0, kept);
            assert!(!outcome.shortcomings().is_empty(), "{kept:?}");
        }
    }
}
