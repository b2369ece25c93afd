//! Calls about disks that nix lacks: loop devices, quotas of projects, attributes
//! of inodes, the growth of ext4.

extern crate std;

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::{Result, check, nr, raw};

/// Flags of a loop device.
///
/// # Source
/// include/uapi/linux/loop.h
pub mod loop_flag {
    /// No writing.
    pub const READ_ONLY: u32 = 1;
    /// It lets its file go with the last that has the device open.
    pub const AUTOCLEAR: u32 = 4;
    /// The host keeps no second copy of what is read and written.
    pub const DIRECT_IO: u32 = 16;
}

/// The number of a loop device that has no file, made if there was none.
/// Somebody else may take it before the caller does.
///
/// # Errors
/// ioctl(2): `LOOP_CTL_GET_FREE`.
///
/// # Kernel
/// 3.1.
pub fn free_loop_device(control: BorrowedFd<'_>) -> Result<u32> {
    const LOOP_CTL_GET_FREE: u64 = 0x4c82;
    let control = control.as_raw_fd() as u64;
    // SAFETY: numbers.
    let number = check(unsafe { raw(nr::IOCTL, [control, LOOP_CTL_GET_FREE, 0, 0, 0, 0]) })?;
    Ok(number as u32)
}

/// Gives a loop device its file, in one step with its flags ([`loop_flag`]) and
/// the length of its blocks; 0: what the kernel chooses. The device keeps the
/// open file itself, its lock of flock(2) included.
///
/// # Errors
/// ioctl(2): `LOOP_CONFIGURE`; `EBUSY` for a device that has a file.
///
/// # Kernel
/// 5.8.
pub fn configure_loop_device(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    flags: u32,
    block_bytes: u32,
) -> Result<()> {
    const LOOP_CONFIGURE: u64 = 0x4c0a;
    // struct loop_config: file and length of a block, then struct loop_info64
    // with the flags in the second half of its seventh word.
    let mut config: [u64; 38] = [0; 38];
    config[0] = file.as_raw_fd() as u64 | u64::from(block_bytes) << 32;
    config[7] = u64::from(flags) << 32;
    let config_at = config.as_ptr() as u64;
    let device = device.as_raw_fd() as u64;
    // SAFETY: a live structure of the length that the kernel reads.
    check(unsafe { raw(nr::IOCTL, [device, LOOP_CONFIGURE, config_at, 0, 0, 0]) }).map(|_| ())
}

/// The flags that a loop device has.
///
/// # Errors
/// ioctl(2): `LOOP_GET_STATUS64`; `ENXIO` for one without a file.
pub fn loop_device_flags(device: BorrowedFd<'_>) -> Result<u32> {
    const LOOP_GET_STATUS64: u64 = 0x4c05;
    let mut status: [u64; 29] = [0; 29];
    let status_at = &raw mut status as u64;
    let device = device.as_raw_fd() as u64;
    // SAFETY: a live structure of the length that the kernel writes.
    check(unsafe { raw(nr::IOCTL, [device, LOOP_GET_STATUS64, status_at, 0, 0, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let status = unsafe { core::ptr::read_volatile(&raw const status) };
    Ok((status[6] >> 32) as u32)
}

/// What a project may have, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectQuota {
    /// The most that it may have, in KiB; 0: no bound.
    pub kibibytes_max: u64,
    /// The most inodes; 0: no bound.
    pub inodes_max: u64,
    /// The inodes that it has.
    pub inodes: u64,
}

/// Quotas are kept by the kind of their owner: here the project.
const PROJECTS: u64 = 2;

/// The quota of a project on the file system of `directory`.
///
/// # Errors
/// quotactl(2): `ESRCH` where quotas of projects are off, `ENOSYS` where the
/// file system or the kernel has none.
///
/// # Kernel
/// 5.14, `CAP_SYS_ADMIN`.
pub fn project_quota(directory: BorrowedFd<'_>, project: u32) -> Result<ProjectQuota> {
    const Q_GETQUOTA: u64 = 0x80_0007;
    let command = Q_GETQUOTA << 8 | PROJECTS;
    // struct if_dqblk: most and soft blocks, bytes, most and soft inodes,
    // inodes, times, what is valid.
    let mut quota: [u64; 9] = [0; 9];
    let quota_at = &raw mut quota as u64;
    let directory = directory.as_raw_fd() as u64;
    let project = u64::from(project);
    // SAFETY: a live structure of the length that the kernel writes.
    check(unsafe {
        raw(
            nr::QUOTACTL_FD,
            [directory, command, project, quota_at, 0, 0],
        )
    })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let quota = unsafe { core::ptr::read_volatile(&raw const quota) };
    Ok(ProjectQuota {
        kibibytes_max: quota[0],
        inodes_max: quota[3],
        inodes: quota[5],
    })
}

/// Bounds a project on the file system of `directory`.
///
/// # Errors
/// As [`project_quota`].
///
/// # Kernel
/// As [`project_quota`].
pub fn set_project_quota(
    directory: BorrowedFd<'_>,
    project: u32,
    kibibytes_max: u64,
    inodes_max: u64,
) -> Result<()> {
    const Q_SETQUOTA: u64 = 0x80_0008;
    /// `QIF_LIMITS`.
    const LIMITS: u64 = 1 | 4;
    let command = Q_SETQUOTA << 8 | PROJECTS;
    let quota: [u64; 9] = [kibibytes_max, 0, 0, inodes_max, 0, 0, 0, 0, LIMITS];
    let quota_at = quota.as_ptr() as u64;
    let directory = directory.as_raw_fd() as u64;
    let project = u64::from(project);
    // SAFETY: a live structure of the length that the kernel reads.
    check(unsafe {
        raw(
            nr::QUOTACTL_FD,
            [directory, command, project, quota_at, 0, 0],
        )
    })
    .map(|_| ())
}

/// Whether the file system of `directory` keeps to the quotas of projects:
/// it may count alone.
///
/// # Errors
/// As [`project_quota`].
///
/// # Kernel
/// As [`project_quota`].
///
/// # Source
/// include/uapi/linux/dqblk_xfs.h
pub fn enforces_project_quotas(directory: BorrowedFd<'_>) -> Result<bool> {
    const Q_XGETQSTATV: u64 = 0x5808;
    const VERSION: u64 = 1;
    const FS_QUOTA_PDQ_ENFD: u64 = 1 << 5;
    let command = Q_XGETQSTATV << 8 | PROJECTS;
    // struct fs_quota_statv: its version in the first byte, flags from the
    // third.
    let mut state: [u64; 20] = [0; 20];
    state[0] = VERSION;
    let state_at = &raw mut state as u64;
    let directory = directory.as_raw_fd() as u64;
    // SAFETY: a live structure of the length that the kernel writes.
    check(unsafe { raw(nr::QUOTACTL_FD, [directory, command, 0, state_at, 0, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let state = unsafe { core::ptr::read_volatile(&raw const state) };
    Ok(state[0] >> 16 & FS_QUOTA_PDQ_ENFD != 0)
}

/// struct fsxattr: flags, two hints with a count between them, the project.
type Attributes = [u32; 7];

fn attributes(inode: BorrowedFd<'_>) -> Result<Attributes> {
    const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
    let mut attributes: Attributes = [0; 7];
    let attributes_at = &raw mut attributes as u64;
    let inode = inode.as_raw_fd() as u64;
    // SAFETY: a live structure of the length that the request's number names.
    check(unsafe {
        raw(
            nr::IOCTL,
            [inode, FS_IOC_FSGETXATTR, attributes_at, 0, 0, 0],
        )
    })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    Ok(unsafe { core::ptr::read_volatile(&raw const attributes) })
}

/// The project of a file or directory.
///
/// # Errors
/// ioctl(2): `FS_IOC_FSGETXATTR`; `ENOTTY` where there is none.
///
/// # Kernel
/// 4.5.
pub fn project(inode: BorrowedFd<'_>) -> Result<u32> {
    Ok(attributes(inode)?[3])
}

/// Gives a directory, and all that is made in it, to a project.
///
/// # Errors
/// ioctl(2): `FS_IOC_FSSETXATTR`; `EOPNOTSUPP` where there are no projects.
///
/// # Kernel
/// 4.5; from the first user namespace alone.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<()> {
    const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
    const FS_XFLAG_PROJINHERIT: u32 = 0x200;
    let mut attributes = attributes(directory)?;
    attributes[0] |= FS_XFLAG_PROJINHERIT;
    attributes[3] = project;
    let attributes_at = attributes.as_ptr() as u64;
    let directory = directory.as_raw_fd() as u64;
    // SAFETY: a live structure of the length that the request's number names.
    check(unsafe {
        raw(
            nr::IOCTL,
            [directory, FS_IOC_FSSETXATTR, attributes_at, 0, 0, 0],
        )
    })
    .map(|_| ())
}

/// Has an empty file written in place, where its file system would write
/// elsewhere each time.
///
/// # Errors
/// ioctl_iflags(2): `EOPNOTSUPP` where there is no such flag.
pub fn write_in_place(file: BorrowedFd<'_>) -> Result<()> {
    const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const FS_NOCOW_FL: u64 = 0x80_0000;
    let mut flags: u64 = 0;
    let flags_at = &raw mut flags as u64;
    let file = file.as_raw_fd() as u64;
    // SAFETY: a live word to write.
    check(unsafe { raw(nr::IOCTL, [file, FS_IOC_GETFLAGS, flags_at, 0, 0, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let flags = unsafe { core::ptr::read_volatile(&raw const flags) } | FS_NOCOW_FL;
    let flags_at = &raw const flags as u64;
    // SAFETY: a live word to read.
    check(unsafe { raw(nr::IOCTL, [file, FS_IOC_SETFLAGS, flags_at, 0, 0, 0]) }).map(|_| ())
}

/// Grows the mounted ext4 of `directory` to that many blocks.
///
/// # Errors
/// ioctl(2): `EXT4_IOC_RESIZE_FS`; `EPERM` without `CAP_SYS_RESOURCE`.
///
/// # Kernel
/// 3.3, `CAP_SYS_RESOURCE`.
pub fn grow_ext4(directory: BorrowedFd<'_>, blocks: u64) -> Result<()> {
    const EXT4_IOC_RESIZE_FS: u64 = 0x4008_6610;
    let blocks_at = &raw const blocks as u64;
    let directory = directory.as_raw_fd() as u64;
    // SAFETY: a live word to read.
    check(unsafe {
        raw(
            nr::IOCTL,
            [directory, EXT4_IOC_RESIZE_FS, blocks_at, 0, 0, 0],
        )
    })
    .map(|_| ())
}
