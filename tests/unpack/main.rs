//! Trees that tenants made and archives that they brought: nothing outside is
//! touched, and what a provider's base gives to one is no inode of another's.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod archive;
mod by_name;
mod copies;
mod corpus;
mod escapes;
mod inside;
mod outside;
mod removal;
mod written;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new(
        "hostile_archives_change_nothing_outside",
        escapes::contained,
    )
    .lasting_s(300),
    Case::new("unpacking_by_name_is_led_outside", escapes::control).lasting_s(300),
    Case::new("what_tar_writes_is_unpacked_as_tar_does", written::by_tar).lasting_s(120),
    Case::new("archive_is_unpacked_by_a_root_of_its_own", inside::unpacked),
    Case::new(
        "archive_is_unpacked_by_an_ordinary_user",
        inside::by_ordinary_user,
    ),
    Case::new("deep_tree_is_removed_with_few_descriptors", removal::deep),
    Case::new(
        "removal_against_a_swapper_reaches_no_victim",
        removal::swapped,
    )
    .lasting_s(120),
    Case::new("removal_passes_over_mounts", removal::mounted),
    Case::new("copies_of_a_base_share_no_inode", copies::own_inodes),
    Case::new("copy_of_a_base_is_the_tenants", copies::whole),
    Case::new("base_that_cannot_be_copied_is_refused", copies::refused),
];

fn main() -> ExitCode {
    cloison_tests::main_side_by_side(CASES)
}
