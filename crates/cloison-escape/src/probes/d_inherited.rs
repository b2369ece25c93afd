//! D: inherited things and channels.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// Listeners outside.
pub(super) const D01: Probe = Probe {
    id: "d01",
    title: "reach a unix socket of the host",
    reference: "CVE-2020-15257",
    layers: &[Layer::NetworkNamespace, Layer::LandlockScope],
    control: Control {
        without: &[Layer::NetworkNamespace, Layer::LandlockScope],
    },
    only: &[],
    canary: Canary::Listener,
    unseen: &[],
    silent: &[Silent {
        ways: Ways {
            names: &["path-stream"],
            reason: "the control keeps the mount namespace, whose root is another",
        },
        on: Machines::All,
    }],
};

/// Streams that are read.
pub(super) const D03: Probe = Probe {
    id: "d03",
    title: "read the pipes that it writes to",
    reference: "proc_pid_fd(5)",
    layers: &[Layer::UserNamespace],
    control: Control {
        without: &[Layer::UserNamespace],
    },
    only: &[Only {
        layer: Layer::UserNamespace,
        ways: &["stdout-", "stderr-"],
        reason: "a pipe asks for nothing but its owner, the caller's user, whom the sandbox \
                 does not map; a Landlock domain does not cover pipes, and a socket, which \
                 nobody can open again, would stop programs that write to /dev/stdout",
    }],
    canary: Canary::Streams,
    unseen: &[],
    silent: &[],
};

/// The group of the launcher.
pub(super) const D08: Probe = Probe {
    id: "d08",
    title: "signal the process group of the launcher",
    reference: "kill(2), fcntl(2) F_SETOWN",
    layers: &[
        Layer::PidNamespace,
        Layer::UserNamespace,
        Layer::LandlockScope,
        Layer::Session,
    ],
    control: Control {
        without: &[
            Layer::PidNamespace,
            Layer::UserNamespace,
            Layer::Capabilities,
            Layer::Securebits,
            Layer::LandlockScope,
            Layer::Session,
        ],
    },
    only: &[],
    canary: Canary::Group,
    unseen: &[],
    silent: &[],
};

/// Things that are no files.
pub(super) const D09: Probe = Probe {
    id: "d09",
    title: "use memory, counters and queues that were left open",
    reference: "memfd_create(2), eventfd(2), epoll(7), inotify(7)",
    layers: &[Layer::Descriptors],
    control: Control {
        without: &[Layer::Descriptors],
    },
    only: &[Only {
        layer: Layer::Descriptors,
        ways: &["memory-file", "counter", "set-of-waits", "queue-of-events"],
        reason: "what is open already is used without being opened: no right is asked for, and \
                 nothing but closing it stops that",
    }],
    canary: Canary::Shared,
    unseen: &[],
    silent: &[],
};

/// A log that is a file.
pub(super) const D10: Probe = Probe {
    id: "d10",
    title: "empty, overwrite or read a log that is a file",
    reference: "ftruncate(2), fcntl(2) F_SETFL",
    layers: &[
        Layer::Descriptors,
        Layer::UserNamespace,
        Layer::LandlockFiles,
    ],
    control: Control {
        without: &[
            Layer::Descriptors,
            Layer::UserNamespace,
            Layer::LandlockFiles,
        ],
    },
    only: &[Only {
        layer: Layer::Descriptors,
        ways: &["ftruncate", "overwrite", "punch-hole"],
        reason: "what is open for writing may be emptied and overwritten without being opened, \
                 and F_SETFL takes O_APPEND away: a log must be handed in as a pipe",
    }],
    canary: Canary::Log,
    unseen: &[],
    silent: &[],
};
