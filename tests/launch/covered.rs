//! A whole proc, covered: what is seen of the kernel is ours, or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;

use cloison_sandbox::posture::Field;
use cloison_sandbox::{
    Error, Io, Layer, NetworkNamespace, Plan, Prepared, Proc, Spec, Streams, Weakening,
};
use cloison_tests::Outcome;

use crate::ground::{hold, kernel, spec, waivers};

/// What a kernel shows of the reader alone, and of its own version.
const KEPT: [&str; 6] = ["self", "thread-self", "mounts", "net", "sysvipc", "version"];

/// Each entry of proc with the number of its file system, that of proc first;
/// then what is read of some.
const LOOK: &str = r#"
stat -c 'device proc %d' /proc
for entry in /proc/[!0-9]*; do
    stat -c "device ${entry#/proc/} %d" "$entry"
done
for file in loadavg uptime cmdline kallsyms swaps; do
    echo "bytes $file $(wc -c </proc/$file)"
done
echo "total $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "listed $(grep -c ^processor /proc/cpuinfo)"
echo "counted $(grep -c '^cpu[0-9]' /proc/stat)"
echo "allowed $(nproc)"
echo "uptime $(cat /proc/uptime)"
echo "name $(cat /proc/sys/kernel/hostname)"
for file in sys/kernel/core_pattern sys/user/max_net_namespaces sysrq-trigger meminfo; do
    (echo 1 >/proc/$file) 2>/dev/null && echo "written $file 1"
done
echo "user $(ls /proc/sys/user 2>/dev/null | wc -l)"
"#;

fn covered(name: &str, command: &[&str]) -> Spec {
    Spec {
        proc: Proc::Covered,
        ..spec(name, command)
    }
}

/// What the look at proc says, by its first words.
fn look(weakenings: Vec<Weakening>) -> Result<BTreeMap<String, String>, Error> {
    let mut spec = covered("look", &["/bin/sh", "-c", LOOK]);
    let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    spec.environment.extend([path]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut io = Io::null()?;
    if let Streams::Descriptors { stdout, .. } = &mut io.streams {
        *stdout = OwnedFd::from(writer);
    }
    let prepared = Prepared::with_network(&spec, NetworkNamespace::create()?)?;
    let held = Plan::weakened(&spec, kernel(), &waivers(), prepared, io, weakenings)?.hold()?;
    let sandbox = held.start()?;
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    sandbox.remove()?;
    let said = text.lines().filter_map(|line| line.rsplit_once(' '));
    Ok(said
        .map(|(what, value)| (what.to_owned(), value.to_owned()))
        .collect())
}

/// The entries that are the kernel's own and do not stay.
fn uncovered(said: &BTreeMap<String, String>) -> Vec<&str> {
    let proc = &said["device proc"];
    let entries = said.iter().filter_map(|(what, device)| {
        let name = what.strip_prefix("device ")?;
        (device == proc && name != "proc" && !KEPT.contains(&name)).then_some(name)
    });
    entries.collect()
}

/// Nothing in proc is the kernel's but what tells of the reader, and what is
/// ours tells of the server.
pub(crate) fn tells_of_the_server() -> Outcome {
    let said = look(Vec::new()).unwrap();
    assert_eq!(uncovered(&said), [""; 0], "{said:?}");
    // As many as the kernel has here, so that none was simply not there.
    let entries = said
        .keys()
        .filter(|what| what.starts_with("device "))
        .count();
    let host = fs::read_dir("/proc").unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        !name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    assert_eq!(entries, host.count() + 1);
    // The stage's own limit, which is less than the machine has.
    let of_machine = fs::read_to_string("/proc/meminfo").unwrap();
    let machine = of_machine.lines().next().unwrap();
    let machine: u64 = machine.split_whitespace().nth(1).unwrap().parse().unwrap();
    let total: u64 = said["total"].parse().unwrap();
    assert!(0 < total && total < machine, "{total} of {machine}");
    for what in ["listed", "counted"] {
        assert_eq!(said[what], said["allowed"], "{what}");
    }
    assert_eq!(said["uptime 0.00"], "0.00");
    assert_eq!(said["name"], "look");
    assert_eq!(said["bytes cmdline"], "0");
    assert_eq!(said["bytes kallsyms"], "0");
    assert_eq!(said["user"], "0");
    assert!(
        !said.keys().any(|what| what.starts_with("written")),
        "{said:?}"
    );
    // The control: the same without the layer shows the kernel's.
    let bare = look(vec![Weakening::Without(Layer::Proc)]).unwrap();
    for entry in ["kallsyms", "keys", "meminfo", "sys", "interrupts"] {
        assert!(uncovered(&bare).contains(&entry), "{entry}: {bare:?}");
    }
    assert_ne!(bare["user"], "0");
    Outcome::Passed
}

/// One cover that is not there turns its field red.
pub(crate) fn missing_cover() -> Outcome {
    let spec = covered("gap", &["/usr/bin/true"]);
    for (broken, field) in [
        (Weakening::BrokenField(Field::ProcCovers), Field::ProcCovers),
        (
            Weakening::BrokenField(Field::ProcOptions),
            Field::ProcOptions,
        ),
        (Weakening::Broken(Layer::Proc), Field::ProcCovers),
    ] {
        match hold(&spec, vec![broken]) {
            Err(Error::PostureDiffers(differences)) => {
                let red: Vec<Field> = differences.iter().map(|d| d.expected.field()).collect();
                assert!(red.contains(&field), "{red:?}");
                // The list of mounts knows it too, and of which file system.
                assert!(field == Field::ProcOptions || red.contains(&Field::Mounts));
            }
            other => return Outcome::Failed(format!("nobody noticed: {other:?}")),
        }
    }
    drop(hold(&spec, Vec::new()).unwrap());
    Outcome::Passed
}
