//! What people really run, from Debian's packages: in the default root and in a
//! tree of debootstrap's, with either proc, doing real work.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod calls;
mod ground;
mod needs;
mod nginx;
mod node;
mod postgresql;
mod python;
mod redis;
mod shell;
mod tools;

use std::process::ExitCode;

use cloison_tests::Case;
use ground::Place;

/// Does real work there; why it did not go well.
type Work = fn(&Place) -> Result<(), String>;

/// What is run, by the name that `docs/programs.md` uses.
const PROGRAMS: &[(&str, Work)] = &[
    ("shell and coreutils", shell::work),
    ("Python", python::work),
    ("nginx", nginx::work),
    ("PostgreSQL", postgresql::work),
    ("Redis", redis::work),
    ("Node.js", node::work),
    ("ps", tools::ps),
    ("free", tools::free),
    ("uptime", tools::uptime),
    ("vmstat", tools::vmstat),
    ("sysctl", tools::sysctl),
];

const CASES: &[Case] = &[
    Case::new("shell_and_coreutils_work", || {
        needs::check("shell and coreutils")
    })
    .lasting_s(300),
    Case::new("python_works", || needs::check("Python")).lasting_s(300),
    Case::new("nginx_reloads_through_exec", || needs::check("nginx")).lasting_s(300),
    Case::new("postgresql_answers_queries", || needs::check("PostgreSQL")).lasting_s(300),
    Case::new("redis_keeps_what_it_is_told", || needs::check("Redis")).lasting_s(300),
    Case::new("node_serves_a_socket_handed_in", || needs::check("Node.js")).lasting_s(300),
    Case::new("programs_that_read_proc_are_named", needs::of_tools).lasting_s(300),
    Case::new("call_without_use_or_reason_is_found", calls::control),
    Case::new("every_allowed_call_is_used_or_has_a_reason", calls::check).lasting_s(600),
];

fn main() -> ExitCode {
    cloison_tests::main_side_by_side(CASES)
}
