//! Hostile, careless and dying callers: the child is as planned all the same,
//! or there is a clear error.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ground;
mod inherited;
mod interrupted;
mod odd;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new(
        "inherited_oddities_do_not_reach_the_child",
        inherited::each_alone,
    )
    .lasting_s(180),
    Case::new(
        "inherited_oddities_at_once_do_not_reach_the_child",
        inherited::all_at_once,
    ),
    Case::new("ignored_sigchld_loses_no_status", odd::sigchld_ignored),
    Case::new("open_descriptors_stay_with_the_caller", odd::descriptors),
    Case::new(
        "mighty_caller_of_a_million_descriptors_keeps_them",
        odd::million_descriptors,
    ),
    Case::new(
        "mighty_caller_spared_by_the_oom_killer_spares_no_child",
        inherited::least_killable,
    ),
    Case::new("few_descriptors_are_a_clear_error", odd::few_descriptors),
    Case::new("closed_streams_are_no_hindrance", odd::closed_streams),
    Case::new("deleted_directory_is_no_hindrance", odd::deleted_directory),
    Case::new("large_environment_stays_with_the_caller", odd::environment),
    Case::new("chrooted_caller_gets_a_clear_error", odd::chrooted),
    Case::new("terminal_of_the_caller_stays_with_it", odd::terminal),
    Case::new("handled_signals_interrupt_no_launch", interrupted::signals),
    Case::new("stops_interrupt_no_launch", interrupted::stops).lasting_s(120),
    Case::new("aborted_tasks_leave_nothing", interrupted::aborted_tasks).lasting_s(300),
    Case::new(
        "spawner_killed_under_two_threads_hangs_nobody",
        interrupted::spawner_killed,
    )
    .lasting_s(120),
    Case::new(
        "process_made_between_plan_and_hold_keeps_nothing",
        interrupted::process_between,
    ),
];

fn main() -> ExitCode {
    if ground::is_played() {
        ground::play();
        return ExitCode::SUCCESS;
    }
    cloison_tests::main_side_by_side(CASES)
}
