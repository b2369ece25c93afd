//! Each hostile spec is refused with one error, or launches as it says.

use std::fs;
use std::path::Path;

use cloison_sandbox::{Refused, Spec, Waivers};
use cloison_tests::{Outcome, REPORT, Snapshot};

use crate::ground::{self, Ended, cloison, end};
use crate::table::{AFTER, HOST, JSON, RIGHT, WHOLE};

const FILE: &str = "/tmp/hostile.toml";
/// A state that stays unmade.
const STATE: &str = "/tmp/none";

/// Runs the launcher on a file of these bytes; whatever it says, nothing may
/// have been made.
fn refused(bytes: &[u8]) -> Ended {
    fs::write(FILE, bytes).unwrap();
    let before = Snapshot::of_stage();
    let mut command = ground::run(&["--state", STATE]);
    command.arg(FILE).current_dir("/");
    let ended = end(command);
    let differences = Snapshot::settled(Snapshot::of_stage, &before);
    let shown = String::from_utf8_lossy(bytes);
    assert!(differences.is_empty(), "{shown:.300}: {differences:?}");
    assert_eq!(ended.code, Some(125), "{shown:.300}: {ended:?}");
    assert!(!ended.err.contains("panicked"), "{shown:.300}: {ended:?}");
    let odd = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
    assert!(!ended.err.contains(odd), "{shown:.300}: {ended:?}");
    assert_eq!(ended.out, "", "{shown:.300}");
    ended
}

fn wants(bytes: &[u8], says: &str, place: &str) {
    let ended = refused(bytes);
    let shown = String::from_utf8_lossy(bytes);
    assert!(
        ended.err.contains(says),
        "{says} of {shown:.300}: {ended:?}"
    );
    if place.is_empty() {
        return;
    }
    let place = format!("hostile.toml:{place}");
    assert!(
        ended.err.contains(&place),
        "{place} of {shown:.300}: {ended:?}"
    );
    let places = ended.err.matches(",-[").count();
    assert_eq!(places, 1, "{shown:.300}: {ended:?}");
}

/// Whether the spec could be told wrong without trying to launch it.
fn is_tried(says: &str) -> bool {
    [
        "must be there in the root",
        "writing cpuset.cpus",
        "Block device required",
    ]
    .iter()
    .any(|tried| says.contains(tried))
}

pub(crate) fn hostile_toml() -> Outcome {
    for (line, says, place) in AFTER {
        wants(format!("{RIGHT}{line}").as_bytes(), says, place);
        if !is_tried(says) {
            assert!(!Path::new(STATE).exists(), "{line}: the state was made");
        } else {
            // A launch that failed late took everything back.
            fs::remove_dir_all(STATE).unwrap();
        }
    }
    for (bytes, says, place) in WHOLE {
        wants(bytes, says, place);
    }
    for (text, says) in large() {
        wants(text.as_bytes(), says, "");
    }
    assert!(!Path::new(STATE).exists(), "the state was made");
    fs::remove_file(FILE).unwrap();
    println!(
        "{REPORT}{} files",
        AFTER.len() + WHOLE.len() + large().len()
    );
    Outcome::Passed
}

/// What is too large, too many or too deep.
fn large() -> Vec<(String, &'static str)> {
    let many = "\"x\", ".repeat(100_000);
    let long = "x".repeat(200_000);
    let mounts = |count: usize| {
        let mount = |number| format!("[[mounts]]\nsource = \"/usr\"\ntarget = \"/m{number}\"\n");
        (0..count).map(mount).collect::<String>()
    };
    let target =
        |target: &str| format!("{RIGHT}[[mounts]]\nsource = \"/usr\"\ntarget = \"{target}\"\n");
    vec![
        (
            format!("name = \"a\"\ncommand = [\"/bin/true\", {many}]\n"),
            "bytes together: at most",
        ),
        (
            format!("name = \"a\"\ncommand = [\"/bin/true\", \"{long}\"]\n"),
            "bytes together: at most",
        ),
        (
            format!("{RIGHT}[environment]\nA = \"{long}\"\n"),
            "bytes together: at most",
        ),
        (format!("{RIGHT}{}", mounts(65)), "65 entries: at most 64"),
        (target(&"/a".repeat(33)), "without `.` and `..`"),
        (
            target(&format!("/{}", "a".repeat(256))),
            "without `.` and `..`",
        ),
        (format!("{RIGHT}x = {}", "[".repeat(200_000)), ""),
        (format!("{RIGHT}x = {}", "{a=".repeat(200_000)), ""),
        (format!("{RIGHT}[{}a]\n", "a.".repeat(200_000)), ""),
        (
            format!("{RIGHT}{}", "[[a]]\n".repeat(100_000)),
            "unknown field `a`",
        ),
        (" ".repeat((1 << 20) + 1), "larger than 1 MiB"),
        (
            format!("{RIGHT}#{}", "\u{202e}".repeat(400_000)),
            "larger than 1 MiB",
        ),
    ]
}

pub(crate) fn hostile_host() -> Outcome {
    let file = "/tmp/host.toml";
    for (bytes, says) in HOST {
        fs::write(file, bytes).unwrap();
        for words in [
            &["run", "--state", STATE, "--host", file, "true"][..],
            &["check", "--host", file],
        ] {
            let ended = end(cloison(words));
            assert_eq!(ended.code, Some(125), "{says}: {ended:?}");
            assert!(ended.err.contains(says), "{says}: {ended:?}");
            assert!(!ended.err.contains('\x1b'), "{ended:?}");
            assert_eq!(ended.out, "");
        }
    }
    fs::remove_file(file).unwrap();
    assert!(!Path::new(STATE).exists(), "the state was made");
    let twice =
        serde_json::from_str::<Waivers>("{\"landlock-scope\":\"a\",\"landlock-scope\":\"b\"}");
    let error = twice.unwrap_err().to_string();
    assert!(error.contains("duplicate key"), "{error}");
    Outcome::Passed
}

pub(crate) fn hostile_json() -> Outcome {
    let head = "\"name\":\"a\",\"command\":[\"/bin/true\"]";
    let right: Spec = serde_json::from_str(&format!("{{{head}}}")).unwrap();
    assert_eq!(right.check(), Ok(()));
    for (rest, says) in JSON {
        let head = if rest.starts_with("\"command\"") {
            "\"name\":\"a\""
        } else {
            head
        };
        let error = serde_json::from_str::<Spec>(&format!("{{{head},{rest}}}")).unwrap_err();
        assert!(error.to_string().contains(says), "{rest}: {error}");
        assert!(error.line() == 1 && error.column() > 0, "{rest}: {error}");
    }
    let deep = format!("{{{head},\"x\":{}", "[".repeat(1_000_000));
    assert!(serde_json::from_str::<Spec>(&deep).is_err());
    let mut many = right;
    many.command.extend((0..100_000).map(|_| "x".to_owned()));
    assert!(matches!(many.check(), Err(Refused::TooLarge { .. })));
    Outcome::Passed
}

/// Odd text that means nothing to anybody but itself: a separator in it makes
/// no second setting.
pub(crate) fn odd_but_valid() -> Outcome {
    let odd = "/tmp/a,rw:suid\n=x \\040#\u{202e}\t'\"";
    fs::create_dir(odd).unwrap();
    fs::write(format!("{odd}/f"), "inside\n").unwrap();
    let script = "cat \"$1/f\" && touch \"$1/g\" 2>/dev/null && echo writable; \
                  grep -c ' /m/a.* rw[ ,]' /proc/self/mountinfo; printf '%s|' \"$K,x\" \"$2\"; env | wc -l";
    let target = format!("/m{}", odd.strip_prefix("/tmp").unwrap());
    // A string of JSON is one of TOML.
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let text = format!(
        "name = \"odd\"\ncommand = [\"/bin/sh\", \"-c\", {}, \"sh\", {}, {}]\n\
         [environment]\nPATH = \"/usr/bin:/bin\"\nK = {}\n\"K,x\" = \"1\"\n\
         [[mounts]]\nsource = {}\ntarget = {}\n",
        quoted(script),
        quoted(&target),
        quoted("a\u{1}b,\r\n=\u{202e}"),
        quoted("v\nLD_PRELOAD=/x"),
        quoted(odd),
        quoted(&target),
    );
    for line_end in ["\n", "\r\n"] {
        // A byte order mark, and both ends of lines.
        let text = text.replace('\n', line_end);
        fs::write(FILE, format!("\u{feff}{text}")).unwrap();
        let mut command = ground::run(&["--state", "/tmp/state"]);
        command.arg(FILE);
        let ended = end(command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let wanted = "inside\n0\nv\nLD_PRELOAD=/x,x|a\u{1}b,\r\n=\u{202e}|";
        assert!(ended.out.starts_with(wanted), "{ended:?}");
        assert!(!ended.out.contains("writable"), "{ended:?}");
    }
    fs::remove_dir_all(odd).unwrap();
    Outcome::Passed
}
