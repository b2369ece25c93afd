//! Trees of a tenant's making, against every verb: they are launched contained,
//! or refused with one clear error, soon, and nothing outside is touched.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod by_name;
mod corpus;
mod ground;
mod outside;
mod swap;
mod verbs;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("hostile_trees_are_contained_or_refused", corpus::every_tree).lasting_s(300),
    Case::new("hostile_tenant_mangles_its_running_root", verbs::mangled).lasting_s(120),
    Case::new("swapped_trees_reach_no_victim", swap::every_race).lasting_s(900),
];

fn main() -> ExitCode {
    cloison_tests::main(CASES)
}
