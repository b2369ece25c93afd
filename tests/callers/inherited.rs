//! What a process inherits: odd in the caller, as planned in the child.
//!
//! Each oddity is seen in the caller first. Then it must reach a child that is
//! made without the layer that sets it back, else the case shows nothing.

use std::process::{Command, Stdio};

use cloison_linux::host::{self, PrctlQuestion};
use cloison_sandbox::posture::Field;
use cloison_sandbox::{Error, Plan, Weakening};
use cloison_tests::{Outcome, REPORT};
use nix::errno::Errno;

use crate::ground::{part, plan, played, said, spec};

/// One odd state of a caller.
struct Oddity {
    name: &'static str,
    /// What starts a program in it.
    wrapper: &'static [&'static str],
    /// A file of the caller's own, and what stands in it then.
    seen: (&'static str, &'static str),
    /// What of a child shows it.
    field: Field,
    /// What shows it to the child itself, where the read-back is not to be the
    /// only witness: a shell's words, and what they print.
    inside: (&'static str, &'static str),
}

/// set_mempolicy(2) with `MPOL_LOCAL`, which no small tool sets.
const MEMORY_POLICY: &[&str] = &[
    "perl",
    "-e",
    "syscall(238, 4, 0, 0) == 0 or die; exec @ARGV",
];

const ODDITIES: &[Oddity] = &[
    Oddity {
        name: "nice",
        // Absolute: whoever runs the tests may have a value of its own.
        wrapper: &[
            "sh",
            "-c",
            "renice -n 15 -p $$ >/dev/null; exec \"$0\" \"$@\"",
        ],
        seen: ("stat", " 35 15 "),
        field: Field::Nice,
        inside: ("nice", "0\n"),
    },
    Oddity {
        name: "scheduler",
        wrapper: &["chrt", "--batch", "0"],
        seen: (
            "sched",
            "policy                                       :                    3",
        ),
        field: Field::SchedulerPolicy,
        inside: ("chrt -p $$ | head -n 1 | sed 's/.*: //'", "SCHED_OTHER\n"),
    },
    Oddity {
        name: "affinity",
        wrapper: &["taskset", "-c", "0"],
        seen: ("status", "Cpus_allowed_list:\t0\n"),
        field: Field::Affinity,
        inside: ("true", ""),
    },
    Oddity {
        name: "oom",
        wrapper: &["choom", "-n", "1000", "--"],
        seen: ("oom_score_adj", "1000\n"),
        field: Field::OomScoreAdjustment,
        inside: ("cat /proc/self/oom_score_adj", "500\n"),
    },
    Oddity {
        name: "ionice",
        wrapper: &["ionice", "-c", "3"],
        seen: ("ionice", "idle\n"),
        field: Field::IoPriority,
        inside: ("true", ""),
    },
    Oddity {
        name: "personality",
        wrapper: &["setarch", "--addr-no-randomize"],
        seen: ("personality", "00040000\n"),
        field: Field::Personality,
        inside: ("true", ""),
    },
    Oddity {
        name: "umask",
        wrapper: &["sh", "-c", "umask 777; exec \"$0\" \"$@\""],
        seen: ("status", "Umask:\t0777\n"),
        field: Field::Umask,
        inside: ("umask", "0022\n"),
    },
    Oddity {
        name: "blocked",
        wrapper: &["env", "--block-signal=TERM,USR1,CHLD"],
        seen: ("status", "SigBlk:\t0000000000014200\n"),
        field: Field::SignalsBlocked,
        inside: (
            "grep SigBlk /proc/self/status | tr -d '\\t'",
            "SigBlk:0000000000000000\n",
        ),
    },
    Oddity {
        name: "ignored",
        // SIGPIPE the runtime of Rust ignores by itself.
        wrapper: &[
            "env",
            "--default-signal=INT,QUIT",
            "--ignore-signal=TERM,HUP",
        ],
        seen: ("status", "5001\nSigCgt:"),
        field: Field::SignalsIgnored,
        inside: (
            "grep SigIgn /proc/self/status | tr -d '\\t'",
            "SigIgn:0000000000000000\n",
        ),
    },
    Oddity {
        name: "memory-policy",
        wrapper: MEMORY_POLICY,
        seen: ("numa_maps", " local "),
        field: Field::MemoryPolicy,
        inside: ("true", ""),
    },
    Oddity {
        name: "groups",
        wrapper: &["setpriv", "--groups", "0,4,6,1234"],
        seen: ("status", "Groups:\t0 4 6 1234 \n"),
        field: Field::Groups,
        inside: ("id -G", "0\n"),
    },
    Oddity {
        name: "ambient",
        wrapper: &[
            "setpriv",
            "--inh-caps",
            "+net_raw",
            "--ambient-caps",
            "+net_raw",
        ],
        seen: ("status", "CapAmb:\t0000000000002000\n"),
        field: Field::Ambient,
        inside: (
            "grep CapAmb /proc/self/status | tr -d '\\t'",
            "CapAmb:0000000000000000\n",
        ),
    },
    Oddity {
        name: "securebits",
        wrapper: &["setpriv", "--securebits", "+no_setuid_fixup"],
        seen: ("securebits", "Ok(4)"),
        field: Field::Securebits,
        inside: ("true", ""),
    },
];

const LEAST_KILLABLE: Oddity = Oddity {
    name: "spared",
    wrapper: &["choom", "-n", "-1000", "--"],
    seen: ("oom_score_adj", "-1000\n"),
    field: Field::OomScoreAdjustment,
    inside: ("cat /proc/self/oom_score_adj", "500\n"),
};

pub(crate) fn each_alone() -> Outcome {
    for oddity in ODDITIES {
        played(part(oddity.name, oddity.wrapper));
    }
    println!(
        "{REPORT}{} odd states of a caller, one by one",
        ODDITIES.len()
    );
    Outcome::Passed
}

pub(crate) fn all_at_once() -> Outcome {
    let names: Vec<&str> = ODDITIES.iter().map(|oddity| oddity.name).collect();
    // Those that take a command line of others as it is; what a shell or env
    // does comes last, so that no wrapper undoes it.
    let wrapper: Vec<&str> = ODDITIES
        .iter()
        .flat_map(|oddity| oddity.wrapper)
        .copied()
        .collect();
    played(part(&names.join(" "), &wrapper));
    Outcome::Passed
}

/// The least killable caller. This state is for root of a whole machine, which a
/// guest has.
pub(crate) fn least_killable() -> Outcome {
    let mut asked = Command::new("choom");
    asked.args(["-n", "-1000", "--", "true"]);
    match asked.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        _ => {
            return Outcome::Skipped(
                "root of this machine may not be spared by the OOM killer".to_owned(),
            );
        }
    }
    played(part(LEAST_KILLABLE.name, LEAST_KILLABLE.wrapper));
    Outcome::Passed
}

/// In a process of that state: sees it, launches both ways, and shows that it
/// would be inherited.
pub(crate) fn play(names: &str) {
    let mut all = Vec::new();
    for name in names.split(' ') {
        let mut known = ODDITIES.iter().chain([&LEAST_KILLABLE]);
        let oddity = known.find(|oddity| oddity.name == name).unwrap();
        let (file, text) = oddity.seen;
        let own = match file {
            "securebits" => format!("{:?}", host::ask_prctl(PrctlQuestion::Securebits)),
            "ionice" => {
                let pid = std::process::id().to_string();
                let asked = Command::new("ionice").args(["-p", &pid]).output().unwrap();
                String::from_utf8(asked.stdout).unwrap()
            }
            file => std::fs::read_to_string(format!("/proc/self/{file}")).unwrap(),
        };
        assert!(own.contains(text), "the caller is not odd: {name}: {own}");
        all.push(oddity);
    }
    for directly in [false, true] {
        for oddity in &all {
            let spec = spec("odd", &["/usr/bin/true"]);
            let held = hold(plan(&spec, Vec::new()).unwrap(), directly).unwrap();
            drop(held);
            noticed(oddity, directly);
        }
    }
    for oddity in &all {
        let (script, wanted) = oddity.inside;
        let (text, status) = said("inside", script).unwrap();
        assert_eq!(
            (text.as_str(), status.code()),
            (wanted, Some(0)),
            "{}",
            oddity.name
        );
    }
}

fn hold(plan: Plan, directly: bool) -> Result<cloison_sandbox::Held, Error> {
    if directly {
        plan.hold_directly()
    } else {
        plan.hold()
    }
}

/// The control: without the step that sets it back, the child has it.
fn noticed(oddity: &Oddity, directly: bool) {
    // Whoever joins a user namespace gets these anew from the kernel, so no
    // control can show them; the fields are shown alive by
    // `broken_field_is_noticed`.
    if [Field::Ambient, Field::Securebits].contains(&oddity.field) {
        return;
    }
    // The spawner sets these back itself.
    let by_the_spawner = [Field::SignalsBlocked, Field::SignalsIgnored];
    if !directly && by_the_spawner.contains(&oddity.field) {
        return;
    }
    let spec = spec("control", &["/usr/bin/true"]);
    let broken = vec![Weakening::Broken(oddity.field.layer())];
    match hold(plan(&spec, broken).unwrap(), directly) {
        Err(Error::PostureDiffers(differences)) => {
            let told = differences
                .iter()
                .any(|difference| difference.expected.field() == oddity.field);
            assert!(
                told,
                "{}, directly {directly}: {differences:?}",
                oddity.name
            );
        }
        // No directory that a launch makes can be entered with that umask.
        Err(Error::Step {
            errno: Errno::EACCES,
            ..
        }) if oddity.field == Field::Umask => {}
        other => panic!("{}: the control is silent: {other:?}", oddity.name),
    }
}
