//! Hostile specs: one clear error with its place, and nothing made.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod corpus;
mod ground;
mod mutants;
mod table;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new(
        "hostile_toml_is_one_error_with_its_place",
        corpus::hostile_toml,
    )
    .lasting_s(300),
    Case::new("hostile_host_file_is_one_error", corpus::hostile_host),
    Case::new("hostile_json_is_refused", corpus::hostile_json),
    Case::new("odd_and_valid_specs_launch", corpus::odd_but_valid).lasting_s(180),
    Case::new("numbers_at_their_bounds_launch", bounds::at).lasting_s(180),
    Case::new("numbers_beyond_their_bounds_are_refused", bounds::beyond),
    Case::new("tmpfs_is_never_unbounded", bounds::tmpfs_is_bounded),
    Case::new(
        "mutated_specs_neither_panic_nor_hang_nor_leave_anything",
        mutants::all,
    )
    .lasting_s(600),
];

fn main() -> ExitCode {
    cloison_tests::main_with_launcher(CASES)
}
