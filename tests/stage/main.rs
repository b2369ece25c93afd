//! The stage and the harness keep their promises: they refuse to run where
//! they must, bound what they run, leave nothing, and see each kind of fault.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod devices;
mod faults;
mod refusals;

use std::ffi::OsString;
use std::process::{Command, ExitCode, Output};

use cloison_escape::stage::{MACHINE, ROLE};
use cloison_tests::Case;

/// A runner with cases that misbehave.
const FAULTY: &str = env!("CARGO_BIN_EXE_faulty");

const CASES: &[Case] = &[
    Case::new(
        "a_shared_mount_namespace_is_refused",
        refusals::shared_mount,
    ),
    Case::new("a_shared_pid_namespace_is_refused", refusals::shared_pid),
    Case::new(
        "a_shared_network_namespace_is_refused",
        refusals::shared_network,
    ),
    Case::new("a_shared_ipc_namespace_is_refused", refusals::shared_ipc),
    Case::new("a_shared_uts_namespace_is_refused", refusals::shared_uts),
    Case::new(
        "a_shared_cgroup_namespace_is_refused",
        refusals::shared_cgroup,
    ),
    Case::new(
        "a_namespace_is_compared_inside_too",
        refusals::compared_inside,
    ),
    Case::new(
        "a_stage_without_named_machine_is_refused",
        refusals::unnamed_machine,
    ),
    Case::new("a_foreign_link_is_refused", refusals::foreign_link),
    Case::new(
        "a_veth_to_the_machine_is_refused",
        refusals::veth_to_the_machine,
    ),
    Case::new(
        "a_veth_to_a_namespace_of_the_stage_is_accepted",
        refusals::own_veth,
    ),
    Case::new("a_default_route_is_refused", refusals::default_route),
    Case::new(
        "a_missing_memory_limit_is_refused",
        refusals::no_memory_limit,
    ),
    Case::new(
        "a_memory_limit_above_the_machine_is_refused",
        refusals::vast_memory_limit,
    ),
    Case::new(
        "a_missing_process_limit_is_refused",
        refusals::no_process_limit,
    ),
    Case::new("a_missing_cpu_limit_is_refused", refusals::no_cpu_limit),
    Case::new("a_missing_wall_clock_is_refused", refusals::no_wall_clock),
    Case::new(
        "the_same_start_without_a_fault_is_accepted",
        refusals::accepted,
    ),
    Case::new("the_stage_sees_nothing_of_the_machine", bounds::separate),
    Case::new("the_stage_has_devices_of_its_own", devices::own),
    Case::new("no_other_device_opens_on_the_stage", devices::no_other),
    Case::new(
        "a_device_of_the_machine_is_refused",
        devices::of_the_machine,
    ),
    Case::new("opened_devices_are_caught", devices::opened),
    Case::new("the_stage_keeps_all_rights", bounds::all_rights),
    Case::new("orphans_are_reaped", bounds::orphans),
    Case::new("the_wall_clock_ends_the_stage", bounds::wall_clock),
    Case::new(
        "the_wall_clock_ends_frozen_processes",
        bounds::wall_clock_frozen,
    ),
    Case::new(
        "a_frozen_process_that_is_left_does_not_hold_the_stage",
        bounds::left_frozen,
    ),
    Case::new("memory_is_bounded", bounds::memory),
    Case::new("processes_are_bounded", bounds::processes),
    Case::new(
        "a_terminated_outer_process_leaves_nothing",
        bounds::terminated,
    ),
    Case::new("a_killed_outer_process_leaves_no_process", bounds::killed),
    Case::new("stale_cgroups_are_removed_at_the_next_start", bounds::stale),
    Case::new(
        "a_living_stage_is_not_swept_by_a_foreign_one",
        bounds::foreign,
    ),
    Case::new("a_passing_case_is_counted", faults::passing),
    Case::new("a_failing_case_is_caught", faults::failing),
    Case::new("a_panicking_case_is_caught", faults::panicking),
    Case::new("a_case_that_exits_is_caught", faults::exiting),
    Case::new("a_killed_case_is_caught", faults::killed),
    Case::new("an_undeclared_skip_is_caught", faults::undeclared_skip),
    Case::new(
        "a_declared_skip_is_counted_as_skipped",
        faults::declared_skip,
    ),
    Case::new("a_printed_skip_is_counted_as_skipped", faults::printed_skip),
    Case::new("a_case_that_ends_early_is_caught", faults::ending_early),
    Case::new("a_hidden_skip_is_counted_as_skipped", faults::hidden_skip),
    Case::new("a_lost_thread_is_caught", faults::lost_thread),
    Case::new("cases_side_by_side_are_caught_too", faults::side_by_side),
    Case::new("a_hanging_case_is_caught", faults::hanging),
    Case::new("a_mount_left_behind_is_caught", faults::left_mount),
    Case::new("a_cgroup_left_behind_is_caught", faults::left_cgroup),
    Case::new("a_process_left_behind_is_caught", faults::left_process),
    Case::new(
        "a_process_that_ends_soon_is_not_left_behind",
        faults::ending_process,
    ),
    Case::new("a_link_left_behind_is_caught", faults::left_link),
    Case::new("a_changed_setting_is_caught", faults::changed_setting),
    Case::new("a_lifted_limit_is_caught", faults::lifted_limit),
    Case::new("a_changed_machine_is_caught", faults::changed_machine),
    Case::new(
        "one_fault_does_not_hide_the_next_case",
        faults::two_in_a_row,
    ),
];

fn main() -> ExitCode {
    cloison_tests::main(CASES)
}

/// Runs one case of the faulty runner here, on the stage of this case.
fn faulty(case: &str) -> Command {
    let mut command = Command::new(FAULTY);
    command.args(["--exact", case]);
    command
}

/// Runs it on a stage of its own, for which this one is the machine.
fn faulty_outside(case: &str) -> Command {
    let mut command = faulty(case);
    command.env_remove(ROLE).env_remove(MACHINE);
    command
}

fn arguments(case: &str) -> Vec<OsString> {
    vec!["--exact".into(), case.into()]
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}
