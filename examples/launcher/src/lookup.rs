//! Finding the program inside the root that will be used.

use std::os::fd::OwnedFd;
use std::path::Path;

use cloison_sandbox::{Exec, OwnAccess, Root, Spec};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::Error;

/// Where a program without a slash is looked for, whatever any PATH says.
pub(crate) const PATH: &str = Exec::PATH;

/// What of the host is in a root that is shared with it.
const SHARED: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What every sandbox has over its root.
const COVERED: [&str; 4] = ["proc", "dev", "tmp", "run"];

/// Puts the whole path of the program into the command of `spec`, and sees
/// that it is one where that can be seen: not below a mount.
///
/// It only makes for a better message: what the sandbox executes is opened by
/// the sandbox itself.
pub(crate) fn settle(spec: &mut Spec) -> Result<(), Error> {
    let Some(program) = spec.command.first().cloned() else {
        return Ok(());
    };
    if program.contains('\0') || program.is_empty() {
        // The library refuses these with a better message.
        return Ok(());
    }
    let place = Place::open(spec)?;
    if program.contains('/') {
        return match place.look(&program) {
            Found::Missing => Err(Error::NoProgram { program }),
            Found::Unfit(reason) => Err(Error::NotExecutable { program, reason }),
            Found::Program | Found::Unseen => Ok(()),
        };
    }
    let mut unfit = None;
    for directory in PATH.split(':') {
        let whole = format!("{directory}/{program}");
        match place.look(&whole) {
            Found::Program => {
                if let Some(first) = spec.command.first_mut() {
                    *first = whole;
                }
                return Ok(());
            }
            Found::Unfit(reason) => unfit = unfit.or(Some((whole, reason))),
            Found::Missing | Found::Unseen => {}
        }
    }
    Err(match unfit {
        Some((program, reason)) => Error::NotExecutable { program, reason },
        None => Error::NotOnPath(program),
    })
}

enum Found {
    Program,
    Missing,
    Unfit(&'static str),
    /// Something else will stand there.
    Unseen,
}

struct Place<'a> {
    root: OwnedFd,
    shared: bool,
    spec: &'a Spec,
}

impl<'a> Place<'a> {
    fn open(spec: &'a Spec) -> Result<Self, Error> {
        let (path, shared) = match &spec.root {
            Root::SharedBase => (Path::new("/"), true),
            Root::Directory { path, .. } => (path.as_path(), false),
            Root::Own(own) => (own.path.as_path(), false),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(|source| Error::Root {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { root, shared, spec })
    }

    fn has_layer(&self) -> bool {
        matches!(&self.spec.root, Root::Own(own) if matches!(own.access, OwnAccess::DiskLayer { .. }))
    }

    fn look(&self, program: &str) -> Found {
        if !program.starts_with('/') {
            return Found::Unseen;
        }
        let path = Path::new(program);
        let first = path
            .components()
            .nth(1)
            .and_then(|part| part.as_os_str().to_str());
        let is_covered = first.is_some_and(|first| COVERED.contains(&first));
        let is_mounted = |mount: &cloison_sandbox::Mount| path.starts_with(&mount.target);
        if is_covered || self.spec.mounts.iter().any(is_mounted) {
            return Found::Unseen;
        }
        if self.shared && !first.is_some_and(|first| SHARED.contains(&first)) {
            return Found::Missing;
        }
        // As the sandbox will see it: links end in the root.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&self.root, program, how).and_then(fstat) {
            Ok(found) => {
                let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
                if kind == SFlag::S_IFDIR {
                    Found::Unfit("it is a directory")
                } else if kind != SFlag::S_IFREG {
                    Found::Unfit("it is not a file")
                } else if found.st_mode & 0o111 == 0 {
                    Found::Unfit("its mode lets nobody execute it")
                } else {
                    Found::Program
                }
            }
            // What was written to its layer at another time is not looked at.
            Err(Errno::ENOENT | Errno::ENOTDIR) if self.has_layer() => Found::Unseen,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::ELOOP) => {
                Found::Missing
            }
            Err(_) => Found::Unseen,
        }
    }
}
