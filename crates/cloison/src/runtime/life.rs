//! The life of a server: what it can be, and what moves it.

use serde::{Deserialize, Serialize};

use super::{Record, Running};
use crate::error::Error;

/// What a server is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It does not run, and nothing of it is there.
    Absent,
    /// It is being launched: its command has not been executed.
    Held,
    /// It runs.
    Running,
    /// It is there, and nothing in it runs.
    Frozen,
    /// Somebody is ending it.
    Stopping,
    /// It has ended, and nobody has taken it down.
    Dead,
    /// Whoever launched it died before it ran: what is left is removed by
    /// whoever comes next.
    Torn,
}

/// What changes a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Move {
    /// It is written down and made.
    Hold,
    /// Its command is executed.
    Start,
    /// A step of its launch fails: all is undone.
    Fail,
    /// Whoever launches it dies.
    Lose,
    /// It is frozen.
    Freeze,
    /// It is thawed.
    Thaw,
    /// It is asked to end, or killed.
    Stop,
    /// Its last process ends.
    End,
    /// What it left is removed.
    Remove,
}

/// Every move that is allowed: from what, by what, to what.
pub const MOVES: [(Life, Move, Life); 16] = [
    (Life::Absent, Move::Hold, Life::Held),
    (Life::Dead, Move::Hold, Life::Held),
    (Life::Torn, Move::Hold, Life::Held),
    (Life::Held, Move::Start, Life::Running),
    (Life::Held, Move::Fail, Life::Absent),
    (Life::Held, Move::Lose, Life::Torn),
    (Life::Running, Move::Freeze, Life::Frozen),
    (Life::Frozen, Move::Thaw, Life::Running),
    (Life::Running, Move::Stop, Life::Stopping),
    (Life::Frozen, Move::Stop, Life::Stopping),
    (Life::Running, Move::End, Life::Dead),
    (Life::Frozen, Move::End, Life::Dead),
    (Life::Stopping, Move::End, Life::Dead),
    (Life::Stopping, Move::Stop, Life::Stopping),
    (Life::Dead, Move::Remove, Life::Absent),
    (Life::Torn, Move::Remove, Life::Absent),
];

impl Life {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Absent,
        Self::Held,
        Self::Running,
        Self::Frozen,
        Self::Stopping,
        Self::Dead,
        Self::Torn,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Held => "held",
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
            Self::Torn => "torn",
        }
    }

    /// What it is after that move; `None`: it is not allowed.
    #[must_use]
    pub fn after(self, by: Move) -> Option<Self> {
        let mut all = MOVES.iter();
        all.find(|(from, allowed, _)| (*from, *allowed) == (self, by))
            .map(|(_, _, to)| *to)
    }

    /// Whether a process of it may be there.
    #[must_use]
    pub fn has_processes(self) -> bool {
        matches!(
            self,
            Self::Held | Self::Running | Self::Frozen | Self::Stopping
        )
    }

    /// What `record` and the kernel say.
    pub(super) fn of(record: &Record) -> Result<Self, Error> {
        let launcher_lives = record.launcher_lives()?;
        let is_launched = record.is_started || !record.stays;
        let sandbox_lives = record.sandbox_lives()?;
        Ok(match (sandbox_lives, is_launched) {
            (true, true) if record.is_stopping()? => Self::Stopping,
            (true, true) => match Running::of(record.clone())? {
                Some(running) if running.is_frozen()? => Self::Frozen,
                Some(_) => Self::Running,
                None => Self::Dead,
            },
            _ if launcher_lives && (!is_launched || record.sandbox.is_none()) => Self::Held,
            (false, true) if record.sandbox.is_some() => Self::Dead,
            _ => Self::Torn,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_life_is_reached_and_left() {
        for life in Life::ALL {
            assert!(MOVES.iter().any(|(_, _, to)| *to == life), "{life:?}");
            assert!(MOVES.iter().any(|(from, _, _)| *from == life), "{life:?}");
        }
    }

    #[test]
    fn a_move_leads_to_one_life() {
        let mut seen = BTreeSet::new();
        for (from, by, _) in MOVES {
            assert!(seen.insert(format!("{from:?} {by:?}")), "{from:?} {by:?}");
        }
    }

    #[test]
    fn every_move_is_in_the_architecture() {
        let text = include_str!("../../../../ARCHITECTURE.md");
        let (_, text) = text.split_once("## The life of a server").unwrap();
        let (text, _) = text.split_once("\n## ").unwrap();
        let mut written = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
            let [from, by, to] = cells[..] else { continue };
            let by = by.split(':').next().unwrap();
            for from in from.split(", ") {
                written.insert(format!("{from} {by} {to}"));
            }
        }
        written.retain(|line| !line.starts_with("from ") && !line.starts_with('-'));
        let name = |by: Move| format!("{by:?}").to_lowercase();
        let moves = MOVES.iter();
        let coded: BTreeSet<String> = moves
            .map(|(from, by, to)| format!("{} {} {}", from.name(), name(*by), to.name()))
            .collect();
        assert_eq!(written, coded);
    }

    #[test]
    fn nothing_runs_again_that_is_not_launched_anew() {
        for life in [Life::Dead, Life::Torn, Life::Absent, Life::Stopping] {
            for by in [Move::Start, Move::Thaw] {
                assert_eq!(life.after(by), None, "{life:?} {by:?}");
            }
        }
    }
}
