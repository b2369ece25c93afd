//! A provider's tree becomes a tenant's.
//!
//! Each file of the copy is an inode of its own, also where blocks are shared by
//! reflink: what one tenant reads is in no other's page cache, and what is written
//! through a page cache stays with him whose it is.
//!
//! The base is the provider's and nobody changes it meanwhile; the copy is shown to
//! nobody until it is whole. Runs as the host's root: it gives files away.
//!
//! | of the base | what is done |
//! | --- | --- |
//! | owner, group | 0 to 65535, shifted by the tenant's first id; else refused |
//! | mode | kept, set-user-id and sticky bits too |
//! | times | of access and modification, kept |
//! | names of one file | one inode in the copy, too |
//! | holes | kept |
//! | symbolic links, FIFOs | made anew |
//! | devices | [`Devices`] |
//! | sockets | left out, and counted: nobody listens |
//! | another mount | refused |
//! | `user.*` | kept on files and directories |
//! | access control lists | kept, their ids shifted |
//! | `security.capability` | version 3, good for the tenant's root; one that names another root: refused |
//! | other attributes, flags | left out, attributes are counted |
//!
//! # Kernel
//! 5.6, for `openat2(2)`.

mod attributes;
mod error;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, linkat, lseek, symlinkat};
use serde::{Deserialize, Serialize};

use crate::beneath;
use crate::devices::Devices;
use crate::escaped::EscapedName;

pub use error::{Error, Rule};

/// The deepest directory of a base. Two descriptors are open for each level.
const DEPTH_MAX: usize = 128;
/// How much of a file is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The 65,536 ids that a tenant's files carry on disk.
///
/// Holding one tells you that none of them is 0, the host's root, and none is the
/// id that means no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskIds {
    first: u32,
}

impl DiskIds {
    const COUNT: u32 = 1 << 16;

    /// Those from `first` on. `None` if they would not be, or be the host's own: the
    /// first 65,536.
    #[must_use]
    pub fn from_first(first: u32) -> Option<Self> {
        let last = first.checked_add(Self::COUNT - 1)?;
        (first >= Self::COUNT && last < u32::MAX).then_some(Self { first })
    }

    /// What the root inside is on disk.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// What the id of a base is on disk.
    fn shift(self, id: u32) -> Option<u32> {
        (id < Self::COUNT).then(|| self.first + id)
    }
}

/// How the content of a file comes into the copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// By reading and writing: the blocks are its own.
    #[default]
    Copy,
    /// By reference to the same blocks until one side writes. Where the file system
    /// cannot, the copy is refused: nothing is copied instead.
    Reflink,
}

/// How a tree is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How the content comes into it.
    pub way: Way,
    /// What becomes of device nodes.
    pub devices: Devices,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Regular files.
    pub files: u64,
    /// Directories, the top among them.
    pub directories: u64,
    /// Symbolic links.
    pub symbolic_links: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// FIFOs.
    pub fifos: u64,
    /// Device nodes left out.
    pub devices_skipped: u64,
    /// Sockets left out.
    pub sockets_skipped: u64,
    /// Attributes left out.
    pub attributes_skipped: u64,
    /// The length of the regular files, holes among them.
    pub bytes: u64,
}

/// Why one thing was not copied.
enum Failure {
    Rule(Rule),
    NoReflink(Errno),
    Call(&'static str, Errno),
}

fn call(doing: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::Call(doing, errno)
}

/// Copies what is beneath `base` into the empty directory `tree`, with its ids
/// shifted to `ids`. The top's own owner, mode, times and attributes come along.
///
/// A file is the host root's, readable by nobody else, for the moment between being
/// made and being given away: a crash in it leaves one such file. What was written
/// is not flushed.
///
/// # Errors
/// [`Error`], with the path in the base made harmless. What was made until then
/// stays.
pub fn copy(
    base: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    ids: DiskIds,
    options: &Options,
) -> Result<Copied, Error> {
    let mut copier = Copier {
        tree,
        ids,
        options,
        path: Vec::new(),
        linked: HashMap::new(),
        buffer: vec![0; CHUNK_BYTES],
        copied: Copied::default(),
    };
    let copied = match beneath::is_empty(tree) {
        Ok(false) => return Err(Error::NotEmpty),
        Ok(true) => copier.top(base),
        Err(errno) => Err(Failure::Call("listing the directory to copy into", errno)),
    };
    let name = EscapedName::new(&copier.path);
    copied.map_err(|failure| match failure {
        Failure::Rule(rule) => Error::Refused { name, rule },
        Failure::NoReflink(errno) => Error::NoReflink { name, errno },
        Failure::Call(doing, errno) => Error::Call { name, doing, errno },
    })?;
    Ok(copier.copied)
}

struct Copier<'a> {
    tree: BorrowedFd<'a>,
    ids: DiskIds,
    options: &'a Options,
    /// What is copied now, in the base; of an error, what it was about.
    path: Vec<u8>,
    /// Files of several names that were copied, by their inode in the base: the
    /// path and the inode of the copy.
    linked: HashMap<(u64, u64), (Vec<u8>, u64)>,
    buffer: Vec<u8>,
    copied: Copied,
}

impl Copier<'_> {
    fn top(&mut self, base: BorrowedFd<'_>) -> Result<(), Failure> {
        let open = |directory| beneath::directory(directory, c".").map_err(call("opening it"));
        let (from, to) = (open(base)?, open(self.tree)?);
        self.directory(&from, &to, 0)
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(Failure::Rule(Rule::Depth));
        }
        let status = beneath::status(from).map_err(call("looking at it"))?;
        self.give(to.as_fd(), &status)?;
        loop {
            let (names, _) = beneath::list(from.as_fd()).map_err(call("listing it"))?;
            if names.is_empty() {
                break;
            }
            for name in names {
                let length = self.path.len();
                if length > 0 {
                    self.path.push(b'/');
                }
                self.path.extend(name.to_bytes());
                self.entry(from, to, &name, depth)?;
                self.path.truncate(length);
            }
        }
        self.copied.directories += 1;
        self.finish(from.as_fd(), to.as_fd(), &status)
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        depth: usize,
    ) -> Result<(), Failure> {
        let named = match beneath::named(from.as_fd(), name) {
            Err(Errno::EXDEV) => return Err(Failure::Rule(Rule::Mount)),
            Err(Errno::ENOENT) => return Err(Failure::Rule(Rule::Changed)),
            named => named.map_err(call("looking at it"))?,
        };
        let status = beneath::status(&named).map_err(call("looking at it"))?;
        match beneath::kind(&status) {
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU).map_err(call("making it"))?;
                let from = beneath::directory(from.as_fd(), name).map_err(call("opening it"))?;
                let to = beneath::directory(to.as_fd(), name).map_err(call("opening the copy"))?;
                self.directory(&from, &to, depth + 1)
            }
            SFlag::S_IFREG => self.regular(from.as_fd(), to.as_fd(), name),
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name).map_err(call("reading it"))?;
                symlinkat(target.as_os_str(), to, name).map_err(call("making it"))?;
                self.copied.symbolic_links += 1;
                self.finish_name(to.as_fd(), name, &status)
            }
            SFlag::S_IFIFO => {
                let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                mknodat(to, name, SFlag::S_IFIFO, mode, 0).map_err(call("making it"))?;
                self.copied.fifos += 1;
                self.finish_name(to.as_fd(), name, &status)?;
                let (mode, flag) = (beneath::mode(&status), FchmodatFlags::NoFollowSymlink);
                fchmodat(to, name, mode, flag).map_err(call("setting its mode"))
            }
            SFlag::S_IFSOCK => {
                self.copied.sockets_skipped += 1;
                Ok(())
            }
            _ => match self.options.devices {
                Devices::Refuse => Err(Failure::Rule(Rule::Device)),
                Devices::Skip => {
                    self.copied.devices_skipped += 1;
                    Ok(())
                }
            },
        }
    }

    fn regular(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Failure> {
        let source = match beneath::regular(from, name) {
            Err(Errno::ESTALE | Errno::ENOENT) => return Err(Failure::Rule(Rule::Changed)),
            source => File::from(source.map_err(call("opening it"))?),
        };
        let status = beneath::status(&source).map_err(call("looking at it"))?;
        let identity = beneath::identity(&status);
        if let Some((path, inode)) = self.linked.get(&identity) {
            self.link(path, *inode, to, name)?;
            self.copied.hard_links += 1;
            return Ok(());
        }
        let copy = beneath::new_file(to, name).map_err(call("making it"))?;
        let copy = File::from(copy);
        self.give(copy.as_fd(), &status)?;
        match self.options.way {
            Way::Copy => self.fill(&source, &copy, &status)?,
            Way::Reflink => rustix::fs::ioctl_ficlone(&copy, &source)
                .map_err(|error| reflink(beneath::errno(error)))?,
        }
        if status.st_nlink > 1 {
            let made = beneath::status(&copy).map_err(call("looking at the copy"))?;
            let made = (self.path.clone(), made.st_ino);
            self.linked.insert(identity, made);
        }
        self.copied.files += 1;
        self.copied.bytes += length(&status);
        self.finish(source.as_fd(), copy.as_fd(), &status)
    }

    /// One more name for a file of the copy.
    fn link(
        &self,
        path: &[u8],
        inode: u64,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Failure> {
        let mut components: Vec<CString> = path
            .split(|byte| *byte == b'/')
            .filter_map(|component| CString::new(component).ok())
            .collect();
        let Some(last) = components.pop() else {
            return Err(Failure::Rule(Rule::Changed));
        };
        let mut above = beneath::directory(self.tree, c".").map_err(call("opening the copy"))?;
        for component in components {
            above =
                beneath::directory(above.as_fd(), &component).map_err(call("opening the copy"))?;
        }
        linkat(&above, last.as_c_str(), to, name, AtFlags::empty()).map_err(call("linking it"))?;
        match beneath::status_of(to, name) {
            Ok(status) if status.st_ino == inode => Ok(()),
            Ok(_) => Err(Failure::Rule(Rule::Changed)),
            Err(errno) => Err(Failure::Call("looking at the copy", errno)),
        }
    }

    /// Copies the parts that hold data.
    fn fill(&mut self, source: &File, copy: &File, status: &FileStat) -> Result<(), Failure> {
        let mut at = 0;
        loop {
            let start = match lseek(source, at, Whence::SeekData) {
                // Nothing but a hole follows.
                Err(Errno::ENXIO) => break,
                start => start.map_err(call("looking for its data"))?,
            };
            let end = lseek(source, start, Whence::SeekHole).map_err(call("looking for holes"))?;
            self.fill_part(source, copy, start, end)?;
            at = end;
        }
        copy.set_len(length(status)).map_err(failed("writing it"))
    }

    fn fill_part(&mut self, source: &File, copy: &File, at: i64, end: i64) -> Result<(), Failure> {
        let unsigned = |offset| u64::try_from(offset).unwrap_or(0);
        let (mut at, end) = (unsigned(at), unsigned(end));
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK_BYTES);
            let wanted = wanted.min(CHUNK_BYTES);
            let chunk = self.buffer.get_mut(..wanted).unwrap_or_default();
            let read = source.read_at(chunk, at).map_err(failed("reading it"))?;
            if read == 0 {
                return Err(Failure::Rule(Rule::Changed));
            }
            let chunk = self.buffer.get(..read).unwrap_or_default();
            copy.write_all_at(chunk, at).map_err(failed("writing it"))?;
            at += read as u64;
        }
        Ok(())
    }

    fn owner(&self, status: &FileStat) -> Result<(Option<Uid>, Option<Gid>), Failure> {
        let (user, group) = (self.ids.shift(status.st_uid), self.ids.shift(status.st_gid));
        match (user, group) {
            (Some(user), Some(group)) => {
                Ok((Some(Uid::from_raw(user)), Some(Gid::from_raw(group))))
            }
            _ => Err(Failure::Rule(Rule::Id)),
        }
    }

    fn give(&self, file: BorrowedFd<'_>, status: &FileStat) -> Result<(), Failure> {
        let (user, group) = self.owner(status)?;
        fchown(file, user, group).map_err(call("giving it to the tenant"))
    }

    /// What comes after owner and content: both take some of it away.
    fn finish(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        status: &FileStat,
    ) -> Result<(), Failure> {
        self.copied.attributes_skipped += attributes::copy(from, to, self.ids)?;
        fchmod(to, beneath::mode(status)).map_err(call("setting its mode"))?;
        let (access, change) = times(status);
        futimens(to, &access, &change).map_err(call("setting its times"))
    }

    /// Owner and times of what is not opened.
    fn finish_name(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        status: &FileStat,
    ) -> Result<(), Failure> {
        let (user, group) = self.owner(status)?;
        fchownat(to, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(call("giving it to the tenant"))?;
        let (access, change) = times(status);
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(to, name, &access, &change, flag).map_err(call("setting its times"))
    }
}

fn times(status: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(status.st_atime, status.st_atime_nsec),
        TimeSpec::new(status.st_mtime, status.st_mtime_nsec),
    )
}

fn length(status: &FileStat) -> u64 {
    u64::try_from(status.st_size).unwrap_or(0)
}

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| {
        let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
        Failure::Call(doing, Errno::from_raw(errno))
    }
}

/// # Source
/// ioctl_ficlonerange(2)
fn reflink(errno: Errno) -> Failure {
    match errno {
        Errno::EOPNOTSUPP | Errno::EXDEV | Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS => {
            Failure::NoReflink(errno)
        }
        errno => Failure::Call("making a reflink of it", errno),
    }
}
