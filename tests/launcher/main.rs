//! The launcher keeps its promises, as whoever types its commands sees them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod cgroups;
mod damage;
mod exits;
mod ground;
mod inputs;
mod registry;
mod relays;
mod samples;
mod shown;
mod streams;
mod tenants;
mod terminal;
mod verbs;
mod waits;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new("code_of_the_command_is_ours", exits::of_the_command),
    Case::new("signal_that_ended_the_command_is_told", exits::by_signal),
    Case::new("our_failure_is_125_with_layer_and_step", exits::ours),
    Case::new("command_not_found_is_127", exits::not_found),
    Case::new("run_tells_its_end_as_json", exits::json),
    Case::new("command_not_executable_is_126", exits::not_executable),
    Case::new("signals_reach_the_command", exits::signals),
    Case::new("program_is_looked_up_in_the_root", exits::lookup),
    Case::new("input_and_output_pass_through_pipes", streams::pipes),
    Case::new("both_outputs_in_one_file_keep_their_order", streams::order),
    Case::new("file_on_stdout_cannot_be_truncated", streams::truncate),
    Case::new("closed_output_ends_the_command_quietly", streams::closed),
    Case::new("output_that_is_lost_is_an_error", streams::full),
    Case::new("sandbox_holds_no_stream_of_the_caller", streams::own),
    Case::new("terminal_is_the_sandboxs_own", terminal::own),
    Case::new("size_is_passed_on", terminal::size),
    Case::new("interrupt_key_reaches_the_command", terminal::interrupt),
    Case::new("ended_launcher_sets_the_terminal_back", terminal::ended),
    Case::new("name_that_lives_is_a_conflict", registry::conflict),
    Case::new("killed_launcher_is_cleaned_up_after", registry::killed),
    Case::new("dead_name_is_swept_by_another_start", registry::swept),
    Case::new("dead_name_is_swept_from_another_cgroup", cgroups::swept),
    Case::new(
        "launcher_killed_halfway_leaves_no_cgroup",
        cgroups::killed_halfway,
    ),
    Case::new(
        "noted_cgroup_that_is_not_ours_is_refused",
        cgroups::not_ours,
    ),
    Case::new("parallel_runs_have_different_ids", registry::parallel),
    Case::new("ids_in_use_are_refused", registry::ids_in_use),
    Case::new("terminated_launcher_leaves_no_record", registry::terminated),
    Case::new("torn_record_is_an_error", registry::torn),
    Case::new("full_state_is_an_error", damage::full),
    Case::new("sandbox_without_launcher_is_inspected", damage::orphaned),
    Case::new("stray_file_hides_no_process", damage::stray),
    Case::new("exec_runs_a_command_beside_another", verbs::exec),
    Case::new("exec_says_why_it_started_nothing", verbs::exec_refused),
    Case::new("exec_hands_on_signals_and_hangs_up", verbs::exec_signals),
    Case::new(
        "exec_waits_for_no_background_child",
        verbs::exec_held_output,
    )
    .lasting_s(120),
    Case::new("stop_thaws_what_is_frozen_meanwhile", verbs::stop_refrozen).lasting_s(90),
    Case::new("stop_tells_what_is_kept_frozen", cgroups::kept_frozen).lasting_s(90),
    Case::new("verbs_explain_what_they_refuse", verbs::explained),
    Case::new("exec_has_the_operators_terminal", terminal::of_exec),
    Case::new("stop_ends_a_sandbox_and_its_launcher", verbs::stop),
    Case::new("stop_removes_what_a_dead_launcher_left", verbs::stop_dead),
    Case::new("freeze_and_thaw", verbs::freeze),
    Case::new("verbs_refuse_what_does_not_run", verbs::absent),
    Case::new("signal_ends_a_wait_for_a_file", waits::on_a_file),
    Case::new("signal_ends_a_wait_for_the_lock", waits::on_the_lock),
    Case::new("what_a_server_wrote_last_arrives", relays::last_bytes),
    Case::new("silent_clients_keep_nobody_out", relays::full),
    Case::new("two_addresses_of_a_port_are_one_socket", relays::one_port),
    Case::new(
        "relay_without_descriptors_does_not_spin",
        relays::no_descriptors,
    ),
    Case::new("unsafe_state_is_refused", registry::unsafe_state),
    Case::new("wrong_file_is_one_error_with_its_place", inputs::files),
    Case::new("wrong_host_file_is_one_error", inputs::host_files),
    Case::new("wrong_arguments_are_one_error", inputs::arguments),
    Case::new("foreign_text_is_escaped", inputs::escaped),
    Case::new("every_sample_has_a_test", samples::complete),
    Case::new("sample_hello_runs", samples::hello),
    Case::new("sample_own_root_runs", samples::own_root),
    Case::new("sample_web_is_reached_without_a_network", samples::web),
    Case::new("sample_host_lets_this_host_start", samples::host),
    Case::new("running_sandbox_is_inspected", shown::inspected),
    Case::new("any_process_is_inspected", shown::any_process),
    Case::new("clash_of_ids_is_told_with_file_and_line", shown::clash),
    Case::new("json_is_json", shown::json),
    Case::new("run_judges_layers_as_check_does", shown::judged),
    Case::new("completions_and_man_pages_are_made", shown::manual),
    Case::new("closed_reader_is_no_panic", shown::closed_reader),
    Case::new("tenant_is_added_shown_and_removed", tenants::life),
    Case::new("tenant_verbs_say_what_they_refuse", tenants::refused),
    Case::new("run_keeps_clear_of_the_ids_of_tenants", tenants::clear),
];

fn main() -> ExitCode {
    cloison_tests::main_with_launcher(CASES)
}
