//! What stands over the entries of a whole proc (`proc = "covered"`).
//!
//! The list is of what stays, not of what goes: whatever else the kernel has
//! in the root of a proc, also an entry that nobody here has heard of, is
//! covered, by a file or directory of ours. Those programs ask for hold what is
//! said of the server ([`super::proc_files`]), the others hold nothing.

use std::os::fd::OwnedFd;

use cloison_linux::host::{self, attribute};
use cloison_linux::steps::Op;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use crate::Layer;
use crate::error::Error;
use crate::layers::mounts::Attached;
use crate::layers::proc_files::{File, Machine, files};
use crate::layers::tree::{Filling, NO_EXEC, Swap, Tmpfs};
use crate::plan::Composition;
use crate::spawner::errno;
use crate::spec::Proc;

/// What the kernel shows of the reader's own process and namespaces, and of
/// its own version, which uname(2) tells.
const KEPT: [&str; 6] = ["self", "thread-self", "mounts", "net", "sysvipc", "version"];

/// The names that our tmpfs has for what is to be empty.
const EMPTY_FILE: &str = "empty-file";
const EMPTY_DIRECTORY: &str = "empty-directory";

/// More entries than any kernel has.
const ENTRIES_MAX: usize = 256;

/// Our tmpfs, and what of it goes over what.
pub(crate) struct Covers {
    mount: OwnedFd,
    device: u64,
    pairs: Vec<Cover>,
}

/// One entry of a proc, and what stands over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    /// Its name in the root of a proc.
    pub(crate) entry: String,
    /// The name in our tmpfs.
    pub(crate) source: String,
}

/// The covers that the spec asks for.
///
/// # Errors
/// [`Error::Prepare`], [`Error::Cgroup`].
pub(crate) fn prepare(composition: &Composition<'_>) -> Result<Option<Covers>, Error> {
    if composition.spec.proc != Proc::Covered || !composition.applies(Layer::Proc) {
        return Ok(None);
    }
    let made = |errno| Error::prepare("the covers of /proc", errno);
    // One of our own is whole, whatever stands on the caller's `/proc`.
    let proc = host::new_mount(c"proc", &[], NO_EXEC)
        .map_err(errno)
        .map_err(made)?;
    let entries = entries(&proc).map_err(made)?;
    let machine = Machine::of_proc(&proc).map_err(made)?;
    let processors = composition.prepared.cgroup.processors()?;
    let memory = composition.prepared.cgroup.memory_bytes_max()?;
    let files = files(composition.spec, &machine, processors.as_deref(), memory);
    let mount = fill(&files).map_err(made)?;
    let device = fstat(&mount).map_err(made)?.st_dev;
    Ok(Some(Covers {
        mount,
        device,
        pairs: pairs(&entries, &files),
    }))
}

/// Attaches them: after the proc, which they cover.
pub(crate) fn steps(composition: &mut Composition<'_>, covers: Covers) {
    let layer = Layer::Proc;
    let source = composition.list.own(covers.mount);
    composition.list.push(layer, Op::Park, [source.into()]);
    for Cover {
        entry,
        source: name,
    } in &covers.pairs
    {
        let (from, over) = (composition.list.text(name), composition.list.text(entry));
        composition
            .list
            .push(layer, Op::Cover, [source.into(), from.into(), over.into()]);
        composition.mounts.push(Attached {
            target: format!("/proc/{entry}"),
            file_system: "tmpfs",
            attributes: NO_EXEC | attribute::READ_ONLY,
            device: Some(covers.device),
        });
    }
    composition.covers = covers.pairs;
}

/// The entries in the root of a proc that are no processes, and whether each
/// is a directory.
fn entries(proc: &OwnedFd) -> Result<Vec<(String, bool)>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut root = Dir::openat(proc, c".", flags, Mode::empty())?;
    let mut found = Vec::with_capacity(64);
    for entry in root.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.iter().all(u8::is_ascii_digit) {
            // Processes come last.
            break;
        }
        let name = std::str::from_utf8(name).map_err(|_not_text| Errno::EILSEQ)?;
        if !matches!(name, "." | "..") {
            let is_directory = entry.file_type() == Some(Type::Directory);
            found.push((name.to_owned(), is_directory));
        }
        if found.len() > ENTRIES_MAX {
            return Err(Errno::E2BIG);
        }
    }
    // A proc that shows nothing of the kernel is none to be covered.
    if found.iter().any(|(name, _)| name == "sys") {
        Ok(found)
    } else {
        Err(Errno::ENOENT)
    }
}

/// What stands over each entry that does not stay.
fn pairs(entries: &[(String, bool)], files: &[File]) -> Vec<Cover> {
    let covered = entries
        .iter()
        .filter(|(name, _)| !KEPT.contains(&name.as_str()));
    let pair = |(name, is_directory): &(String, bool)| {
        let is_ours = files.iter().any(|file| {
            file.path.split('/').next() == Some(name) && *is_directory == file.path.contains('/')
        });
        let source = match (is_ours, is_directory) {
            (true, _) => name,
            (false, true) => EMPTY_DIRECTORY,
            (false, false) => EMPTY_FILE,
        };
        Cover {
            entry: name.clone(),
            source: source.to_owned(),
        }
    };
    covered.map(pair).collect()
}

/// A read-only tmpfs that holds `files`.
fn fill(files: &[File]) -> Result<OwnedFd, Errno> {
    const PAGE: u64 = 4096;
    let pages = files
        .iter()
        .map(|file| (file.content.len() as u64).div_ceil(PAGE))
        .sum::<u64>();
    let covers = Filling::new(&Tmpfs {
        // Directories count nothing; a few pages to spare.
        bytes_max: (pages + 16) * PAGE,
        files_max: 2 * files.len() as u64 + 32,
        mode: c"755",
        owner: 0,
        attributes: NO_EXEC,
        swap: Swap::Allowed,
    })?;
    covers.file(EMPTY_FILE, b"")?;
    covers.directory(EMPTY_DIRECTORY)?;
    for file in files {
        if let Some((above, _)) = file.path.rsplit_once('/') {
            covers.directory(above)?;
        }
        covers.file(&file.path, file.content.as_bytes())?;
    }
    let sealed = covers.finish("", NO_EXEC | attribute::READ_ONLY, 0)?;
    Ok(sealed.mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_covered() {
        let entry = |name: &str, is_directory| (name.to_owned(), is_directory);
        let entries = [
            entry("self", false),
            entry("meminfo", false),
            entry("sys", true),
            entry("kcore", false),
            entry("acpi", true),
            entry("made-next-year", false),
        ];
        let file = |path: &str| File {
            path: path.to_owned(),
            content: String::new(),
        };
        let files = [file("meminfo"), file("sys/kernel/ostype")];
        let sources: Vec<(String, String)> = pairs(&entries, &files)
            .into_iter()
            .map(|cover| (cover.entry, cover.source))
            .collect();
        let wanted = [
            ("meminfo", "meminfo"),
            ("sys", "sys"),
            ("kcore", EMPTY_FILE),
            ("acpi", EMPTY_DIRECTORY),
            ("made-next-year", EMPTY_FILE),
        ];
        assert_eq!(
            sources,
            wanted.map(|(entry, source)| (entry.to_owned(), source.to_owned()))
        );
    }
}
