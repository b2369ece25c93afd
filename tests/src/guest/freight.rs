//! What a guest finds in its root.

use std::collections::{BTreeSet, VecDeque};
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use super::{GuestError, INIT, PROGRAMS, Programs, said_by, workspace};

/// The program of the workspace that is the guest's init.
const INIT_PROGRAM: &str = "guest_init";
/// The test targets and programs that are brought where it is not one alone; the
/// others need what a guest has not.
const BROUGHT: &[&str] = &[
    "cloison",
    "callers",
    "launch",
    "launcher",
    "noisy",
    "orchestrator",
    "probes",
    "servers",
    "stage",
    "faulty",
    "traced",
];
/// Files and folders of the workspace that these read.
const FILES: &[&str] = &["examples", "tests/guest/host.toml"];
/// Programs of this machine that servers and tests run.
const PROGRAMS_OF_THE_MACHINE: &[&str] = &[
    "sh", "basename", "cat", "chmod", "choom", "chown", "chrt", "cp", "cut", "dash", "date", "dd",
    "dirname", "echo", "env", "false", "grep", "head", "hostname", "id", "kill", "ln", "ls",
    "mkdir", "mknod", "mkswap", "mktemp", "mount", "mv", "nproc", "nsenter", "perl", "prlimit",
    "ps", "pwd", "readlink", "rm", "rmdir", "sed", "setpriv", "setsid", "seq", "sleep", "sort",
    "stat", "stty", "strace", "swapon", "sync", "tail", "tee", "test", "timeout", "touch", "tr",
    "true", "umount", "uname", "wc",
];
const FILES_OF_THE_MACHINE: &[&str] = &["/usr/lib/os-release"];
/// As every Debian has them.
const LINKS: &[(&str, &str)] = &[
    ("/bin", "usr/bin"),
    ("/sbin", "usr/sbin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/etc/os-release", "../usr/lib/os-release"),
];
const FOLDERS: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib64",
    "/dev",
    "/proc",
    "/sys",
    "/tmp",
    "/run",
    "/root",
    "/home",
    "/var/lib",
    "/boot",
    "/disk",
];
const TEXTS: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hostname", "guest\n"),
    ("/etc/machine-id", "c1015011c1015011c1015011c1015011\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n"),
];

/// Puts everything into the archive but the kernel's part and the order.
/// `folder` is for what is needed meanwhile.
pub(super) fn load<W: Write>(
    archive: &mut Archive<W>,
    programs: &Programs,
    folder: &Path,
) -> Result<(), GuestError> {
    let mut hold = Hold {
        archive,
        stripped: folder.join("stripped"),
        libraries: VecDeque::new(),
        known: BTreeSet::new(),
    };
    hold.frame()?;
    for (name, path) in programs.iter() {
        if name == INIT_PROGRAM {
            hold.stripped(path, Path::new(INIT))?;
        } else if programs.brings(name, BROUGHT) {
            hold.stripped(path, path)?;
            hold.link(&Path::new(PROGRAMS).join(name), path)?;
        }
    }
    for name in PROGRAMS_OF_THE_MACHINE {
        let path = found(name)?;
        hold.plain(&path, &Path::new("/usr/bin").join(name))?;
        hold.libraries_of(&path)?;
    }
    for path in FILES_OF_THE_MACHINE {
        hold.plain(Path::new(path), Path::new(path))?;
    }
    hold.threads_of_perl()?;
    for name in FILES {
        hold.tree(&workspace().join(name))?;
    }
    while let Some(library) = hold.libraries.pop_front() {
        hold.plain(&library, &in_its_folder(&library)?)?;
    }
    Ok(())
}

struct Hold<'a, W: Write> {
    archive: &'a mut Archive<W>,
    /// Where a program goes while it is made smaller.
    stripped: PathBuf,
    libraries: VecDeque<PathBuf>,
    known: BTreeSet<PathBuf>,
}

impl<W: Write> Hold<'_, W> {
    fn frame(&mut self) -> Result<(), GuestError> {
        for folder in FOLDERS {
            self.archive
                .folder(Path::new(folder))
                .map_err(at(Path::new(folder)))?;
        }
        for (path, target) in LINKS {
            self.link(Path::new(path), Path::new(target))?;
        }
        for (path, text) in TEXTS {
            let path = Path::new(path);
            self.archive
                .file(path, 0o644, text.as_bytes())
                .map_err(at(path))?;
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), GuestError> {
        self.archive.link(path, target).map_err(at(path))
    }

    fn plain(&mut self, from: &Path, to: &Path) -> Result<(), GuestError> {
        let mode = fs::metadata(from).map_err(at(from))?.permissions().mode();
        let bytes = fs::read(from).map_err(at(from))?;
        self.archive.file(to, mode & 0o755, &bytes).map_err(at(to))
    }

    /// A program of the workspace: what is said for debuggers is most of it.
    fn stripped(&mut self, from: &Path, to: &Path) -> Result<(), GuestError> {
        let mut objcopy = Command::new("objcopy");
        said_by(objcopy.arg("--strip-debug").arg(from).arg(&self.stripped))?;
        let bytes = fs::read(&self.stripped).map_err(at(&self.stripped))?;
        self.archive.file(to, 0o755, &bytes).map_err(at(to))?;
        self.libraries_of(from)
    }

    fn tree(&mut self, path: &Path) -> Result<(), GuestError> {
        if !path.is_dir() {
            return self.plain(path, path);
        }
        for entry in fs::read_dir(path).map_err(at(path))? {
            self.tree(&entry.map_err(at(path))?.path())?;
        }
        Ok(())
    }

    /// What perl loads for threads: an attack makes them.
    fn threads_of_perl(&mut self) -> Result<(), GuestError> {
        let mut perl = Command::new(found("perl")?);
        let words = "$, = \"\\n\"; print values %INC, @DynaLoader::dl_shared_objects";
        let said = said_by(perl.args(["-Mthreads", "-e", words]))?;
        for path in String::from_utf8_lossy(&said).lines().map(Path::new) {
            self.plain(path, path)?;
        }
        Ok(())
    }

    /// Notes the libraries that a program names, and those that these name.
    fn libraries_of(&mut self, program: &Path) -> Result<(), GuestError> {
        let said = said_by(Command::new("ldd").arg(program));
        // What it says of a static program is an error.
        let said = match said {
            Err(GuestError::Program { .. }) => return Ok(()),
            said => said?,
        };
        for word in String::from_utf8_lossy(&said).split_whitespace() {
            let path = Path::new(word);
            if path.is_absolute() && self.known.insert(path.to_owned()) {
                self.libraries.push_back(path.to_owned());
            }
        }
        Ok(())
    }
}

fn found(name: &'static str) -> Result<PathBuf, GuestError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    // The machine's own first: what stands before them may be a wrapper.
    usual
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or(GuestError::NoProgram(name))
}

/// The same name where its folder really is: `/lib` is a link.
fn in_its_folder(path: &Path) -> Result<PathBuf, GuestError> {
    let folder = path.parent().unwrap_or(path);
    let folder = fs::canonicalize(folder).map_err(at(folder))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> GuestError {
    let path = path.to_owned();
    move |source| GuestError::File { path, source }
}
