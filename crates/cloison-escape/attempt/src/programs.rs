//! A14: the launcher's or init's own program, reached from inside.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;
use crate::files;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::sys::{self, Errno};

/// Opens the program of every process that does not run this one: to read,
/// to write back, by a handle without access, by its mapped file.
pub(crate) fn a14(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let foreign = processes_with_another_program()?;
    if foreign.is_empty() {
        return Err(CouldNotTry(
            "no process but this program's own is here".to_owned(),
        ));
    }
    for pid in foreign {
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        report.way(&format!("{pid}-read"), || read(&path));
        report.way(&format!("{pid}-write"), || write(&path));
        report.way(&format!("{pid}-handle"), || handle(&path));
        report.way(&format!("{pid}-change-mode"), || change_mode(&path));
        report.way(&format!("{pid}-mapped-file"), || mapped_file(pid));
    }
    Ok(())
}

/// Whoever cannot be compared counts as foreign, and so does process 1 even
/// where the listing hides it.
fn processes_with_another_program() -> Result<Vec<u32>, CouldNotTry> {
    let own = std::fs::metadata("/proc/self/exe")
        .map_err(|error| CouldNotTry(format!("/proc/self/exe: {error}")))?;
    let entries =
        std::fs::read_dir("/proc").map_err(|error| CouldNotTry(format!("/proc: {error}")))?;
    let mut pids: Vec<u32> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
        .collect();
    pids.push(1);
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| match std::fs::metadata(format!("/proc/{pid}/exe")) {
        Ok(found) => (found.dev(), found.ino()) != (own.dev(), own.ino()),
        Err(_) => true,
    });
    Ok(pids)
}

/// A handle to read is the first half of the attack: it is kept until the
/// program ends, and then opened again for write.
fn read(path: &Path) -> Verdict {
    match File::open(path) {
        Ok(program) => {
            // It is looked at from outside, until this process ends.
            std::mem::forget(program);
            Verdict::Through(format!("{} opened for read", path.display()))
        }
        Err(error) => Verdict::refused("open", &error),
    }
}

fn write(path: &Path) -> Verdict {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) if is_memory_file(path) => files::write_back_open(&file, path),
        Ok(_) => Verdict::Through(format!("{} opened for write", path.display())),
        Err(error) => refusal_of_a_write(path, Errno::of(&error)),
    }
}

/// ETXTBSY comes after every check of permission: the program may be
/// overwritten as soon as it ends.
fn refusal_of_a_write(path: &Path, errno: Errno) -> Verdict {
    if errno == sys::ETXTBSY {
        Verdict::Through(format!(
            "{} is writable once it ends (ETXTBSY)",
            path.display()
        ))
    } else {
        Verdict::stopped("open", errno)
    }
}

fn handle(path: &Path) -> Verdict {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(files::O_PATH)
        .open(path);
    match opened {
        Ok(handle) => {
            use std::os::fd::IntoRawFd;
            // It is looked at from outside, until this process ends.
            write(Path::new(&format!(
                "/proc/self/fd/{}",
                handle.into_raw_fd()
            )))
        }
        Err(error) => Verdict::refused("open O_PATH", &error),
    }
}

/// Whether what `path` leads to lives in memory alone, as the programs that
/// the launcher starts do. A file of the stage's host is opened at most.
fn is_memory_file(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"))
}

fn change_mode(path: &Path) -> Verdict {
    if std::fs::metadata(path).is_ok() && !is_memory_file(path) {
        return Verdict::Untried(format!("{} is a file of the host", path.display()));
    }
    let changed = std::fs::metadata(path).and_then(|found| {
        let before = found.permissions();
        std::fs::set_permissions(path, PermissionsExt::from_mode(before.mode() ^ 0o001))?;
        report::hold();
        std::fs::set_permissions(path, before)
    });
    match changed {
        Ok(()) => Verdict::Through("its mode was changed".to_owned()),
        Err(error) => Verdict::refused("chmod", &error),
    }
}

fn mapped_file(pid: u32) -> Verdict {
    let entries = match std::fs::read_dir(format!("/proc/{pid}/map_files")) {
        Ok(entries) => entries,
        Err(error) => return Verdict::refused("open map_files", &error),
    };
    let mut refusal = Verdict::Stopped("map_files is empty".to_owned());
    for entry in entries.filter_map(Result::ok) {
        match File::open(entry.path()) {
            Ok(_) => return Verdict::Through(format!("{} opened", entry.path().display())),
            Err(error) => refusal = Verdict::refused("open", &error),
        }
    }
    refusal
}
