//! Exit codes and signals.

use cloison_tests::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::ground::{Running, end, run, state};

pub(crate) fn of_the_command() -> Outcome {
    for code in [0, 3, 255] {
        let script = format!("exit {code}");
        end(run(&["sh", "-c", &script])).wants(code, &[]);
    }
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn by_signal() -> Outcome {
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let script = format!("kill -{name} $$");
        end(run(&["sh", "-c", &script])).wants(128 + number, &[]);
    }
    Outcome::Passed
}

pub(crate) fn ours() -> Outcome {
    // A limit above the caller's own, which this stage may not raise.
    let file = "/tmp/limits.toml";
    let text = "name = \"a\"\ncommand = [\"/bin/true\"]\n\
                [limits]\nprocesses_max = 4194304\n";
    std::fs::write(file, text).unwrap();
    end(run(&[file])).wants(125, &["rlimits: setting `limits.processes_max`"]);
    // Found out inside only, and not the command's own failure.
    let text = "name = \"a\"\ncommand = [\"/bin/true\"]\nworking_directory = \"/nosuch\"\n";
    std::fs::write(file, text).unwrap();
    end(run(&[file])).wants(125, &["entering the working directory: ENOENT"]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn not_found() -> Outcome {
    end(run(&["nosuch"])).wants(127, &["`nosuch` is not found in /usr/local/sbin:"]);
    end(run(&["/bin/nosuch"])).wants(127, &["/bin/nosuch is not in the root"]);
    // Not in what the sandbox gets of the host.
    end(run(&["/etc/passwd"])).wants(127, &["/etc/passwd is not in the root"]);
    // Not seen before: the init says so.
    end(run(&["/tmp/nosuch"])).wants(127, &["or what interprets it, is not there"]);
    Outcome::Passed
}

pub(crate) fn not_executable() -> Outcome {
    end(run(&["/usr/bin"])).wants(126, &["/usr/bin cannot be executed: it is a directory"]);
    end(run(&["/usr/lib/os-release"])).wants(126, &["its mode lets nobody execute it"]);
    Outcome::Passed
}

pub(crate) fn signals() -> Outcome {
    for (signal, code) in [
        (Signal::SIGINT, 41),
        (Signal::SIGTERM, 42),
        (Signal::SIGHUP, 43),
        (Signal::SIGQUIT, 44),
        (Signal::SIGUSR1, 45),
        (Signal::SIGUSR2, 46),
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.02; done");
        let mut running = Running::start(&mut run(&["sh", "-c", &script]));
        assert_eq!(running.line(), "ready\n");
        running.signal(signal);
        running.end().wants(code, &[]);
    }
    Outcome::Passed
}

pub(crate) fn lookup() -> Outcome {
    let root = "/tmp/root";
    for name in ["proc", "dev", "tmp", "run", "usr/bin", "bin", "opt"] {
        std::fs::create_dir_all(format!("{root}/{name}")).unwrap();
    }
    // A link that leads out of the root for whoever follows it from outside.
    std::os::unix::fs::symlink("/bin/true", format!("{root}/usr/bin/true")).unwrap();
    end(run(&["--root", root, "true"])).wants(127, &["`true` is not found"]);
    std::fs::copy("/bin/true", format!("{root}/bin/true")).unwrap();
    // Found by its link inside, and the dynamic loader is not there.
    end(run(&["--root", root, "true"])).wants(127, &[]);
    end(run(&["--root", root, "/opt/x"])).wants(127, &["/opt/x is not in the root"]);
    end(run(&["--root", "/nosuch", "true"])).wants(125, &["the root /nosuch cannot be opened"]);
    std::fs::remove_dir(format!("{root}/run")).unwrap();
    end(run(&["--root", root, "true"])).wants(125, &["nothing to mount on at `run`"]);
    std::fs::remove_dir_all(root).unwrap();
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

pub(crate) fn json() -> Outcome {
    let last = |text: &str| -> Value {
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_default()
    };
    let ended = end(run(&["--json", "--name", "told", "sh", "-c", "exit 3"]));
    ended.wants(3, &[]);
    let told = last(&ended.err);
    assert_eq!(
        (&told["name"], &told["exit_code"]),
        (&"told".into(), &3.into())
    );
    assert!(
        told["pid"].as_i64() > Some(1) && told["waived"].is_array(),
        "{told}"
    );
    let ended = end(run(&["--json", "nosuch"]));
    ended.wants(127, &[]);
    let told = last(&ended.err);
    assert_eq!(told["exit_code"], 127);
    assert!(
        told["error"]
            .as_str()
            .is_some_and(|text| text.contains("nosuch")),
        "{told}"
    );
    assert!(told["remedy"].is_string(), "{told}");
    Outcome::Passed
}
