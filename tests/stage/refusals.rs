//! The runner started wrongly, in each way it must refuse. The stage of the
//! case is the machine that the wrong stages are made on.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use cloison_escape::stage::rtnetlink::Rtnetlink;
use cloison_escape::stage::{
    Enclosure, Limits, MACHINE, Machine, Namespace, NamespaceIds, StageError,
};
use cloison_tests::Outcome;
use nix::sched::{CloneFlags, unshare};

use crate::{FAULTY, arguments, code, faulty, text};

pub(crate) fn shared_mount() -> Outcome {
    without(Namespace::Mount, 101)
}

pub(crate) fn shared_pid() -> Outcome {
    without(Namespace::Pid, 102)
}

pub(crate) fn shared_network() -> Outcome {
    without(Namespace::Network, 103)
}

pub(crate) fn shared_ipc() -> Outcome {
    without(Namespace::Ipc, 104)
}

pub(crate) fn shared_uts() -> Outcome {
    without(Namespace::Uts, 105)
}

pub(crate) fn shared_cgroup() -> Outcome {
    without(Namespace::Cgroup, 106)
}

/// The outer process compares the namespaces before the first mount.
fn without(namespace: Namespace, expected: u8) -> Outcome {
    let mut enclosure = Enclosure::default();
    enclosure.namespaces.remove(&namespace);
    match enclosure.run(Path::new(FAULTY), &arguments("passes")) {
        Err(StageError::Refused(refusal)) => {
            assert_eq!(refusal.exit_code(), expected, "{refusal}");
            Outcome::Passed
        }
        other => Outcome::Failed(format!("{other:?}")),
    }
}

/// The process on the stage compares them by itself: each in turn is made out
/// to be the machine's.
pub(crate) fn compared_inside() -> Outcome {
    let own = NamespaceIds::read(Path::new("/proc/self")).unwrap();
    let machine: Machine = std::env::var(MACHINE).unwrap().parse().unwrap();
    for (namespace, expected) in Namespace::ALL.into_iter().zip(101..) {
        let of_first = Machine {
            first_process: machine.first_process.with(namespace, &own),
            ..machine
        };
        let of_outer = Machine {
            outer: machine.outer.with(namespace, &own),
            ..machine
        };
        for machine in [of_first, of_outer] {
            let mut command = faulty("passes");
            wants(command.env(MACHINE, machine.to_string()), expected);
        }
    }
    Outcome::Passed
}

pub(crate) fn unnamed_machine() -> Outcome {
    wants(faulty("passes").env_remove(MACHINE), 113);
    wants(faulty("passes").env(MACHINE, "1:1"), 113);
    Outcome::Passed
}

pub(crate) fn foreign_link() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    Rtnetlink::open()
        .unwrap()
        .add_link("out0", "bridge")
        .unwrap();
    wants(&mut faulty("passes"), 107);
    Outcome::Passed
}

pub(crate) fn veth_to_the_machine() -> Outcome {
    let stage = File::open("/proc/self/ns/net").unwrap();
    let ids = NamespaceIds::read(Path::new("/proc/self")).unwrap();
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let rtnetlink = Rtnetlink::open().unwrap();
    rtnetlink.add_veth("near0", "far0", stage.as_fd()).unwrap();
    // For the runner below, this stage's network is the machine's.
    let machine: Machine = std::env::var(MACHINE).unwrap().parse().unwrap();
    let machine = Machine {
        first_process: machine.first_process.with(Namespace::Network, &ids),
        ..machine
    };
    wants(faulty("passes").env(MACHINE, machine.to_string()), 107);
    remove_link("near0");
    Outcome::Passed
}

pub(crate) fn own_veth() -> Outcome {
    let stage = File::open("/proc/self/ns/net").unwrap();
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let rtnetlink = Rtnetlink::open().unwrap();
    rtnetlink.add_veth("near0", "far0", stage.as_fd()).unwrap();
    wants(&mut faulty("passes"), 0);
    remove_link("near0");
    Outcome::Passed
}

/// The pair would go with its namespace, some time after the case.
fn remove_link(name: &str) {
    Rtnetlink::open().unwrap().remove_link(name).unwrap();
}

pub(crate) fn default_route() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let rtnetlink = Rtnetlink::open().unwrap();
    rtnetlink.bring_up(1).unwrap();
    wants(&mut faulty("passes"), 0);
    rtnetlink.add_default_route(1).unwrap();
    wants(&mut faulty("passes"), 108);
    Outcome::Passed
}

pub(crate) fn no_memory_limit() -> Outcome {
    bounded_by(109, |limits| limits.memory_bytes_max = None)
}

pub(crate) fn vast_memory_limit() -> Outcome {
    bounded_by(109, |limits| limits.memory_bytes_max = Some(1 << 60))
}

pub(crate) fn no_process_limit() -> Outcome {
    bounded_by(110, |limits| limits.processes_max = None)
}

pub(crate) fn no_cpu_limit() -> Outcome {
    bounded_by(111, |limits| limits.cpu_percent_max = None)
}

pub(crate) fn no_wall_clock() -> Outcome {
    bounded_by(112, |limits| limits.wall_clock_s_max = None)
}

pub(crate) fn accepted() -> Outcome {
    bounded_by(0, |_| {})
}

fn bounded_by(expected: u8, change: impl FnOnce(&mut Limits)) -> Outcome {
    let mut enclosure = Enclosure::default();
    change(&mut enclosure.limits);
    let code = enclosure
        .run(Path::new(FAULTY), &arguments("passes"))
        .unwrap();
    assert_eq!(code, expected);
    Outcome::Passed
}

#[track_caller]
pub(crate) fn wants(command: &mut Command, expected: i32) {
    let output = command.output().unwrap();
    assert_eq!(code(&output), expected, "{}", text(&output));
}
