//! Making what an entry says, beneath the tree's descriptor.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::attributes::Attributes;
use super::entries::{Entries, Entry, Kind};
use super::error::{Error, Limit, Rule};
use super::names::Place;
use super::{Options, Owners, Unpacked};
use crate::beneath;
use crate::devices::Devices;

/// How much is remembered of directories at most.
const REMEMBERED_BYTES_MAX: u64 = 256 << 20;
/// How much of a file is read at once.
const CHUNK_BYTES: usize = 1 << 17;
/// The most bytes of a symbolic link's target, which a path's are.
const TARGET_BYTES_MAX: usize = 4095;

/// What a directory gets at the end, when nothing is made in it any more.
#[derive(Debug)]
struct Finish {
    mode: u32,
    owner: Option<(u32, u32)>,
    time: Option<TimeSpec>,
    attributes: Attributes,
}

/// Why one entry was not made.
enum Failure {
    Rule(Rule),
    Limit(Limit, u64),
    Call(&'static str, Errno),
    /// Of its content.
    Content(Error),
}

type Made<T = ()> = Result<T, Failure>;

fn call(doing: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::Call(doing, errno)
}

pub(super) struct Maker<'a> {
    tree: BorrowedFd<'a>,
    options: &'a Options,
    unpacked: Unpacked,
    /// The inodes of the regular files that were made: all are on one file system,
    /// because no mount is crossed.
    files: HashSet<u64>,
    directories: BTreeMap<CString, Finish>,
    remembered: u64,
    /// The directory that was last needed.
    last: Option<(CString, Rc<OwnedFd>)>,
    buffer: Vec<u8>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(tree: BorrowedFd<'a>, options: &'a Options, unpacked: Unpacked) -> Self {
        Self {
            tree,
            options,
            unpacked,
            files: HashSet::new(),
            directories: BTreeMap::new(),
            remembered: 0,
            last: None,
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    /// Makes what an entry says, its content read from `entries`.
    pub(super) fn make<R: Read>(
        &mut self,
        entry: Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), Error> {
        let made = self.entry(entry, entries);
        made.map_err(|failure| told(failure, entries))
    }

    fn entry<R: Read>(&mut self, entry: Entry, entries: &mut Entries<R>) -> Made {
        let place = self.place(&entry)?;
        self.unpacked.entries += 1;
        self.unpacked.attributes_ignored += entry.ignored;
        if place.is_top() {
            return match entry.kind {
                Kind::Directory => self.directory(&place, entry),
                _ => Err(Failure::Rule(Rule::Top)),
            };
        }
        match entry.kind {
            Kind::Device => match self.options.devices {
                Devices::Refuse => Err(Failure::Rule(Rule::Device)),
                Devices::Skip => {
                    self.unpacked.devices_skipped += 1;
                    Ok(())
                }
            },
            Kind::Directory => self.directory(&place, entry),
            Kind::Regular => self.regular(&place, entry, entries),
            Kind::Symbolic => self.symbolic(&place, &entry),
            Kind::Hard => self.hard(&place, &entry),
            Kind::Fifo => self.fifo(&place, &entry),
        }
    }

    /// Where it goes.
    fn place(&self, entry: &Entry) -> Made<Place> {
        let limits = &self.options.limits;
        if entry.name.len() as u64 > limits.path_bytes_max {
            return Err(Failure::Limit(Limit::PathBytes, limits.path_bytes_max));
        }
        let place = Place::new(&entry.name).map_err(Failure::Rule)?;
        if place.depth() as u64 > limits.depth_max {
            return Err(Failure::Limit(Limit::Depth, limits.depth_max));
        }
        if entry.name.ends_with(b"/") && entry.kind != Kind::Directory {
            return Err(Failure::Rule(Rule::TrailingSlash));
        }
        Ok(place)
    }

    /// The directory that `place` is in, made if it is missing.
    fn parent(&mut self, place: &Place) -> Made<Rc<OwnedFd>> {
        let Some(parent) = place.parent() else {
            return Err(Failure::Rule(Rule::Top));
        };
        match self.open(&parent) {
            Err(Failure::Call(_, Errno::ENOENT)) => {}
            opened => return opened,
        }
        let above = self.parent(&parent)?;
        mkdirat(&above, parent.name(), Mode::S_IRWXU).map_err(call("making a directory above"))?;
        self.unpacked.directories_implied += 1;
        let implied = Finish {
            mode: 0o755,
            owner: None,
            time: None,
            attributes: Attributes::default(),
        };
        self.remember(&parent, implied)?;
        self.open(&parent)
    }

    /// Opens a directory of the tree.
    fn open(&mut self, place: &Place) -> Made<Rc<OwnedFd>> {
        if let Some((path, directory)) = &self.last
            && path.as_c_str() == place.path()
        {
            return Ok(Rc::clone(directory));
        }
        let path = if place.is_top() { c"." } else { place.path() };
        match beneath::directory(self.tree, path) {
            Ok(directory) => {
                let directory = Rc::new(directory);
                self.last = Some((place.path().to_owned(), Rc::clone(&directory)));
                Ok(directory)
            }
            Err(Errno::ELOOP) => Err(Failure::Rule(Rule::BeneathLink)),
            Err(Errno::ENOTDIR) => Err(Failure::Rule(self.file_or_link(place))),
            Err(errno) => Err(Failure::Call("opening the directory above", errno)),
        }
    }

    /// What stands where a directory should: the kernel says of a link at the very
    /// end of a path only that it is none.
    fn file_or_link(&self, place: &Place) -> Rule {
        let named = beneath::named(self.tree, place.path());
        let status = named.and_then(|named| beneath::status(&named));
        match status.map(|status| beneath::kind(&status)) {
            Ok(SFlag::S_IFLNK) => Rule::BeneathLink,
            _ => Rule::BeneathFile,
        }
    }

    /// Takes away what is in the place of something that is no directory.
    fn clear(&mut self, parent: BorrowedFd<'_>, place: &Place) -> Made {
        let status = match beneath::status_of(parent, place.name()) {
            Ok(status) => status,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Failure::Call("looking at what it replaces", errno)),
        };
        self.unpacked.replaced += 1;
        let flag = if beneath::kind(&status) == SFlag::S_IFDIR {
            self.last = None;
            self.directories.remove(place.path());
            UnlinkatFlags::RemoveDir
        } else {
            self.forget(&status);
            UnlinkatFlags::NoRemoveDir
        };
        match unlinkat(parent, place.name(), flag) {
            Err(Errno::ENOTEMPTY) => Err(Failure::Rule(Rule::FullDirectory)),
            removed => removed.map_err(call("removing what it replaces")),
        }
    }

    /// The number of an inode that goes away may come back as another's.
    fn forget(&mut self, status: &FileStat) {
        if status.st_nlink == 1 {
            self.files.remove(&status.st_ino);
        }
    }

    fn remember(&mut self, place: &Place, finish: Finish) -> Made {
        /// What the map itself takes for each.
        const OVERHEAD_BYTES: u64 = 128;
        let bytes = place.bytes().len() as u64 + finish.attributes.bytes() + OVERHEAD_BYTES;
        self.remembered += bytes;
        if self.remembered > REMEMBERED_BYTES_MAX {
            return Err(Failure::Limit(Limit::Remembered, REMEMBERED_BYTES_MAX));
        }
        self.directories.insert(place.path().to_owned(), finish);
        Ok(())
    }

    fn attributes(&mut self, entry: &mut Entry) -> Made<Attributes> {
        let all = std::mem::take(&mut entry.attributes);
        let attributes = Attributes::new(all, self.options.owners).map_err(Failure::Rule)?;
        self.unpacked.attributes_ignored += attributes.ignored;
        Ok(attributes)
    }

    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        match self.options.owners {
            Owners::Archive => Some((entry.user, entry.group)),
            Owners::Caller => None,
        }
    }

    fn directory(&mut self, place: &Place, mut entry: Entry) -> Made {
        if !place.is_top() {
            let parent = self.parent(place)?;
            let is_there = match beneath::status_of(parent.as_fd(), place.name()) {
                Ok(status) => beneath::kind(&status) == SFlag::S_IFDIR,
                Err(Errno::ENOENT) => false,
                Err(errno) => return Err(Failure::Call("looking at what it replaces", errno)),
            };
            if !is_there {
                self.clear(parent.as_fd(), place)?;
                mkdirat(&parent, place.name(), Mode::S_IRWXU)
                    .map_err(call("making the directory"))?;
            }
        }
        self.unpacked.directories += 1;
        let finish = Finish {
            mode: entry.mode,
            owner: self.owner(&entry),
            time: Some(entry.time),
            attributes: self.attributes(&mut entry)?,
        };
        self.remember(place, finish)
    }

    fn regular<R: Read>(
        &mut self,
        place: &Place,
        mut entry: Entry,
        entries: &mut Entries<R>,
    ) -> Made {
        let max = self.options.limits.bytes_max;
        match self.unpacked.bytes.checked_add(entry.bytes) {
            Some(bytes) if bytes <= max => self.unpacked.bytes = bytes,
            _ => return Err(Failure::Limit(Limit::Bytes, max)),
        }
        let attributes = self.attributes(&mut entry)?;
        let parent = self.parent(place)?;
        self.clear(parent.as_fd(), place)?;
        let file = beneath::new_file(parent.as_fd(), place.name()).map_err(call("making it"))?;
        let status = beneath::status(&file).map_err(call("looking at it"))?;
        self.files.insert(status.st_ino);
        self.unpacked.files += 1;
        let file = File::from(file);
        self.fill(&file, &entry, entries)?;
        if let Some((user, group)) = self.owner(&entry) {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            fchown(&file, Some(user), Some(group)).map_err(call("giving it to its owner"))?;
        }
        attributes
            .set(file.as_fd())
            .map_err(call("setting its attributes"))?;
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmod(&file, mode).map_err(call("setting its mode"))?;
        futimens(&file, &entry.time, &entry.time).map_err(call("setting its time"))
    }

    fn fill<R: Read>(&mut self, file: &File, entry: &Entry, entries: &mut Entries<R>) -> Made {
        let errno = |error: std::io::Error| {
            let number = error.raw_os_error().unwrap_or(Errno::EIO as i32);
            Failure::Call("writing it", Errno::from_raw(number))
        };
        for segment in &entry.segments {
            let (mut at, mut left) = (segment.offset, segment.bytes);
            while left > 0 {
                let wanted = usize::try_from(left)
                    .unwrap_or(CHUNK_BYTES)
                    .min(CHUNK_BYTES);
                let chunk = self.buffer.get_mut(..wanted).unwrap_or_default();
                let read = entries.read_content(chunk).map_err(Failure::Content)?;
                // The map holds exactly the content.
                if read == 0 {
                    return Err(Failure::Call("reading its content", Errno::EPROTO));
                }
                let chunk = self.buffer.get(..read).unwrap_or_default();
                file.write_all_at(chunk, at).map_err(errno)?;
                at += read as u64;
                left -= read as u64;
            }
        }
        file.set_len(entry.bytes).map_err(errno)
    }

    fn symbolic(&mut self, place: &Place, entry: &Entry) -> Made {
        let is_right = !entry.link.is_empty() && entry.link.len() <= TARGET_BYTES_MAX;
        let target = CString::new(entry.link.as_slice())
            .ok()
            .filter(|_| is_right);
        let target = target.ok_or(Failure::Rule(Rule::LinkTarget))?;
        let parent = self.parent(place)?;
        self.clear(parent.as_fd(), place)?;
        symlinkat(target.as_c_str(), &parent, place.name()).map_err(call("making it"))?;
        self.unpacked.symbolic_links += 1;
        self.finish_name(parent.as_fd(), place.name(), entry)
    }

    fn fifo(&mut self, place: &Place, entry: &Entry) -> Made {
        let parent = self.parent(place)?;
        self.clear(parent.as_fd(), place)?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknodat(&parent, place.name(), SFlag::S_IFIFO, mode, 0).map_err(call("making it"))?;
        self.unpacked.fifos += 1;
        self.finish_name(parent.as_fd(), place.name(), entry)?;
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(&parent, place.name(), mode, FchmodatFlags::NoFollowSymlink)
            .map_err(call("setting its mode"))
    }

    /// Owner and time of what is not opened.
    fn finish_name(&self, parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Made {
        if let Some((user, group)) = self.owner(entry) {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            let flag = AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(parent, name, Some(user), Some(group), flag)
                .map_err(call("giving it to its owner"))?;
        }
        let (time, flag) = (&entry.time, UtimensatFlags::NoFollowSymlink);
        utimensat(parent, name, time, time, flag).map_err(call("setting its time"))
    }

    fn hard(&mut self, place: &Place, entry: &Entry) -> Made {
        let limits = &self.options.limits;
        if entry.link.len() as u64 > limits.path_bytes_max {
            return Err(Failure::Limit(Limit::PathBytes, limits.path_bytes_max));
        }
        let target = Place::new(&entry.link).map_err(|_| Failure::Rule(Rule::HardLinkName))?;
        if target == *place {
            return Err(Failure::Rule(Rule::HardLinkToItself));
        }
        let refused = Failure::Rule(Rule::HardLinkTarget);
        let Some(above) = target.parent() else {
            return Err(refused);
        };
        let Ok(from) = self.open(&above) else {
            return Err(refused);
        };
        let is_ours = |files: &HashSet<u64>, status: Result<FileStat, Errno>| {
            status.is_ok_and(|status| {
                beneath::kind(&status) == SFlag::S_IFREG && files.contains(&status.st_ino)
            })
        };
        if !is_ours(&self.files, beneath::status_of(from.as_fd(), target.name())) {
            return Err(refused);
        }
        let parent = self.parent(place)?;
        self.clear(parent.as_fd(), place)?;
        linkat(
            &from,
            target.name(),
            &parent,
            place.name(),
            AtFlags::empty(),
        )
        .map_err(call("linking it"))?;
        // Whoever swapped it meanwhile has another file of his own there.
        if !is_ours(
            &self.files,
            beneath::status_of(parent.as_fd(), place.name()),
        ) {
            unlinkat(&parent, place.name(), UnlinkatFlags::NoRemoveDir)
                .map_err(call("removing a link to another file"))?;
            return Err(refused);
        }
        self.unpacked.hard_links += 1;
        Ok(())
    }

    /// Gives the directories what is theirs, the deepest first.
    pub(super) fn finish<R: Read>(mut self, entries: &Entries<R>) -> Result<Unpacked, Error> {
        let directories = std::mem::take(&mut self.directories);
        for (path, finish) in directories.iter().rev() {
            self.finish_directory(path, finish)
                .map_err(|failure| told(failure, entries))?;
        }
        Ok(self.unpacked)
    }

    fn finish_directory(&self, path: &CStr, finish: &Finish) -> Made {
        let path = if path.is_empty() { c"." } else { path };
        let directory = beneath::directory(self.tree, path)
            .map_err(call("opening a directory to finish it"))?;
        if let Some((user, group)) = finish.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            fchown(&directory, Some(user), Some(group))
                .map_err(call("giving a directory to its owner"))?;
        }
        finish
            .attributes
            .set(directory.as_fd())
            .map_err(call("setting a directory's attributes"))?;
        let mode = Mode::from_bits_truncate(finish.mode);
        fchmod(&directory, mode).map_err(call("setting a directory's mode"))?;
        match &finish.time {
            Some(time) => {
                futimens(&directory, time, time).map_err(call("setting a directory's time"))
            }
            None => Ok(()),
        }
    }
}

fn told<R: Read>(failure: Failure, entries: &Entries<R>) -> Error {
    match failure {
        Failure::Rule(rule) => entries.refused(rule),
        Failure::Limit(limit, max) => entries.limit(limit, max),
        Failure::Call(doing, errno) => Error::Call {
            entry: entries.number,
            name: entries.name.clone(),
            doing,
            errno,
        },
        Failure::Content(error) => error,
    }
}
