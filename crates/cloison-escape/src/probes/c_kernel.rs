//! C: kernel interfaces.

use cloison_sandbox::Layer;

use super::{Canary, Control, Machines, Only, Probe, Silent, Ways};

/// A ring whose operations no filter sees.
pub(super) const C04: Probe = Probe {
    id: "c04",
    title: "do by io_uring what is denied as a call",
    reference: "io_uring(7)",
    layers: &[Layer::Seccomp],
    control: Control {
        without: &[Layer::Seccomp],
    },
    only: &[Only {
        layer: Layer::Seccomp,
        ways: &["io_uring_", "socket-through-ring"],
        reason: "no namespace, capability or Landlock right covers io_uring; the one other \
                 switch, kernel.io_uring_disabled, is the whole host's",
    }],
    canary: Canary::HandedOut,
    unseen: &[Ways {
        names: &["io_uring_enter", "io_uring_register"],
        reason: "called on no descriptor: the answer of the call is all there is",
    }],
    silent: &[],
};

/// A key of the host.
pub(super) const C05: Probe = Probe {
    id: "c05",
    title: "read a key of the host",
    reference: "keyrings(7), CVE-2016-0728",
    layers: &[Layer::Seccomp, Layer::SessionKeyring, Layer::UserNamespace],
    control: Control {
        // The proc: it shows processes only.
        without: &[
            Layer::Seccomp,
            Layer::SessionKeyring,
            Layer::UserNamespace,
            Layer::Proc,
        ],
    },
    only: &[],
    canary: Canary::Key,
    unseen: &[Ways {
        names: &["describe", "foreign-describe", "proc-keys"],
        reason: "a description holds no secret: an owner, a name, rights",
    }],
    silent: &[Silent {
        ways: Ways {
            names: &[
                "search-thread",
                "search-process",
                "search-user",
                "search-user-session",
                "search-persistent",
            ],
            reason: "the canaries lie in session keyrings. In the user's own, root's, a \
                 canary would be the machine's and outside the stage",
        },
        on: Machines::All,
    }],
};

/// Bytes pushed into the caller's terminal.
pub(super) const C10: Probe = Probe {
    id: "c10",
    title: "push bytes into the terminal of the caller",
    reference: "CVE-2017-5226, CVE-2023-28339",
    layers: &[Layer::Session, Layer::Seccomp],
    control: Control {
        without: &[Layer::Session, Layer::Seccomp],
    },
    only: &[],
    canary: Canary::Terminal,
    unseen: &[],
    silent: &[
        Silent {
            ways: Ways {
                names: &[
                    "push-stdout",
                    "push-high-half-stdout",
                    "acquire-stdout",
                    "push-stderr",
                    "push-high-half-stderr",
                    "acquire-stderr",
                ],
                reason: "output and errors are the runner's pipes; the terminal is on standard \
                 input",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["acquire-stdin"],
                reason: "the terminal controls the caller's session, and only a root of the host \
                 may steal it",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["console-stdin", "console-stdout", "console-stderr"],
                reason: "a pseudo-terminal is no console and has none of its subcommands; the \
                 stage has no console",
            },
            on: Machines::All,
        },
        Silent {
            ways: Ways {
                names: &["open-/dev/console", "open-/dev/tty0", "open-/dev/tty1"],
                reason: "the control keeps the sandbox's own /dev, where they are not",
            },
            on: Machines::All,
        },
    ],
};
