//! Each step, each system call of a launch goes wrong in turn, and whoever
//! launches is killed at each of his: nothing is left, and no half sandbox runs.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod allowed;
mod calls;
mod controls;
mod ground;
mod init;
mod kills;
mod mishaps;
mod steps;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("fault_tool_follows_every_process", controls::follows),
    Case::new("careless_callers_are_caught", controls::careless),
    Case::new("ignored_failure_is_noticed", controls::ignored),
    Case::new("hanging_caller_is_noticed", controls::hanging),
    Case::new("week_of_mishaps_leaves_nothing", mishaps::week).lasting_s(300),
    Case::new("soak_notices_what_is_left", mishaps::control),
    Case::new("failed_step_never_runs_the_command", steps::every_step).lasting_s(400),
    Case::new(
        "failed_step_of_a_rich_sandbox_never_runs_the_command",
        steps::every_step_of_a_rich_one,
    )
    .lasting_s(600),
    Case::new(
        "failed_call_of_a_namespaces_maker_leaves_nothing",
        calls::of_the_makers,
    )
    .lasting_s(120),
    Case::new(
        "failed_call_of_the_caller_leaves_nothing",
        calls::of_the_caller,
    )
    .lasting_s(600),
    Case::new(
        "failed_call_of_a_rich_sandboxes_caller_leaves_nothing",
        calls::of_a_rich_ones_caller,
    )
    .lasting_s(600),
    Case::new(
        "failed_call_of_the_spawners_start_leaves_nothing",
        calls::of_the_starter,
    )
    .lasting_s(300),
    Case::new(
        "failed_call_of_the_init_is_told_by_the_status",
        calls::of_the_init,
    )
    .lasting_s(600),
    Case::new(
        "failed_call_of_what_the_init_starts_is_told",
        calls::of_the_starting,
    )
    .lasting_s(600),
    Case::new(
        "failed_call_of_the_spawner_leaves_nothing",
        calls::of_the_spawner,
    )
    .lasting_s(600),
    Case::new("init_asks_again_for_a_status", init::reaps).lasting_s(120),
    Case::new("init_that_closes_nothing_ends", init::closes).lasting_s(120),
    Case::new(
        "killed_caller_leaves_nothing_at_its_next_start",
        kills::library,
    )
    .lasting_s(600),
    Case::new(
        "killed_caller_of_every_verb_leaves_nothing_at_its_next_start",
        kills::rich,
    )
    .lasting_s(600),
    Case::new(
        "killed_launcher_leaves_nothing_at_its_next_start",
        kills::launcher,
    )
    .lasting_s(600),
];

fn main() -> ExitCode {
    cloison_tests::main_with_launcher(CASES)
}
