//! The list of mounts that a process sees.

use std::os::fd::AsFd;
use std::path::Path;

use cloison_linux::host;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::escaped;
use super::fields::{decimal, lines};

/// One line of `/proc/PID/mountinfo`, its fields still with the kernel's
/// escapes.
///
/// # Source
/// proc_pid_mountinfo(5)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountLine<'a> {
    /// The number of the file system's device.
    pub(crate) device: u64,
    /// The directory of the file system that is the root of the mount.
    pub(crate) root: &'a [u8],
    /// Where it stands beneath the root of the process.
    pub(crate) mount_point: &'a [u8],
    /// The options of the mount.
    pub(crate) options: &'a [u8],
    /// Whether it shares or receives mounts, or must not be bound.
    pub(crate) is_propagating: bool,
    /// The file system.
    pub(crate) fs_type: &'a [u8],
    /// The options of the file system.
    pub(crate) super_options: &'a [u8],
}

/// Each line of `text`; `None` for one that is not in the form.
pub(crate) fn mounts(text: &[u8]) -> impl Iterator<Item = Option<MountLine<'_>>> {
    lines(text).map(mount)
}

fn mount(line: &[u8]) -> Option<MountLine<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (_id, _parent) = (fields.next()?, fields.next()?);
    let device = device(fields.next()?)?;
    let (root, mount_point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let mut is_propagating = false;
    loop {
        match fields.next()? {
            b"-" => break,
            // Marks of a kernel newer than this code count as propagation:
            // they are then a difference, not overlooked.
            _mark => is_propagating = true,
        }
    }
    let (fs_type, _source) = (fields.next()?, fields.next()?);
    Some(MountLine {
        device,
        root,
        mount_point,
        options,
        is_propagating,
        fs_type,
        super_options: fields.next()?,
    })
}

/// The file system of the mount that a path of the host leads to.
pub(crate) fn file_system_of(path: &Path) -> Option<String> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let opened = open(path, flags, Mode::empty()).ok()?;
    let mount = host::entry(opened.as_fd(), c"").ok()?.mount;
    let text = std::fs::read("/proc/self/mountinfo").ok()?;
    let line = lines(&text).find(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        fields.next().and_then(decimal) == Some(mount)
    })?;
    Some(escaped(self::mount(line)?.fs_type))
}

/// The number that stat(2) gives for `major:minor`.
fn device(field: &[u8]) -> Option<u64> {
    let mut parts = field.split(|byte| *byte == b':');
    let (major, minor) = (decimal(parts.next()?)?, decimal(parts.next()?)?);
    parts
        .next()
        .is_none()
        .then(|| nix::sys::stat::makedev(major, minor))
}

/// The words of a list of options.
pub(crate) fn options(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',')
}

/// `field` without the kernel's octal escapes. What is no whole escape stays.
pub(crate) fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match after {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                beyond @ ..,
            ] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = beyond;
            }
            _ => bytes.push(first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_of_a_line_is_found() {
        let text = b"36 31 0:33 /a /m\\040n ro,nosuid shared:7 master:2 - cgroup  rw,cpu,cpuacct\n";
        let line = mounts(text).next().flatten();
        assert_eq!(
            line,
            Some(MountLine {
                device: nix::sys::stat::makedev(0, 33),
                root: b"/a",
                mount_point: b"/m\\040n",
                options: b"ro,nosuid",
                is_propagating: true,
                fs_type: b"cgroup",
                super_options: b"rw,cpu,cpuacct",
            })
        );
        let private = b"1 1 8:1 / / rw - ext4 /dev/x rw";
        assert!(mounts(private).flatten().all(|line| !line.is_propagating));
    }

    #[test]
    fn odd_lines_are_no_mounts() {
        for odd in [
            &b"garbage"[..],
            b"1 2 x:y / / rw - t s o",
            b"1 2 0:1 / / rw t s o",
            b"1 2 0:1:2 / / rw - t s o",
            b"1 2 0:1 / / rw - t s",
            b"\xff\xfe\x00",
        ] {
            assert_eq!(mounts(odd).next(), Some(None), "{odd:?}");
        }
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescaped(b"/a\\040b\\134040"), b"/a b\\040");
        assert_eq!(unescaped(b"\\04"), b"\\04");
        assert_eq!(unescaped(b"\\777\\"), b"\\777\\");
    }
}
