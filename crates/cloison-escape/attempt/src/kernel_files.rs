//! A26, A28, A29: files of a whole proc. What is written is what was read;
//! what acts when it is written is opened and closed.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};

/// Settings of one plain value.
const SETTINGS: [&str; 4] = [
    "kernel/panic_on_oops",
    "kernel/core_uses_pid",
    "vm/swappiness",
    "fs/protected_hardlinks",
];
/// Settings that name a program, which are not written.
const PROGRAMS: [&str; 2] = ["kernel/core_pattern", "kernel/modprobe"];
/// Files that act when they are written.
const ACTIONS: [&str; 4] = [
    "sysrq-trigger",
    "irq/default_smp_affinity",
    "mtrr",
    "sys/vm/drop_caches",
];
/// Files that tell of the kernel's inside to a root of the host.
const TOLD: [&str; 6] = [
    "kallsyms",
    "vmallocinfo",
    "slabinfo",
    "timer_list",
    "kpagecount",
    "iomem",
];
/// As much of a file as does not change while it is compared.
const PIECE_BYTES: usize = 16;

/// Writes settings of the kernel back.
pub(crate) fn a26(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for setting in SETTINGS {
        let path = format!("/proc/sys/{setting}");
        report.way(setting, || write_back(&path));
    }
    for setting in PROGRAMS {
        let path = format!("/proc/sys/{setting}");
        report.way(setting, || open_for_write(&path));
    }
    Ok(())
}

/// Reads what only the host's root may.
pub(crate) fn a28(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for file in TOLD {
        report.way(file, || read(&format!("/proc/{file}")));
    }
    // What is read of it is gone: it is opened only.
    report.way("kmsg", || match File::open("/proc/kmsg") {
        Ok(file) if !is_of_proc(&file) => Verdict::Stopped("a file covers it".to_owned()),
        Ok(file) => kept(file),
        Err(error) => Verdict::refused("open", &error),
    });
    Ok(())
}

/// Opens what acts on the machine.
pub(crate) fn a29(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for file in ACTIONS {
        report.way(file, || open_for_write(&format!("/proc/{file}")));
    }
    Ok(())
}

fn write_back(path: &str) -> Verdict {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => return Verdict::refused("open", &error),
    };
    let mut text = [0_u8; 64];
    let count = match file.read_at(&mut text, 0) {
        Ok(count) => count,
        Err(error) => return Verdict::refused("read", &error),
    };
    match file.write_at(text.get(..count).unwrap_or_default(), 0) {
        Ok(_) => kept(file),
        Err(error) => Verdict::refused("write", &error),
    }
}

fn open_for_write(path: &str) -> Verdict {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => kept(file),
        Err(error) => Verdict::refused("open", &error),
    }
}

/// Whether a file is of the file system at `/proc`, and no cover over it.
fn is_of_proc(file: &File) -> bool {
    let device = |metadata: Metadata| metadata.dev();
    let proc = std::fs::metadata("/proc").map(device).ok();
    proc.is_some() && file.metadata().map(device).ok() == proc
}

/// The descriptor is looked at from outside, until this process ends.
fn kept(file: File) -> Verdict {
    std::mem::forget(file);
    Verdict::Through("it is open".to_owned())
}

/// Addresses that are hidden are no addresses.
fn read(path: &str) -> Verdict {
    let mut bytes = [0_u8; PIECE_BYTES];
    match File::open(path).and_then(|file| file.read_at(&mut bytes, 0)) {
        Ok(0) => Verdict::Stopped("it is empty".to_owned()),
        Ok(_) if bytes.iter().all(|byte| *byte == b'0') => {
            Verdict::Stopped("read shows no address".to_owned())
        }
        Ok(_)
            if bytes.starts_with(b"00000000-00000000")
                || bytes.starts_with(b"00000000-0000000") =>
        {
            Verdict::Stopped("read shows no address".to_owned())
        }
        Ok(count) => {
            let read = bytes.get(..count).unwrap_or_default();
            let digits: String = read.iter().map(|byte| format!("{byte:02x}")).collect();
            Verdict::Through(format!("it begins with {digits}"))
        }
        Err(error) => Verdict::refused("open", &error),
    }
}
