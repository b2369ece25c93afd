//! Tenants of a host: who has which ids, where their storage is, and that no
//! death and no crowd of processes changes that.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod adding;
mod crowd;
mod ground;
mod kills;
mod removing;
mod reuse;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("each_tenant_has_a_block_and_a_root_of_his_own", adding::own),
    Case::new("storage_is_harmless_on_the_host", adding::harmless),
    Case::new("two_hundred_tenants_and_no_256th", adding::many).lasting_s(120),
    Case::new("thousand_tenants_of_a_larger_pool", adding::thousand).lasting_s(300),
    Case::new("refused_tenant_leaves_all_as_it_was", adding::refusals),
    Case::new("pool_may_grow_and_not_move", adding::pools),
    Case::new("kept_tenant_keeps_name_and_block", removing::kept),
    Case::new("tenant_with_servers_is_not_removed", removing::servers),
    Case::new(
        "purge_removes_a_hostile_tree_and_no_more",
        removing::hostile,
    ),
    Case::new(
        "purge_that_is_hindered_is_finished_later",
        removing::hindered,
    ),
    Case::new("reused_block_waits_for_a_process", reuse::process),
    Case::new("reused_block_waits_for_a_thread", reuse::thread),
    Case::new("reused_block_waits_for_a_group", reuse::group),
    Case::new("reused_block_waits_for_a_key", reuse::key),
    Case::new("reused_block_waits_for_system_v_objects", reuse::system_v),
    Case::new("reused_block_waits_for_a_map_of_ids", reuse::map),
    Case::new("reused_block_waits_for_a_file", reuse::file),
    Case::new("first_use_of_a_block_waits_too", reuse::first_use),
    Case::new("killed_adder_is_undone_or_done", kills::add).lasting_s(600),
    Case::new("killed_adder_of_the_first_is_undone_or_done", kills::first).lasting_s(600),
    Case::new("killed_changer_is_undone_or_done", kills::change).lasting_s(600),
    Case::new("killed_remover_is_undone_or_done", kills::keep).lasting_s(600),
    Case::new("killed_restorer_is_undone_or_done", kills::restore).lasting_s(600),
    Case::new("killed_purger_is_finished", kills::purge).lasting_s(600),
    Case::new("crowd_of_processes_loses_no_tenant", crowd::locked).lasting_s(300),
    Case::new("crowd_without_the_lock_loses_a_tenant", crowd::careless),
];

fn main() -> ExitCode {
    cloison_tests::main_side_by_side(CASES)
}
