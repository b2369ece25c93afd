//! What the escape probes run inside a sandbox.
//!
//! `attempt PROBE [KEY=VALUE...]` tries one row of the catalogue in every way
//! it knows, prints one line a way, and says by its exit code how it went:
//! 10 got through, 0 stopped, 20 could not try. It is static, depends on
//! nothing, and finds all that it needs in its arguments: a sandbox's root
//! may hold nothing but this file.
//!
//! Harmless by construction: what it reads, signals or writes is a canary
//! that the test made and named; what it overwrites it overwrites with the
//! bytes that were there.

mod arguments;
mod costs;
mod crossings;
mod descriptors;
mod devices;
mod files;
mod foreign_abi;
mod forked;
mod groups;
mod identity;
mod incident;
mod kernel_calls;
mod kernel_files;
mod keys;
mod left_open;
mod listeners;
mod machine;
mod mounts;
mod namespaces;
mod neighbours;
mod netlink;
mod new_mounts;
mod numbers;
mod odd;
mod own_init;
mod processes;
mod programs;
mod report;
mod ring;
mod roles;
mod sockets;
mod sys;
mod terminal;
mod transformers;

use std::process::ExitCode;

use arguments::Arguments;
use report::{CouldNotTry, Report};

/// One probe: fills in the report, or says why it could not begin.
type Probe = fn(&Arguments, &mut Report) -> Result<(), CouldNotTry>;

/// A part that tests need besides the probes; it answers for its own exit.
type Role = fn(&Arguments) -> Result<ExitCode, CouldNotTry>;

const PROBES: &[(&str, Probe)] = &[
    ("a03", mounts::a03),
    ("a04", new_mounts::a04),
    ("a06", devices::a06),
    ("a12", descriptors::a12),
    ("a14", programs::a14),
    ("a19", new_mounts::a19),
    ("a21", kernel_calls::a21),
    ("a25", new_mounts::a25),
    ("a26", kernel_files::a26),
    ("a28", kernel_files::a28),
    ("a29", kernel_files::a29),
    ("a32", mounts::a32),
    ("b01", neighbours::b01),
    ("b02", crossings::b02),
    ("b03", namespaces::b03),
    ("b05", identity::b05),
    ("b06", identity::b06),
    ("b07", identity::b07),
    ("b08", identity::b08),
    ("b09", own_init::b09),
    ("b11", machine::b11),
    ("b12", foreign_abi::b12),
    ("b15", machine::b15),
    ("b16", machine::b16),
    ("b17", machine::b17),
    ("b18", machine::b18),
    ("b20", crossings::b20),
    ("b21", own_init::b21),
    ("c01", kernel_calls::c01),
    ("c02", kernel_calls::c02),
    ("c03", kernel_calls::c03),
    ("c04", ring::c04),
    ("c05", keys::c05),
    ("c07", new_mounts::c07),
    ("c08", devices::c08),
    ("c10", terminal::c10),
    ("c11", devices::c11),
    ("c14", kernel_calls::c14),
    ("c15", kernel_calls::c15),
    ("c20", kernel_calls::c20),
    ("c21", kernel_calls::c21),
    ("d01", listeners::d01),
    ("d03", left_open::d03),
    ("d08", groups::d08),
    ("d09", left_open::d09),
    ("d10", left_open::d10),
    ("e13", sockets::e13),
    ("g12", own_init::g12),
    ("n02", transformers::n02),
    ("n03", sockets::n03),
    ("n04", transformers::n04),
    ("n05", netlink::n05),
    ("n06", transformers::n06),
];

const ROLES: &[(&str, Role)] = &[
    ("noop", roles::noop),
    ("sleep", roles::sleep),
    ("victim", roles::victim),
    ("answer", roles::answer),
    ("key", keys::with_key),
    ("forked", forked::forked),
    ("number", numbers::number),
    ("costs", costs::costs),
    ("crowd", roles::crowd),
    ("capabilities", identity::capabilities),
    ("odd", odd::odd),
    ("io-priority", odd::io_priority),
    ("daemons", odd::daemons),
    ("handles", crossings::handles),
    ("listen", listeners::listen),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    if let Some(code) = incident::play(&name, &mut words) {
        return code;
    }
    let arguments = Arguments::parse(words);
    if let Some((_, probe)) = PROBES.iter().find(|(known, _)| *known == name) {
        let mut report = Report::default();
        if arguments.text("watched").is_ok() {
            report::watch();
        }
        return match probe(&arguments, &mut report) {
            Ok(()) => report.conclude(),
            Err(reason) => report::could_not_try(&reason),
        };
    }
    if let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == name) {
        return role(&arguments).unwrap_or_else(|reason| report::could_not_try(&reason));
    }
    report::could_not_try(&CouldNotTry(format!("no probe or role is named {name:?}")))
}
