//! Servers of tenants, by command: started by one process, listed, looked at,
//! entered, frozen and ended by others.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ground;
mod kills;
mod life;
mod orchestrator;
mod policy;
mod trees;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("server_outlives_who_started_it", life::outlives).lasting_s(60),
    Case::new("sample_server_runs", life::sample).lasting_s(60),
    Case::new("server_is_handled_by_whoever_comes", life::handled).lasting_s(60),
    Case::new("server_that_ended_is_told_as_dead", life::dead).lasting_s(60),
    Case::new("running_servers_keep_their_tenant", life::kept).lasting_s(60),
    Case::new("two_servers_share_no_id", life::apart).lasting_s(60),
    Case::new("many_servers_start_and_end_together", life::many).lasting_s(120),
    Case::new("started_twice_at_once_it_runs_once", life::twice).lasting_s(60),
    Case::new(
        "server_that_asks_for_more_is_refused_with_rule_and_place",
        policy::refused,
    )
    .lasting_s(60),
    Case::new("a_tenants_own_policy_counts_for_him_alone", policy::own).lasting_s(60),
    Case::new("changed_policy_counts_at_the_next_start", policy::changed).lasting_s(60),
    Case::new("tenant_has_no_more_servers_than_he_may", policy::counted).lasting_s(60),
    Case::new("tree_of_a_tenant_is_a_servers_root", trees::own).lasting_s(60),
    Case::new("tree_that_is_used_or_not_ours_is_refused", trees::refused).lasting_s(60),
    Case::new("tree_is_whole_or_not_there", trees::whole).lasting_s(120),
    Case::new(
        "orchestrator_starts_what_dies_again_and_ends_all",
        orchestrator::keeps,
    )
    .lasting_s(60),
    Case::new(
        "killed_orchestrators_servers_are_replaced_by_the_next",
        orchestrator::replaced,
    )
    .lasting_s(60),
    Case::new(
        "killed_up_leaves_nothing_that_the_next_does_not_remove",
        kills::up,
    )
    .lasting_s(600),
    Case::new("killed_down_is_finished_by_the_next", kills::down).lasting_s(600),
];

fn main() -> ExitCode {
    cloison_tests::main_with_launcher(CASES)
}
