//! What is written: each change follows from the seed and its number, so that
//! what a file must hold after so many of them is known.

use cloison_tests::chance::Chance;
use serde::{Deserialize, Serialize};

/// The files that change.
pub(crate) const NAMES: [&str; 8] = [
    "registry.json",
    "acme.json",
    "bolt.json",
    "cobalt.json",
    "delta.json",
    "ember.json",
    "fjord.json",
    "gale.json",
];
/// Most files of a state are small; some take several blocks.
const LETTERS_SMALL: u64 = 2 << 10;
const LETTERS_LARGE: u64 = 24 << 10;

/// One change of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which file.
    pub(crate) file: usize,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is written.
    Written,
    /// It is removed.
    Removed,
    /// Another process removed it and was killed before it could flush that;
    /// this one is asked to remove it too.
    RemovedAgain,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// The number of the change that wrote it.
    pub(crate) version: u64,
    name: String,
    filler: String,
}

fn chance(seed: u64, number: u64) -> Chance {
    let mut both = Chance::new(seed ^ number.rotate_left(32));
    Chance::new(both.number())
}

/// The change of that number; the first is 1.
pub(crate) fn change(seed: u64, number: u64) -> Change {
    let mut chance = chance(seed, number);
    let file = usize::try_from(chance.below(NAMES.len() as u64)).unwrap_or(0);
    let what = match chance.below(10) {
        0 => What::Removed,
        1 => What::RemovedAgain,
        _ => What::Written,
    };
    Change { file, what }
}

/// What the change of that number writes into the file `name`.
pub(crate) fn content(seed: u64, number: u64, name: &str) -> Content {
    let mut chance = chance(!seed, number);
    let most = match chance.below(4) {
        0 => LETTERS_LARGE,
        _ => LETTERS_SMALL,
    };
    let mut filler = String::new();
    for _ in 0..chance.below(most) / 16 {
        filler.push_str(&format!("{:016x}", chance.number()));
    }
    Content {
        version: number,
        name: name.to_owned(),
        filler,
    }
}

/// What each file must hold: the number of the change that wrote it.
pub(crate) type Held = [Option<u64>; NAMES.len()];

/// The same after one more change.
pub(crate) fn after(mut held: Held, seed: u64, number: u64) -> Held {
    let Change { file, what } = change(seed, number);
    if let Some(held) = held.get_mut(file) {
        *held = (what == What::Written).then_some(number);
    }
    held
}
