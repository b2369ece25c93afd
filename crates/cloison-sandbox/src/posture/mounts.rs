//! What the mounts of a process say.

use super::knowledge::Reason;
use super::value::MountEntry;
use super::{Fact, Field, Value};
use crate::proc::escaped;
use crate::proc::mountinfo::{MountLine, mounts, options, unescaped};

/// Reads `/proc/PID/mountinfo`: every mount, and the options of the proc,
/// sysfs and devpts among them.
pub(super) fn facts(text: Result<&[u8], Reason>, facts: &mut Vec<Fact>) {
    let lines = text.and_then(|text| {
        mounts(text)
            .collect::<Option<Vec<_>>>()
            .ok_or(Reason::Malformed)
    });
    let of = |read: &dyn Fn(&[MountLine<'_>]) -> Value| match &lines {
        Ok(lines) => Ok(read(lines)),
        Err(reason) => Err(*reason),
    };
    facts.push(Fact::read(Field::Mounts, of(&entries)));
    facts.push(Fact::read(Field::ProcCovers, of(&covers)));
    for (field, fs_type) in [
        (Field::ProcOptions, &b"proc"[..]),
        (Field::SysfsOptions, b"sysfs"),
        (Field::DevptsOptions, b"devpts"),
    ] {
        facts.push(Fact::read(field, of(&|lines| instances(lines, fs_type))));
    }
}

fn entries(lines: &[MountLine<'_>]) -> Value {
    let mut entries: Vec<MountEntry> = lines
        .iter()
        .map(|line| MountEntry {
            mount_point: escaped(&unescaped(line.mount_point)),
            fs_type: Some(escaped(line.fs_type)),
            device: Some(line.device),
            options: mount_options(line),
            is_propagating: line.is_propagating,
        })
        .collect();
    entries.sort_unstable();
    Value::Mounts(entries)
}

/// What stands on something beneath a proc.
fn covers(lines: &[MountLine<'_>]) -> Value {
    let procs = || lines.iter().filter(|line| line.fs_type == b"proc");
    let beneath = |line: &MountLine<'_>| {
        procs().find_map(|proc| {
            line.mount_point
                .strip_prefix(proc.mount_point)?
                .strip_prefix(b"/")
                .map(|entry| escaped(&unescaped(entry)))
        })
    };
    let mut found: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let entry = beneath(line)?;
            let root = escaped(&unescaped(line.root));
            Some(format!("{entry}={root}"))
        })
        .collect();
    found.sort_unstable();
    Value::List(found)
}

/// The options of a mount; a file system that is read-only as a whole makes it
/// so, whatever was asked for.
fn mount_options(line: &MountLine<'_>) -> Vec<String> {
    let mut all = sorted(options(line.options).filter(|option| !is_weightless(option)));
    let is_read_only = options(line.super_options).any(|option| option == b"ro");
    if is_read_only && !all.iter().any(|option| option == "ro") {
        all.push("ro".to_owned());
        all.sort_unstable();
    }
    all
}

/// Where each file system of `fs_type` stands, with its own options.
fn instances(lines: &[MountLine<'_>], fs_type: &[u8]) -> Value {
    let mut found: Vec<String> = lines
        .iter()
        .filter(|line| line.fs_type == fs_type)
        .map(|line| {
            let mount_point = escaped(&unescaped(line.mount_point));
            sorted(options(line.super_options).filter(|option| *option != b"rw"))
                .into_iter()
                .fold(mount_point, |text, option| text + " " + &option)
        })
        .collect();
    found.sort_unstable();
    Value::List(found)
}

/// Options that take nothing away and give nothing: the absence of `ro`, and
/// when access times are written.
fn is_weightless(option: &[u8]) -> bool {
    matches!(option, b"rw" | b"relatime" | b"noatime" | b"nodiratime")
}

fn sorted<'a>(options: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut options: Vec<String> = options.map(escaped).collect();
    options.sort_unstable();
    options
}
