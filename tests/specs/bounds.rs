//! Numbers at the ends of what they may be, and beyond.

use cloison_sandbox::{
    Error, ExitStatus, IdRange, Io, Kernel, Layer, Mount, Plan, Prepared, Refused, Sandbox, Spec,
    Waivers,
};
use cloison_tests::Outcome;
use nix::sys::resource::{Resource, getrlimit};

/// The first range of the default pool.
const IDS: u32 = 1_879_048_192;

pub(crate) fn spec(command: &[&str]) -> Spec {
    serde_json::from_value(serde_json::json!({ "name": "bound", "command": command, "ids": IDS }))
        .unwrap()
}

pub(crate) fn waivers() -> Waivers {
    let mut waivers = Waivers::none();
    for layer in [Layer::CoreScheduling, Layer::SpeculationControl] {
        waivers
            .waive(layer, "the tests say what this host lacks")
            .unwrap();
    }
    waivers
}

/// Launches it, whatever it is.
pub(crate) fn launch(spec: &Spec, kernel: &Kernel) -> Result<Sandbox, Error> {
    Plan::new(spec, kernel, &waivers(), Prepared::new(spec)?, Io::null()?)?
        .hold()?
        .start()
}

type Set = fn(&mut Spec, u64);

const NUMBERS: &[(&str, Set, u64, u64)] = &[
    (
        "tmpfs.tmp_bytes_max",
        |s, n| s.tmpfs.tmp_bytes_max = n,
        4096,
        1 << 44,
    ),
    (
        "tmpfs.run_bytes_max",
        |s, n| s.tmpfs.run_bytes_max = n,
        4096,
        1 << 44,
    ),
    (
        "tmpfs.shm_bytes_max",
        |s, n| s.tmpfs.shm_bytes_max = n,
        4096,
        1 << 44,
    ),
    ("tmpfs.files_max", |s, n| s.tmpfs.files_max = n, 16, 1 << 32),
    (
        "limits.open_files_max",
        |s, n| s.limits.open_files_max = n,
        256,
        1 << 20,
    ),
    (
        "limits.processes_max",
        |s, n| s.limits.processes_max = n,
        3,
        1 << 22,
    ),
    (
        "limits.core_bytes_max",
        |s, n| s.limits.core_bytes_max = n,
        0,
        i64::MAX as u64,
    ),
    (
        "limits.locked_bytes_max",
        |s, n| s.limits.locked_bytes_max = n,
        0,
        i64::MAX as u64,
    ),
    (
        "limits.pending_signals_max",
        |s, n| s.limits.pending_signals_max = n,
        0,
        i64::MAX as u64,
    ),
    (
        "limits.message_queue_bytes_max",
        |s, n| s.limits.message_queue_bytes_max = n,
        0,
        i64::MAX as u64,
    ),
    (
        "limits.inotify_instances_max",
        |s, n| s.limits.inotify_instances_max = n,
        0,
        i32::MAX as u64,
    ),
    (
        "limits.inotify_watches_max",
        |s, n| s.limits.inotify_watches_max = n,
        0,
        i32::MAX as u64,
    ),
    (
        "cgroup.memory_bytes_max",
        |s, n| s.cgroup.memory_bytes_max = n,
        16 << 20,
        1 << 50,
    ),
    (
        "cgroup.swap_bytes_max",
        |s, n| s.cgroup.swap_bytes_max = n,
        0,
        1 << 50,
    ),
    (
        "cgroup.tasks_max",
        |s, n| s.cgroup.tasks_max = n,
        3,
        1 << 22,
    ),
    (
        "cgroup.cpu_weight",
        |s, n| s.cgroup.cpu_weight = n,
        1,
        10_000,
    ),
    (
        "cgroup.cpu_percent_max",
        |s, n| s.cgroup.cpu_percent_max = n,
        1,
        1_000_000,
    ),
    (
        "limits.terminals_max",
        |s, n| s.limits.terminals_max = n.try_into().unwrap(),
        0,
        (1 << 20) - 1,
    ),
];

pub(crate) fn at() -> Outcome {
    let kernel = Kernel::probe().unwrap();
    let runs = |spec: &Spec, what: &str| {
        let mut sandbox = launch(spec, &kernel).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let status = sandbox.wait().unwrap();
        sandbox.remove().unwrap();
        assert_eq!(status, ExitStatus::Exited(0), "{what}");
    };
    for (name, set, least, most) in NUMBERS {
        for value in [*least, *most] {
            let mut spec = spec(&["/usr/bin/true"]);
            // Without CAP_SYS_RESOURCE the caller's own is the bound.
            let value = value.min(own(name));
            set(&mut spec, value);
            runs(&spec, &format!("{name} = {value}"));
        }
    }
    for ids in [65_536, 0xfffe_0000] {
        for id in [0, u16::MAX] {
            let mut spec = spec(&["/usr/bin/true"]);
            spec.ids = Some(IdRange::new(ids).unwrap());
            (spec.user, spec.group) = (id, id);
            runs(&spec, &format!("ids {ids}, user {id}"));
        }
    }
    let mut spec = spec(&["/usr/bin/true"]);
    spec.tcp.bind = (0..=u16::MAX).collect();
    spec.tcp.bind.retain(|port| *port != 2000);
    runs(&spec, "every port but one");
    spec.tcp.bind.push(2000);
    assert_eq!(spec.check(), Err(Refused::EveryPort));
    spec.tcp.bind.clear();
    // As many mounts as can be, each as deep as can be, and all the text.
    let deep = |number: usize| Mount {
        source: "/usr".into(),
        target: format!("/m{number}{}", "/d".repeat(31)).into(),
        access: cloison_sandbox::Access::ReadOnly,
    };
    spec.mounts = (0..64).map(deep).collect();
    let room = match fill(&mut spec, 200_000) {
        Err(Refused::TooLarge { bytes, bytes_max }) => 200_000 - (bytes - bytes_max),
        other => panic!("{other:?}"),
    };
    assert_eq!(fill(&mut spec, room), Ok(()));
    runs(&spec, "all the text and 64 mounts");
    assert!(fill(&mut spec, room + 1).is_err());
    Outcome::Passed
}

/// The hard limit of this process that a setting cannot be above.
fn own(name: &str) -> u64 {
    let resource = match name {
        "limits.open_files_max" => Resource::RLIMIT_NOFILE,
        "limits.processes_max" => Resource::RLIMIT_NPROC,
        "limits.core_bytes_max" => Resource::RLIMIT_CORE,
        "limits.locked_bytes_max" => Resource::RLIMIT_MEMLOCK,
        "limits.pending_signals_max" => Resource::RLIMIT_SIGPENDING,
        "limits.message_queue_bytes_max" => Resource::RLIMIT_MSGQUEUE,
        // No more than the cgroup above has, in version 1: the stage's.
        "cgroup.cpu_percent_max" => return 100,
        _ => return u64::MAX,
    };
    getrlimit(resource).unwrap().1
}

/// Gives it one argument of that many bytes.
fn fill(spec: &mut Spec, bytes: usize) -> Result<(), Refused> {
    spec.command.truncate(1);
    spec.command.push("x".repeat(bytes));
    spec.check()
}

pub(crate) fn beyond() -> Outcome {
    for (name, set, least, most) in NUMBERS {
        let beyond = [least.checked_sub(1), Some(most + 1), Some(u64::MAX)];
        for value in beyond.into_iter().flatten() {
            if *name == "limits.terminals_max" && u32::try_from(value).is_err() {
                continue;
            }
            let mut spec = spec(&["/usr/bin/true"]);
            set(&mut spec, value);
            match spec.check() {
                Err(Refused::OutOfBounds {
                    field, value: told, ..
                }) => {
                    assert_eq!((field, told), (*name, value));
                }
                other => panic!("{name} = {value}: {other:?}"),
            }
        }
    }
    Outcome::Passed
}

/// The least and the most that a spec may ask for are bounds for the kernel.
pub(crate) fn tmpfs_is_bounded() -> Outcome {
    let kernel = Kernel::probe().unwrap();
    const PAGE: u64 = 4096;
    for (bytes, files) in [(PAGE, 16), (PAGE + 1, 17), ((1 << 44) - 2 * PAGE, 1 << 32)] {
        // Each its own, so that none has another's.
        let sizes = [bytes, bytes + PAGE, bytes + 2 * PAGE];
        let [tmp, run, shm] = sizes.map(|size| format!("{}:{files}", size.div_ceil(PAGE)));
        let script = format!(
            "stat -f -c %b:%c /tmp /run /dev/shm | tr '\\n' ' ' | grep -qx '{tmp} {run} {shm} '"
        );
        let mut spec = spec(&["/usr/bin/sh", "-c", &script]);
        let tmpfs = &mut spec.tmpfs;
        (
            tmpfs.tmp_bytes_max,
            tmpfs.run_bytes_max,
            tmpfs.shm_bytes_max,
        ) = (sizes[0], sizes[1], sizes[2]);
        tmpfs.files_max = files;
        let mut sandbox = launch(&spec, &kernel).unwrap();
        let status = sandbox.wait().unwrap();
        sandbox.remove().unwrap();
        assert_eq!(status, ExitStatus::Exited(0), "{script}");
    }
    // The control: what the kernel makes of the sizes that are refused.
    for size in ["0", "18446744073709551615"] {
        let script =
            format!("mount -t tmpfs -o size={size},nr_inodes=0 t /tmp && stat -f -c '%b %c' /tmp");
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(shown, "0 0", "size={size} is a bound: {output:?}");
    }
    Outcome::Passed
}
