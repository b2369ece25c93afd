//! A tenant's own tree as a root: whose its files are, and where what is
//! written goes.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ground;
mod ids;
mod layers;
mod refusals;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("own_root_is_read_only_and_the_servers_own", ids::read_only),
    Case::new(
        "two_servers_of_a_tenant_see_the_same_files_as_their_own",
        ids::two_servers,
    ),
    Case::new("nothing_made_inside_is_the_hosts", ids::made_inside),
    Case::new("broken_map_of_ids_is_noticed", ids::broken),
    Case::new("map_of_ids_is_used_again_at_a_restart", ids::restart),
    Case::new("memory_layer_is_gone_with_the_sandbox", layers::memory),
    Case::new("disk_layer_is_there_at_the_next_start", layers::disk),
    Case::new(
        "disk_layer_has_one_sandbox_at_a_time",
        layers::one_at_a_time,
    ),
    Case::new(
        "layer_that_the_kernel_makes_read_only_in_silence_is_noticed",
        layers::silently_read_only,
    ),
    Case::new("layers_that_are_links_are_not_followed", layers::links),
    Case::new("root_that_cannot_be_had_says_why", refusals::all),
    Case::new(
        "tree_where_the_host_executes_nothing_is_a_root",
        refusals::inert_place,
    ),
];

fn main() -> ExitCode {
    cloison_tests::main(CASES)
}
