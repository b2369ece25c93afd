//! The table of races in `SECURITY.md`, from their own data.

use cloison_escape::races::RACES;

use crate::table::table;

pub(crate) fn made() -> String {
    let races = table(
        [
            "race",
            "what is tried",
            "reference",
            "what is swapped",
            "what holds it",
            "what the control, by name, does",
        ],
        RACES.iter().map(|race| {
            [
                race.id.to_uppercase(),
                race.title.to_owned(),
                race.reference.to_owned(),
                race.swapped.to_owned(),
                race.held_by.join("; "),
                race.control.to_owned(),
            ]
        }),
    );
    format!(
        "Races are run against whoever prepares a root, with an entry of the tenant's tree that is\n\
         swapped all the time; what a layer inside could stop does not come to it. The control is an\n\
         implementation by name that loses to the same swapper (`test:swapped_trees_reach_no_victim`):\n\n\
         {races}"
    )
}
