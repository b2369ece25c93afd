//! Wrong input: one error, with its place, and nothing made.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cloison_tests::Outcome;

use super::ground::{cloison, end, run, state};

const FILE: &str = "/tmp/wrong.toml";
/// A state that stays unmade.
const STATE: &str = "/tmp/none";
/// What a file needs to be right.
const RIGHT: &str = "name = \"a\"\ncommand = [\"/bin/true\"]\n";

/// Each wrong file: what follows the right lines, and what the error says.
const WRONG: &[(&str, &[&str])] = &[
    (
        "comand = []\n",
        &[
            "unknown field `comand`",
            "did you mean `command`?",
            "wrong.toml:3:1",
        ],
    ),
    ("name = \"b\"\n", &["duplicate key", "wrong.toml:3:1"]),
    (
        "user = \"root\"\n",
        &["invalid type: string", "wrong.toml:3:8"],
    ),
    (
        "user = 65536\n",
        &["invalid value: integer `65536`", "wrong.toml:3:8"],
    ),
    ("user = 99999999999999999999999\n", &["wrong.toml:3:8"]),
    (
        "user = -1\n",
        &["invalid value: integer `-1`", "wrong.toml:3:8"],
    ),
    (
        "ids = 7\n",
        &["7 is not a multiple of 65536", "wrong.toml:3:7"],
    ),
    (
        "profile = \"vm\"\n",
        &["unknown variant `vm`", "wrong.toml:3:11"],
    ),
    ("user = \n", &["wrong.toml:3:8"]),
    (
        "[limits]\nopen_files = 5\n",
        &["did you mean `open_files_max`?", "wrong.toml:4:1"],
    ),
    (
        "[limits]\nopen_files_max = 5\n",
        &["it may be 256 to 1048576", "wrong.toml:4:18"],
    ),
    (
        "[environment]\n\"A=B\" = \"x\"\n",
        &["which is empty or holds a `=`", "wrong.toml:4:9"],
    ),
    (
        "[environment]\nA = \"a\\u0000b\"\n",
        &["may not hold a NUL byte", "wrong.toml:4:5"],
    ),
    (
        "working_directory = \"tmp\"\n",
        &["which is not an absolute path", "wrong.toml:3:21"],
    ),
    (
        "capabilities = [\"CAP_SYS_RESOURCE\"]\n",
        &["CAP_SYS_RESOURCE", "wrong.toml:3:16"],
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a/../b\"\n",
        &["without `.` and `..`", "wrong.toml:5:10"],
    ),
    (
        "[[mounts]]\nsource = \"/usr\"\ntarget = \"/a\"\n\
         [[mounts]]\nsource = \"/usr\"\ntarget = \"/proc\"\n",
        &["/proc", "a mount of its own", "wrong.toml:8:10"],
    ),
    (
        "[[mounts]]\nsource = \"/nosuch\"\ntarget = \"/a\"\n",
        &["/nosuch: No such file", "wrong.toml:4:10"],
    ),
    (
        "[root.directory]\npath = \"/nosuch\"\n",
        &["/nosuch: No such file", "wrong.toml:4:8"],
    ),
    (
        "[environment]\nLISTEN_FDS = \"7\"\n",
        &["LISTEN_FDS", "the launch itself sets", "wrong.toml:4:14"],
    ),
];

pub(crate) fn files() -> Outcome {
    for (line, fragments) in WRONG {
        fs::write(FILE, format!("{RIGHT}{line}")).unwrap();
        let ended = end(run(&["--state", STATE, FILE]));
        ended.wants(125, fragments);
        assert_eq!(ended.err.matches(",-[").count(), 1, "{line}: {}", ended.err);
        assert!(!ended.err.contains('\x1b'), "{}", ended.err);
    }
    for (bytes, fragments) in [
        (&b"name = \"a\"\n"[..], &["missing field `command`"][..]),
        (
            b"name = \"A\"\ncommand = []\n",
            &["a name has 1 to 48", "wrong.toml:1:8"],
        ),
        (
            b"name = \"a\"\ncommand = []\n",
            &["`command` is empty", "wrong.toml:2:11"],
        ),
        (
            b"name = \"a\"\ncommand = [\"a/b\"]\n",
            &["not an absolute path", "wrong.toml:2:12"],
        ),
        (
            b"name = \"a\"\nx = \"\xff\"\n",
            &["not text in UTF-8", "wrong.toml:2:6"],
        ),
        (b"name = \"a\"\0\n", &["wrong.toml:1:"]),
        (b"", &["missing field `name`"]),
    ] {
        fs::write(FILE, bytes).unwrap();
        end(run(&["--state", STATE, FILE])).wants(125, fragments);
    }
    fs::write(FILE, " ".repeat((1 << 20) + 1)).unwrap();
    end(run(&["--state", STATE, FILE])).wants(125, &["larger than 1 MiB"]);
    fs::remove_file(FILE).unwrap();
    end(run(&["--state", STATE, FILE])).wants(125, &["reading /tmp/wrong.toml", "No such file"]);
    assert_eq!(state(), [""; 0]);
    assert!(!Path::new(STATE).exists(), "something was made");
    Outcome::Passed
}

pub(crate) fn host_files() -> Outcome {
    for (text, fragments) in [
        ("[wave]\n", &["did you mean `waive`?", "wrong.toml:1:2"][..]),
        (
            "[waive]\nseccomp = \"x\"\n",
            &["the layer seccomp cannot be waived", "wrong.toml:2:1"],
        ),
        (
            "[waive]\nlandlock-scop = \"x\"\n",
            &["did you mean `landlock-scope`?", "wrong.toml:2:1"],
        ),
        (
            "[waive]\nlandlock-scope = \"\"\n",
            &["a waiver needs a reason", "wrong.toml:2:18"],
        ),
        ("[waive]\nlandlock-scope = true\n", &["wrong.toml:2:18"]),
    ] {
        fs::write(FILE, text).unwrap();
        end(cloison(&["run", "--host", FILE, "true"])).wants(125, fragments);
        end(cloison(&["check", "--host", FILE])).wants(125, fragments);
    }
    fs::remove_file(FILE).unwrap();
    end(cloison(&["check", "--host", FILE])).wants(125, &["reading /tmp/wrong.toml"]);
    Outcome::Passed
}

pub(crate) fn arguments() -> Outcome {
    for (words, fragment) in [
        (&["run"][..], "no command is given"),
        (&["run", "--nmae", "x", "true"], "--name"),
        (&["run", "--name", "X", "true"], "a name has 1 to 48"),
        (&["run", "--env", "A", "true"], "a variable is given as K=V"),
        (
            &["run", "--listen", "localhost:80", "true"],
            "ADDR is ADDRESS:PORT",
        ),
        (
            &["run", "--listen", "192.0.2.1:80", "true"],
            "listening on 192.0.2.1:80 failed",
        ),
        (&["inspect"], "PID|NAME"),
        (&["inspect", "0"], "a process id is a number"),
        (&["inspect", "A"], "a name has 1 to 48"),
        (&["completions", "dos"], "possible values"),
        (&["man", "/nosuch"], "writing man pages into /nosuch"),
        (&["rnu"], "unrecognized subcommand"),
        (&[], "Usage"),
    ] {
        let ended = end(cloison(words));
        assert!(
            ended.code.is_some_and(|code| code != 0),
            "{words:?}: {ended:?}"
        );
        ended.wants(125, &[fragment]);
        assert_eq!(ended.out, "", "{words:?}");
    }
    assert_eq!(state(), [""; 0]);
    let mut odd = run(&["--"]);
    odd.arg("true").arg(OsStr::from_bytes(b"a\xff"));
    end(odd).wants(125, &["the argument 6, `a", "is not text in UTF-8"]);
    Outcome::Passed
}

pub(crate) fn escaped() -> Outcome {
    let ended = end(run(&["/bin/\x1b[2Jx\u{202e}"]));
    ended.wants(127, &["/bin/\\u{1b}[2Jx\\u{202e} is not in the root"]);
    fs::write(FILE, "name = \"a\" \x1b[2J\nx\n").unwrap();
    let ended = end(run(&[FILE]));
    ended.wants(125, &["wrong.toml:1:"]);
    assert!(!ended.err.contains('\x1b'), "{ended:?}");
    fs::remove_file(FILE).unwrap();
    Outcome::Passed
}
