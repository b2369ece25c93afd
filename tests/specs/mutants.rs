//! Files of settings, changed at random: the seed is fixed, so that a failure
//! comes again.

use std::time::{Duration, Instant};

use cloison_sandbox::{IdRange, Kernel, Root, Spec};
use cloison_tests::launcher::sample;
use cloison_tests::{Outcome, REPORT, Snapshot, quick};

use crate::bounds::launch;
use crate::ground::{self, end};
use crate::table::{AFTER, RIGHT};

/// Far more than any may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A sequence of numbers that is the same everywhere.
struct Dice(u64);

impl Dice {
    /// xorshift64*.
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let rolled = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(rolled).unwrap() % below.max(1)
    }
}

/// Tokens that mean something to a parser, a kernel or a terminal.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\\u0000",
    b"..",
    b"/",
    b"//",
    b"/../",
    b",",
    b":",
    b"=",
    b"\n",
    b"\r\n",
    b"\"",
    b"'''",
    b"[",
    b"]",
    b"[[",
    b"{",
    b"}",
    b"#",
    b"-",
    b"0",
    b"-1",
    b"65536",
    b"1e99",
    b"nan",
    b"18446744073709551615",
    b"9223372036854775807",
    b"0x7fffffff",
    b"\xff",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"%n",
    b"$(id)",
    b"/proc/self",
    b"/tmp",
    b"true",
    b"\\",
    b".",
    b"user = 0\n",
    b"[limits]\n",
    b"[[mounts]]\n",
    b"target = \"/a\"\n",
    b"source = \"/usr\"\n",
];

/// One to four changes of `text`.
fn mutated(text: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let most = 1 + dice.roll(4);
    for _ in 0..=dice.roll(most) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + 1 + dice.roll(12)).min(bytes.len());
        match dice.roll(6) {
            0 => {
                bytes.drain(at..end.max(at));
            }
            1 => {
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = dice.roll(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(dice.roll(256)).unwrap();
                }
            }
            3 => bytes.truncate(at),
            _ => {
                let token = TOKENS[dice.roll(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    bytes
}

/// One that sets most of what can be set.
const FULL: &str = r#"name = "full"
command = ["/usr/bin/true", "a", "b"]
ids = 1879048192
user = 1000
group = 1000
working_directory = "/tmp"
init = "off"
sysfs = "read-only"
capabilities = ["CAP_CHOWN"]
[environment]
A = "b"
PATH = "/usr/bin"
[tcp]
bind = [80, 443]
connect = [53]
[[mounts]]
source = "/usr"
target = "/data/usr"
[[mounts]]
source = "/etc/passwd"
target = "/etc/passwd"
access = "read-only"
[tmpfs]
tmp_bytes_max = 65536
files_max = 64
[limits]
open_files_max = 512
processes_max = 16
core_bytes_max = 0
terminals_max = 4
"#;

/// How many of the texts are right.
const RIGHT_ONES: usize = 3;

/// The texts that are changed, the right ones first.
fn samples() -> Vec<Vec<u8>> {
    let file = |name| std::fs::read(sample(name)).unwrap();
    let mut texts = vec![
        FULL.as_bytes().to_vec(),
        file("hello.toml"),
        file("web.toml"),
    ];
    texts.push(file("host.toml"));
    texts.extend(
        AFTER
            .iter()
            .map(|(line, ..)| format!("{RIGHT}{line}").into_bytes()),
    );
    texts
}

/// What the specs among them were.
#[derive(Debug, Default)]
struct Count {
    mutants: usize,
    parsed: usize,
    checked: usize,
    launched: usize,
    refused_by_the_launcher: usize,
}

pub(crate) fn all() -> Outcome {
    let (wanted, launches, runs) = if quick() {
        (500, 10, 20)
    } else {
        (3000, 60, 120)
    };
    let kernel = Kernel::probe().unwrap();
    let samples = samples();
    let mut dice = Dice(0x00c1_0150);
    let mut count = Count::default();
    // The spawner starts.
    drop(
        launch(&crate::bounds::spec(&["/usr/bin/true"]), &kernel)
            .unwrap()
            .remove(),
    );
    let before = Snapshot::of_stage();
    while count.mutants < wanted {
        count.mutants += 1;
        // Half of them were right before.
        let among = [RIGHT_ONES, samples.len()][dice.roll(2)];
        let text = &samples[dice.roll(among)];
        let bytes = mutated(text, &mut dice);
        let begun = Instant::now();
        let parsed = tried(&bytes, &mut count);
        assert!(
            begun.elapsed() < PATIENCE,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
        match parsed {
            Some(spec) if count.launched < launches && dice.roll(3) == 0 => {
                count.launched += 1;
                launched(spec, &kernel);
            }
            None if count.refused_by_the_launcher < runs && dice.roll(8) == 0 => {
                count.refused_by_the_launcher += 1;
                refused(&bytes);
            }
            _ => {}
        }
    }
    let differences = Snapshot::settled(Snapshot::of_stage, &before);
    assert!(differences.is_empty(), "{differences:?}");
    println!("{REPORT}{count:?}");
    assert!(count.checked > 0 && count.launched > 0 && count.refused_by_the_launcher > 0);
    Outcome::Passed
}

/// The spec that it is, if it is one that the check lets pass.
fn tried(bytes: &[u8], count: &mut Count) -> Option<Spec> {
    let text = std::str::from_utf8(bytes).ok()?;
    // As JSON too: what a parser of TOML takes is no limit for this one.
    if let Ok(spec) = serde_json::from_str::<Spec>(text) {
        assert!(spec.check().is_ok() || spec.check().is_err());
    }
    let spec: Spec = toml::from_str(text).ok()?;
    count.parsed += 1;
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(
        serde_json::from_str::<Spec>(&json).unwrap(),
        spec,
        "{text:?}"
    );
    spec.check().ok()?;
    count.checked += 1;
    Some(spec)
}

/// It runs, or is refused; whichever, nothing is left.
fn launched(mut spec: Spec, kernel: &Kernel) {
    spec.ids = IdRange::new(1_879_048_192).ok();
    if spec.root == Root::SharedBase {
        spec.command = vec!["/usr/bin/true".to_owned()];
    }
    if let Ok(sandbox) = launch(&spec, kernel) {
        sandbox.remove().unwrap();
    }
    let name = format!("cloison-{}", spec.name);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let left = hierarchy.unwrap().path().join(&name);
        assert!(!left.exists(), "{} of {spec:?}", left.display());
    }
}

/// The launcher says one thing, without a control character, and ends.
fn refused(bytes: &[u8]) {
    let file = "/tmp/mutant.toml";
    std::fs::write(file, bytes).unwrap();
    let mut command = ground::run(&["--state", "/tmp/none"]);
    command.arg(file);
    let ended = end(command);
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(ended.code, Some(125), "{shown:?}: {ended:?}");
    assert!(!ended.err.contains("panicked"), "{shown:?}: {ended:?}");
    let odd = |c: char| c.is_control() && c != '\n';
    assert!(!ended.err.contains(odd), "{shown:?}: {ended:?}");
    std::fs::remove_file(file).unwrap();
}
