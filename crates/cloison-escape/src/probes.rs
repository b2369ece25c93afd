//! The escape probes: what is tried, what should stop it, and in which
//! weakened sandbox it must succeed.
//!
//! A probe is one row of the catalogue of attempts. The program
//! [`crate::ATTEMPT`] tries it inside real sandboxes, in several ways:
//! - in the **control**, a sandbox without the layers that should stop it. It
//!   must get through there, or the probe proves nothing.
//! - in the **whole** sandbox, where it must be stopped; and in one that shows
//!   more, with a covered proc and a sysfs.
//! - with each layer **left out** alone, where it must still be stopped: no
//!   attack may depend on one layer. What does is listed in [`Probe::only`]
//!   with its reason.
//! - with each layer **left alone** to stop it, all others gone: a layer that
//!   stops none of the ways that the control finds open is unproved.
//!
//! Success is harmless: it shows on canaries that a [`Scene`] makes on the
//! stage and takes away again.

mod a_files;
mod a_kernel;
mod around;
mod attempted;
mod b_identity;
mod b_launch;
mod b_machine;
mod b_namespaces;
mod b_processes;
mod c_calls;
mod c_kernel;
mod d_inherited;
mod e_network;
mod error;
mod g_manager;
mod handed_in;
mod itself;
mod n_shared;
mod outcome;
mod outside;
mod run;
mod scene;
mod terminal;
mod traces;
mod victims;
mod watch;

use std::fmt;

use cloison_sandbox::Layer;

pub use around::as_odd_caller;
pub use attempted::{Attempted, Malformed, Verdict, Way};
pub use error::ProbeError;
pub use outcome::{Liveness, Outcome, Reach, Summary};
pub use run::{Runner, Sweep};
pub use scene::Scene;
pub use traces::Trace;

/// One attempt to escape.
#[derive(Debug)]
pub struct Probe {
    /// Its row in the catalogue, and the argument of the program.
    pub id: &'static str,
    /// What is tried, in a few words.
    pub title: &'static str,
    /// Where it was done or described before.
    pub reference: &'static str,
    /// The layers each of which stops it, or some of its ways.
    pub layers: &'static [Layer],
    /// The sandbox in which it must get through.
    pub control: Control,
    /// What one layer stops alone.
    pub only: &'static [Only],
    /// What it is tried on.
    pub canary: Canary,
    /// The ways of which only the program's word is known.
    pub unseen: &'static [Ways],
    /// The ways that get through not even in the control.
    pub silent: &'static [Silent],
}

/// A sandbox so weak that a probe must get through.
#[derive(Debug)]
pub struct Control {
    /// The layers that are taken away: those of the probe, and those without
    /// which the way to them is barred.
    pub without: &'static [Layer],
}

/// An exception to the rule that no attack is stopped by one layer alone.
#[derive(Debug)]
pub struct Only {
    /// The layer.
    pub layer: Layer,
    /// The ways that it alone stops, by how their names begin.
    pub ways: &'static [&'static str],
    /// Why there is no second one.
    pub reason: &'static str,
}

/// Some ways, and why they are so.
#[derive(Debug)]
pub struct Ways {
    /// Their names.
    pub names: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

/// Ways that the control finds shut: of them nothing is proved.
#[derive(Debug)]
pub struct Silent {
    /// Which, and why.
    pub ways: Ways,
    /// Where it is so.
    pub on: Machines,
}

/// On which machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machines {
    /// On every one.
    All,
    /// On some: it hangs on how the kernel is built.
    Some,
    /// Where the kernel is older than this version, major and minor: there is
    /// nothing to try.
    Before(u32, u32),
    /// The same, and on some that are newer.
    BeforeAndSome(u32, u32),
}

impl Machines {
    /// Whether a machine with a kernel of that version may be among them.
    fn may_be(self, kernel: (u32, u32)) -> bool {
        match self {
            Self::All | Self::Some | Self::BeforeAndSome(..) => true,
            Self::Before(..) => self.is_too_old(kernel),
        }
    }

    /// Whether there is nothing to try with a kernel of that version.
    fn is_too_old(self, kernel: (u32, u32)) -> bool {
        match self {
            Self::All | Self::Some => false,
            Self::Before(major, minor) | Self::BeforeAndSome(major, minor) => {
                kernel < (major, minor)
            }
        }
    }
}

impl fmt::Display for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Some => f.write_str("some; the run says it of its own"),
            Self::Before(major, minor) => write!(f, "those with a kernel before {major}.{minor}"),
            Self::BeforeAndSome(major, minor) => {
                write!(
                    f,
                    "those with a kernel before {major}.{minor}, and some others"
                )
            }
        }
    }
}

/// What a probe is tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Nothing that can be seen from outside: why.
    Unseen(&'static str),
    /// What each way leaves in `/proc` while it holds still: in words, and way
    /// by way.
    Traces(&'static str, &'static [(&'static str, Trace)]),
    /// The attempt itself: ids, capabilities, filters, scheduling.
    Itself,
    /// The program that the sandbox's init runs.
    Program,
    /// Namespaces that the attempt makes.
    Namespaces,
    /// Descriptors that the attempt is handed out.
    HandedOut,
    /// The sandbox's own init, and a command that it started for `exec`.
    Init,
    /// A child of another launch by the same caller, before it executes.
    Joining,
    /// The launcher, its spawner, and such a child.
    Caller,
    /// Processes inside that want to outlive a stop. No program tries: the
    /// runner looks.
    Outlived,
    /// The state of an odd caller's child. No program tries: the runner looks.
    Inherited,
    /// What a careless caller leaves its child. No program tries: the runner
    /// looks.
    Careless,
    /// The sandbox's own network.
    Network,
    /// A tree of the host that is shown read-only, with a mask over one of
    /// its directories. Everybody may write its file, but for the mount.
    MaskedTree,
    /// A tree of the host that is shown read-only. Its file is the root's.
    SharedTree,
    /// A file outside, and a directory beside it that is open in the caller.
    OpenDirectory,
    /// A process outside that notes signals and holds a secret.
    Process,
    /// Such a process, with the handles of it and of its namespaces.
    Namespaced,
    /// Such a process in the caller's process group, where the sandbox's is
    /// as well.
    Group,
    /// The pipes that the program writes to.
    Streams,
    /// A file of the host to which a log is written, open in the caller.
    Log,
    /// Memory, a counter, a set of waits and a queue of events, open in the
    /// caller.
    Shared,
    /// Unix sockets that listen outside, by abstract name and by path.
    Listener,
    /// Two keys of the user 0: one in the caller's session keyring, one in
    /// another process's.
    Key,
    /// The terminal of the caller, handed in as standard input.
    Terminal,
    /// A service on the loopback of the host, and a listener beside it that
    /// is open in the caller.
    Neighbour,
}

impl Canary {
    /// What the runner looks at, outside the attempt, before it believes it.
    #[must_use]
    pub fn seen_as(self) -> &'static str {
        match self {
            Self::Unseen(reason) | Self::Traces(reason, _) => reason,
            Self::Itself => "the attempt's own status, files and descriptors in /proc",
            Self::Program => "the program's mode, and who holds a descriptor of it",
            Self::Namespaces => "the namespaces of the attempt's processes in /proc",
            Self::HandedOut => "the attempt's descriptors and namespaces in /proc",
            Self::Init => {
                "limits, scheduling, tracer and files of both in /proc; a secret in \
                           the command's memory"
            }
            Self::Joining => "the child's tracer and the attempt's descriptors in /proc",
            Self::Caller => "the tracers of all three and the attempt's descriptors in /proc",
            Self::Network => "links and sockets of the sandbox's network in /proc",
            Self::MaskedTree => "what each way wrote on the host's side; a secret behind the mask",
            Self::SharedTree => "what each way wrote on the host's side: bytes, mode, owner, time",
            Self::OpenDirectory => "a secret that only the file outside holds",
            Self::Process => "the signals it notes, its state in /proc, a secret in its memory",
            Self::Namespaced => "the attempt's namespaces and descriptors in /proc",
            Self::Group => "the signals that a process of the group notes",
            Self::Outlived => "the processes themselves in /proc, before and after the stop",
            Self::Inherited => "the held child's state in /proc beside the caller's",
            Self::Careless => "the held child's descriptors and signals in /proc, its status",
            Self::Streams => "the attempt's descriptors of the pipes in /proc, and their modes",
            Self::Log => "what stands in the log, which is a secret",
            Self::Shared => {
                "what is counted; a secret that only the memory, the set and the \
                             queue hold"
            }
            Self::Listener => "what the listeners note",
            Self::Key => "a secret that only the keys hold",
            Self::Terminal => "the marks that came into the terminal, counted",
            Self::Neighbour => "the connections that the neighbour counts, and its secret",
        }
    }

    /// Whether no program inside tries it, but the runner around a launch.
    fn is_around(self) -> bool {
        matches!(self, Self::Outlived | Self::Inherited | Self::Careless)
    }

    /// Whether the child must be the caller's own: what it inherits is the
    /// point, and a spawner inherited it earlier.
    fn is_inherited(self) -> bool {
        matches!(self, Self::Key | Self::Terminal | Self::Group)
    }
}

/// Every probe, in the order of the catalogue.
pub const PROBES: [&Probe; 56] = [
    &a_files::A03,
    &a_kernel::A04,
    &a_kernel::A06,
    &a_files::A12,
    &a_files::A14,
    &a_kernel::A19,
    &a_kernel::A21,
    &a_kernel::A25,
    &a_kernel::A26,
    &a_kernel::A28,
    &a_kernel::A29,
    &a_files::A32,
    &b_processes::B01,
    &b_namespaces::B02,
    &b_processes::B03,
    &b_identity::B05,
    &b_identity::B06,
    &b_identity::B07,
    &b_identity::B08,
    &b_processes::B09,
    &b_machine::B11,
    &b_processes::B12,
    &b_launch::B14,
    &b_machine::B15,
    &b_machine::B16,
    &b_machine::B17,
    &b_machine::B18,
    &b_launch::B19,
    &b_namespaces::B20,
    &b_processes::B21,
    &c_calls::C01,
    &c_calls::C02,
    &c_calls::C03,
    &c_kernel::C04,
    &c_kernel::C05,
    &c_calls::C07,
    &c_calls::C08,
    &c_kernel::C10,
    &c_calls::C11,
    &c_calls::C14,
    &c_calls::C15,
    &c_calls::C20,
    &c_calls::C21,
    &d_inherited::D01,
    &d_inherited::D03,
    &d_inherited::D08,
    &d_inherited::D09,
    &d_inherited::D10,
    &e_network::E13,
    &g_manager::G11,
    &g_manager::G12,
    &n_shared::N02,
    &n_shared::N03,
    &n_shared::N04,
    &n_shared::N05,
    &n_shared::N06,
];

impl Probe {
    /// Whether only the program's word is known of `way`.
    #[must_use]
    pub fn is_unseen(&self, way: &str) -> bool {
        matches!(self.canary, Canary::Unseen(_))
            || self.unseen.iter().any(|ways| ways.names.contains(&way))
    }

    /// Where `way` is expected to be silent.
    #[must_use]
    pub fn silent_on(&self, way: &str) -> Option<Machines> {
        let declared = self
            .silent
            .iter()
            .find(|silent| silent.ways.names.contains(&way));
        declared.map(|silent| silent.on)
    }

    /// Whether `way` may get through where `layer` alone is missing.
    #[must_use]
    pub fn is_excepted(&self, layer: Layer, way: &str) -> bool {
        self.only
            .iter()
            .filter(|only| only.layer == layer)
            .flat_map(|only| only.ways)
            .any(|start| way.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PROBES;

    #[test]
    fn no_row_is_there_twice() {
        let ids: BTreeSet<_> = PROBES.iter().map(|probe| probe.id).collect();
        assert_eq!(ids.len(), PROBES.len());
    }

    #[test]
    fn what_is_not_seen_or_not_alive_has_a_reason() {
        for probe in PROBES {
            let silent = probe.silent.iter().map(|silent| &silent.ways);
            for ways in probe.unseen.iter().chain(silent) {
                assert!(!ways.names.is_empty(), "{}", probe.id);
                assert!(ways.reason.len() > 20, "{}", probe.id);
            }
            assert!(probe.canary.seen_as().len() > 20, "{}", probe.id);
        }
    }

    #[test]
    fn each_control_takes_away_all_that_should_stop_the_probe() {
        for probe in PROBES {
            for layer in probe.layers {
                assert!(
                    probe.control.without.contains(layer),
                    "{} {layer}",
                    probe.id
                );
            }
        }
    }

    #[test]
    fn a_layer_that_stands_alone_has_a_reason() {
        for probe in PROBES {
            assert!(!probe.layers.is_empty(), "{}", probe.id);
            if let [alone] = probe.layers {
                let only = probe.only.iter().find(|only| only.layer == *alone);
                assert!(
                    only.is_some_and(|only| !only.reason.is_empty()),
                    "{}",
                    probe.id
                );
            }
        }
    }
}
