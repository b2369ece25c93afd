//! The launch keeps its promises.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod broken;
mod callers;
mod covered;
mod devices;
mod exec;
mod exec_again;
mod fields;
mod ground;
mod order;
mod outside;
mod prepared;
mod probe;
mod quiet;
mod sockets;
mod stops;
mod threads;

use std::process::ExitCode;

use cloison_sandbox::Layer;
use cloison_tests::Case;

macro_rules! broken {
    ($($name:ident: $layer:ident,)*) => {
        &[$(Case::new(
            concat!("broken_layer_is_noticed_", stringify!($name)),
            || broken::check(Layer::$layer),
        ),)*]
    };
}

const BROKEN: &[Case] = broken! {
    cgroup: Cgroup,
    cgroup_limits: CgroupLimits,
    device_control: DeviceControl,
    network_namespace: NetworkNamespace,
    user_namespace: UserNamespace,
    mount_namespace: MountNamespace,
    pid_namespace: PidNamespace,
    ipc_namespace: IpcNamespace,
    uts_namespace: UtsNamespace,
    cgroup_namespace: CgroupNamespace,
    proc: Proc,
    sysfs: Sysfs,
    devices: Devices,
    devpts: Devpts,
    capabilities: Capabilities,
    securebits: Securebits,
    no_new_privs: NoNewPrivs,
    seccomp: Seccomp,
    landlock_files: LandlockFiles,
    landlock_network: LandlockNetwork,
    landlock_scope: LandlockScope,
    rlimits: Rlimits,
    session_keyring: SessionKeyring,
    session: Session,
    inherited_state: InheritedState,
    descriptors: Descriptors,
    not_dumpable: NotDumpable,
    core_scheduling: CoreScheduling,
    speculation_control: SpeculationControl,
};

const CASES: &[Case] = &[
    Case::new(
        "order_of_the_child_is_as_documented",
        order::every_adjacent_pair,
    ),
    Case::new("broken_field_is_noticed", fields::every_field).lasting_s(300),
    Case::new(
        "tree_of_a_shared_mount_is_private",
        outside::tree_of_a_shared_mount_is_private,
    ),
    Case::new(
        "working_directory_cannot_leave_the_root",
        outside::working_directory_cannot_leave_the_root,
    ),
    Case::new(
        "sysfs_shows_its_own_network",
        outside::sysfs_shows_its_own_network,
    ),
    Case::new("dropped_held_leaves_nothing", callers::dropped_held),
    Case::new("killed_spawner_is_replaced", callers::killed_spawner),
    Case::new("many_sandboxes_of_one_caller", callers::many_at_once),
    Case::new(
        "spawner_killed_at_any_moment_hangs_nobody",
        callers::spawner_killed_at_any_moment,
    ),
    Case::new("stopped_spawner_hangs_nobody", callers::stopped_spawner),
    Case::new("caller_with_filters_launches", callers::filtered_caller),
    Case::new(
        "caller_that_adopts_hears_the_status",
        callers::adopting_caller,
    ),
    Case::new(
        "raised_limits_on_namespaces_are_noticed",
        callers::raised_limits,
    ),
    Case::new(
        "status_survives_a_thread_that_waits_for_any_child",
        callers::waits_elsewhere,
    ),
    Case::new(
        "network_of_the_first_launch_is_kept",
        prepared::network_is_kept,
    ),
    Case::new(
        "lost_network_of_the_clone_is_noticed",
        prepared::lost_network,
    ),
    Case::new(
        "credentials_are_filled_from_outside",
        prepared::credentials_are_filled,
    ),
    Case::new(
        "covered_proc_tells_of_the_server",
        covered::tells_of_the_server,
    ),
    Case::new("missing_cover_of_proc_is_noticed", covered::missing_cover),
    Case::new("devices_are_the_servers_own", prepared::devices_are_its_own),
    Case::new(
        "device_program_of_version_2_denies_others",
        devices::program_of_version_2,
    ),
    Case::new("waiting_needs_no_thread", callers::waits_async),
    Case::new("launch_makes_no_clone_in_the_caller", quiet::no_clone),
    Case::new(
        "socket_of_another_network_is_refused",
        sockets::of_another_network,
    ),
    Case::new("socket_of_its_own_network_is_taken", sockets::of_its_own),
    Case::new("probe_agrees_with_a_launch", probe::agrees),
    Case::new("probes_at_once_agree_and_leave_nothing", probe::at_once),
    Case::new("clone_from_64_threads_hangs", threads::control).lasting_s(120),
    Case::new("launches_from_64_threads_leave_nothing", threads::many).lasting_s(300),
];

fn main() -> ExitCode {
    if probe::is_wanted() {
        probe::act();
        return ExitCode::SUCCESS;
    }
    if quiet::is_wanted() {
        quiet::act();
        return ExitCode::SUCCESS;
    }
    let all = [CASES, exec::CASES, exec_again::CASES, stops::CASES, BROKEN]
        .into_iter()
        .flatten();
    let cases: Vec<Case> = all.copied().collect();
    cloison_tests::main_side_by_side(cases.leak())
}
