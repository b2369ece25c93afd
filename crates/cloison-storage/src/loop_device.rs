//! Loop devices: a file as a disk, for as long as something is mounted from it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;

use cloison_linux::disk::{self, loop_flag};
use cloison_linux::host;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use crate::volume::error::{Lacking, VolumeError, raw, step};

const CONTROL: &str = "/dev/loop-control";
/// How often another may take the device that was found free.
const TRIES: u32 = 256;

/// What may be done with what is mounted from a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Whether the host keeps a second copy of what is read and written: the pages
/// of the file beside those of what is mounted from it.
///
/// # Kernel
/// Direct I/O wants a file system that has it, and blocks of the device no
/// smaller than those of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCache {
    /// It keeps none: direct I/O.
    None,
    /// It keeps one. Whoever else reads that file is faster then.
    Kept,
}

/// A loop device that has a file. It lets the file go when it is neither open
/// nor mounted, whoever ended and how: the kernel counts.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    device: File,
    path: CString,
    pub(crate) cache: HostCache,
}

impl LoopDevice {
    /// A device of its own for `file`, which it keeps open, with its lock.
    pub(crate) fn over(file: &File, access: Access, block_bytes: u32) -> Result<Self, VolumeError> {
        let writable = access == Access::ReadWrite;
        let open = |path: &str| File::options().read(true).write(writable).open(path);
        let control = open(CONTROL).map_err(no_device)?;
        let read_only = if writable { 0 } else { loop_flag::READ_ONLY };
        let flags = loop_flag::AUTOCLEAR | loop_flag::DIRECT_IO | read_only;
        for _ in 0..TRIES {
            let number = disk::free_loop_device(control.as_fd())
                .map_err(|errno| no_device(raw(errno).into()))?;
            let path = format!("/dev/loop{number}");
            let device = open(&path).map_err(no_device)?;
            match disk::configure_loop_device(device.as_fd(), file.as_fd(), flags, block_bytes) {
                Ok(()) => {}
                // Another was faster.
                Err(errno) if raw(errno) == Errno::EBUSY => continue,
                Err(errno) => return Err(step("giving a loop device its file")(raw(errno))),
            }
            let flags = disk::loop_device_flags(device.as_fd())
                .map_err(raw)
                .map_err(step("reading a loop device's flags"))?;
            let cache = if flags & loop_flag::DIRECT_IO == 0 {
                HostCache::Kept
            } else {
                HostCache::None
            };
            let path = CString::new(path).unwrap_or_default();
            return Ok(Self {
                device,
                path,
                cache,
            });
        }
        Err(Lacking::LoopDevices.into())
    }

    /// Mounts what the device holds, without set-user-id bits and device nodes.
    /// The device stays as long as the mount.
    pub(crate) fn mount(
        self,
        kind: &'static CStr,
        options: &[(&CStr, Option<&CStr>)],
        attributes: u64,
    ) -> Result<OwnedFd, VolumeError> {
        let mut all: Vec<(&CStr, Option<&CStr>)> = vec![(c"source", Some(&self.path))];
        all.extend(options);
        let confined = host::attribute::NO_SUID | host::attribute::NO_DEV;
        let mount = host::new_mount(kind, &all, confined | attributes);
        drop(self.device);
        mount.map_err(|errno| match raw(errno) {
            Errno::ENODEV => Lacking::FileSystem(kind.to_str().unwrap_or_default()).into(),
            errno => step("mounting an image")(errno),
        })
    }
}

fn no_device(error: std::io::Error) -> VolumeError {
    let is_refused = matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied
    );
    let is_none = error.raw_os_error() == Some(Errno::ENXIO as i32);
    if is_refused || is_none {
        Lacking::LoopDevices.into()
    } else {
        step("opening a loop device")(error)
    }
}
