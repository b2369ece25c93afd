//! Calls of the parent's side that nix lacks, on owned descriptors.
//!
//! The one module that knows std, for its descriptor types.

extern crate std;

use core::ffi::CStr;
use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::vec::Vec;

use crate::clone::make_child;
use crate::message::Answer;
use crate::steps::{Image, Report};
use crate::sys::{Errno, Result, by_value, check, nr, raw};

const CLOEXEC: u64 = 0o2_000_000;
const AT_FDCWD: u64 = -100_i64 as u64;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_RECURSIVE: u64 = 0x8000;

/// Attributes of a mount, for `fsmount(2)` and `mount_setattr(2)`.
pub mod attribute {
    /// No writing.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities mean nothing.
    pub const NO_SUID: u64 = 0x2;
    /// Device nodes do not open.
    pub const NO_DEV: u64 = 0x4;
    /// Nothing executes.
    pub const NO_EXEC: u64 = 0x8;
    /// No path goes through a symbolic link of it.
    pub const NO_SYMFOLLOW: u64 = 0x20_0000;
    /// Ids are shifted by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
}

fn owned(result: i64) -> Result<OwnedFd> {
    let descriptor = check(result)? as RawFd;
    // SAFETY: the call just made returned a new descriptor, which nothing
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn at(directory: Option<BorrowedFd<'_>>) -> u64 {
    directory.map_or(AT_FDCWD, |fd| fd.as_raw_fd() as u64)
}

/// Whether the mounts beneath one come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// That mount alone.
    One,
    /// Those beneath it, too.
    Beneath,
}

/// A detached copy of the mount at `path` beneath `directory`, or of
/// `directory` itself where `path` is empty. Good for one attachment.
///
/// # Errors
/// open_tree(2).
///
/// # Kernel
/// 5.2, `CAP_SYS_ADMIN`.
pub fn open_tree(directory: Option<BorrowedFd<'_>>, path: &CStr, reach: Reach) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: u64 = 1;
    let reach = match reach {
        Reach::One => 0,
        Reach::Beneath => AT_RECURSIVE,
    };
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | reach;
    let path = path.as_ptr() as u64;
    // SAFETY: a string and numbers.
    owned(unsafe { raw(nr::OPEN_TREE, [at(directory), path, flags, 0, 0, 0]) })
}

/// Sets and clears attributes of a mount and makes it private: a copy of a mount
/// that the host shares would pass mounts on. With `user_namespace`, maps ids.
///
/// # Errors
/// mount_setattr(2).
///
/// # Kernel
/// 5.12.
pub fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    user_namespace: Option<BorrowedFd<'_>>,
    reach: Reach,
) -> Result<()> {
    const MS_PRIVATE: u64 = 1 << 18;
    // struct mount_attr: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [
        set,
        clear,
        MS_PRIVATE,
        user_namespace.map_or(0, |n| n.as_raw_fd() as u64),
    ];
    let reach = match reach {
        Reach::One => 0,
        Reach::Beneath => AT_RECURSIVE,
    };
    let empty = c"".as_ptr() as u64;
    let attributes_at = attributes.as_ptr() as u64;
    let mount = mount.as_raw_fd() as u64;
    let flags = AT_EMPTY_PATH | reach;
    // SAFETY: a live structure with its length, a string and numbers.
    check(unsafe {
        raw(
            nr::MOUNT_SETATTR,
            [mount, empty, flags, attributes_at, 32, 0],
        )
    })
    .map(|_| ())
}

/// Whether a type of file system takes a flag among its options; nothing is
/// made or mounted.
///
/// # Errors
/// fsopen(2), fsconfig(2): `EINVAL` for a flag that it does not know.
///
/// # Kernel
/// 5.2, `CAP_SYS_ADMIN`.
pub fn takes_option(kind: &CStr, flag: &CStr) -> Result<()> {
    const CLOEXEC_FLAG: u64 = 1;
    // SAFETY: a string and a number.
    let context =
        owned(unsafe { raw(nr::FSOPEN, [kind.as_ptr() as u64, CLOEXEC_FLAG, 0, 0, 0, 0]) })?;
    let (number, flag) = (context.as_raw_fd() as u64, flag.as_ptr() as u64);
    // SAFETY: FSCONFIG_SET_FLAG takes a string.
    check(unsafe { raw(nr::FSCONFIG, [number, 0, flag, 0, 0, 0]) }).map(|_| ())
}

/// A new file system's mount, detached: its type, its options as key and
/// value (no value: a flag), its attributes.
///
/// # Errors
/// fsopen(2), fsconfig(2), fsmount(2).
///
/// # Kernel
/// 5.2, `CAP_SYS_ADMIN`.
pub fn new_mount(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: u64,
) -> Result<OwnedFd> {
    const CLOEXEC_FLAG: u64 = 1;
    // SAFETY: a string and a number.
    let context =
        owned(unsafe { raw(nr::FSOPEN, [kind.as_ptr() as u64, CLOEXEC_FLAG, 0, 0, 0, 0]) })?;
    let number = context.as_raw_fd() as u64;
    for (key, value) in options {
        // FSCONFIG_SET_STRING or FSCONFIG_SET_FLAG.
        let (command, value) = match value {
            Some(value) => (1, value.as_ptr() as u64),
            None => (0, 0),
        };
        let key = key.as_ptr() as u64;
        // SAFETY: strings and numbers.
        check(unsafe { raw(nr::FSCONFIG, [number, command, key, value, 0, 0]) })?;
    }
    // SAFETY: FSCONFIG_CMD_CREATE takes numbers.
    check(unsafe { raw(nr::FSCONFIG, [number, 6, 0, 0, 0, 0]) })?;
    // SAFETY: numbers.
    owned(unsafe { raw(nr::FSMOUNT, [number, CLOEXEC_FLAG, attributes, 0, 0, 0]) })
}

/// Attaches a detached mount on `path` beneath `directory`.
///
/// # Errors
/// move_mount(2).
///
/// # Kernel
/// 5.2, `CAP_SYS_ADMIN`.
pub fn move_mount(
    mount: BorrowedFd<'_>,
    directory: Option<BorrowedFd<'_>>,
    path: &CStr,
) -> Result<()> {
    const F_EMPTY_PATH: u64 = 0x04;
    const T_EMPTY_PATH: u64 = 0x40;
    let empty = c"".as_ptr() as u64;
    let mount = mount.as_raw_fd() as u64;
    let path = path.as_ptr() as u64;
    let flags = F_EMPTY_PATH | T_EMPTY_PATH;
    // SAFETY: strings and numbers.
    check(unsafe {
        raw(
            nr::MOVE_MOUNT,
            [mount, empty, at(directory), path, flags, 0],
        )
    })
    .map(|_| ())
}

/// An anonymous file whose content will be executed, close-on-exec.
///
/// # Errors
/// memfd_create(2).
///
/// # Kernel
/// 3.17; from 6.3 it is made with `MFD_EXEC`.
pub fn executable_memfd(name: &CStr) -> Result<OwnedFd> {
    /// `MFD_CLOEXEC | MFD_ALLOW_SEALING`.
    const FLAGS: u64 = 1 | 2;
    const MFD_EXEC: u64 = 0x10;
    let name = name.as_ptr() as u64;
    // SAFETY: a string and numbers.
    let make = |flags| owned(unsafe { raw(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0]) });
    match make(FLAGS | MFD_EXEC) {
        Err(Errno::EINVAL) => make(FLAGS),
        made => made,
    }
}

/// The kernel's Landlock ABI version.
///
/// # Errors
/// landlock_create_ruleset(2): `ENOSYS` not built, `EOPNOTSUPP` off.
///
/// # Kernel
/// 5.13.
pub fn landlock_abi() -> Result<i64> {
    const VERSION: u64 = 1;
    // SAFETY: no structure, by the flag.
    check(unsafe { raw(nr::LANDLOCK_CREATE_RULESET, [0, 0, VERSION, 0, 0, 0]) })
}

/// What a Landlock ruleset handles, each a mask of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub files: u64,
    /// `LANDLOCK_ACCESS_NET_*`, from ABI 4.
    pub network: u64,
    /// `LANDLOCK_SCOPE_*`, from ABI 6.
    pub scope: u64,
}

/// A new ruleset.
///
/// # Errors
/// landlock_create_ruleset(2).
///
/// # Kernel
/// 5.13; 6.7 for network, 6.12 for scope.
pub fn landlock_ruleset(handled: Handled) -> Result<OwnedFd> {
    let attributes: [u64; 3] = [handled.files, handled.network, handled.scope];
    // Older kernels refuse trailing parts that are not zero, and know a
    // shorter structure.
    let length = match handled {
        Handled { scope: 1.., .. } => 24,
        Handled { network: 1.., .. } => 16,
        Handled { .. } => 8,
    };
    let attributes_at = attributes.as_ptr() as u64;
    // SAFETY: a live structure with its length.
    owned(unsafe {
        raw(
            nr::LANDLOCK_CREATE_RULESET,
            [attributes_at, length, 0, 0, 0, 0],
        )
    })
}

/// Allows `access` to what lies beneath `tree`.
///
/// # Errors
/// landlock_add_rule(2).
pub fn landlock_allow_tree(
    ruleset: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    access: u64,
) -> Result<()> {
    // The kernel's structure is packed: twelve bytes of these sixteen.
    let rule: [u64; 2] = [access, u64::from(tree.as_raw_fd() as u32)];
    let rule_at = rule.as_ptr() as u64;
    let ruleset = ruleset.as_raw_fd() as u64;
    // SAFETY: a live structure.
    check(unsafe { raw(nr::LANDLOCK_ADD_RULE, [ruleset, 1, rule_at, 0, 0, 0]) }).map(|_| ())
}

/// Allows `access` to TCP `port`.
///
/// # Errors
/// landlock_add_rule(2).
pub fn landlock_allow_port(ruleset: BorrowedFd<'_>, port: u16, access: u64) -> Result<()> {
    let rule: [u64; 2] = [access, u64::from(port)];
    let rule_at = rule.as_ptr() as u64;
    let ruleset = ruleset.as_raw_fd() as u64;
    // SAFETY: a live structure.
    check(unsafe { raw(nr::LANDLOCK_ADD_RULE, [ruleset, 2, rule_at, 0, 0, 0]) }).map(|_| ())
}

/// Enters the domain of `ruleset`; the calling thread needs
/// `no_new_privs` or `CAP_SYS_ADMIN`. For probing a kernel in a process of
/// its own.
///
/// # Errors
/// landlock_restrict_self(2).
pub fn landlock_restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    let ruleset = ruleset.as_raw_fd() as u64;
    by_value(nr::LANDLOCK_RESTRICT_SELF, [ruleset, 0, 0, 0, 0, 0]).map(|_| ())
}

/// Sends a signal to the process of `pidfd`, which cannot be another's.
///
/// # Errors
/// pidfd_send_signal(2).
///
/// # Kernel
/// 5.1.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let pidfd = pidfd.as_raw_fd() as u64;
    by_value(nr::PIDFD_SEND_SIGNAL, [pidfd, signal as u64, 0, 0, 0, 0]).map(|_| ())
}

/// The wait status of an ended and reaped process, from its pidfd.
///
/// `None`: not ended, not yet reaped, or not kept by this kernel.
///
/// # Errors
/// `ENOTTY` and `EINVAL` before the kernel below.
///
/// # Kernel
/// 6.15, `PIDFD_INFO_EXIT`.
///
/// # Source
/// include/uapi/linux/pidfd.h
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// struct pidfd_info, first published size: a mask of 64 bits, the
    /// cgroup's id, fourteen numbers of 32 bits, then the exit code.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const { assert!(size_of::<Info>() == 64) };
    // _IOWR(0xFF, 11, struct pidfd_info)
    const PIDFD_GET_INFO: u64 = 0xc040_ff0b;
    let mut info = Info {
        mask: PIDFD_INFO_EXIT,
        ..Info::default()
    };
    let info_at = &raw mut info as u64;
    let pidfd = pidfd.as_raw_fd() as u64;
    // SAFETY: a live structure of the size that the request's number names.
    check(unsafe { raw(nr::IOCTL, [pidfd, PIDFD_GET_INFO, info_at, 0, 0, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let info = unsafe { core::ptr::read_volatile(&raw const info) };
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

/// The user namespace that owns a namespace.
///
/// # Errors
/// ioctl_ns(2): `NS_GET_USERNS`; `EPERM` when it lies outside the caller's.
///
/// # Kernel
/// 4.9.
pub fn owner_of_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: u64 = 0xb701;
    let namespace = namespace.as_raw_fd() as u64;
    // SAFETY: numbers; returns a new descriptor.
    owned(unsafe { raw(nr::IOCTL, [namespace, NS_GET_USERNS, 0, 0, 0, 0]) })
}

/// Whose a directory's entry is, and of which mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The user id of the owner, as the mount shows it.
    pub user: u32,
    /// The group id, likewise.
    pub group: u32,
    /// The number of the mount that it is seen through.
    pub mount: u64,
}

/// Looks at `name` in `directory`, or at `directory` itself where `name` is
/// empty; no link is followed and nothing is mounted.
///
/// # Errors
/// statx(2); `ENOSYS` where it does not tell the mount.
///
/// # Kernel
/// 5.8, for the number of the mount.
pub fn entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<Entry> {
    /// `AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW`.
    const FLAGS: u64 = AT_EMPTY_PATH | 0x800 | 0x100;
    /// `STATX_UID | STATX_GID | STATX_MNT_ID`.
    const WANTED: u64 = 0x8 | 0x10 | 0x1000;
    // struct statx: its mask in the first half of the first word, the owner in
    // both halves of the third from byte 20, the mount at byte 144.
    let mut status: [u64; 32] = [0; 32];
    let status_at = &raw mut status as u64;
    let (directory, name) = (directory.as_raw_fd() as u64, name.as_ptr() as u64);
    // SAFETY: a string, numbers, and a live array of the structure's length.
    check(unsafe { raw(nr::STATX, [directory, name, FLAGS, WANTED, status_at, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let status = unsafe { core::ptr::read_volatile(&raw const status) };
    let [mask, _, links_and_user, group_and_mode, ..] = status;
    let [.., mount] = *status.first_chunk::<19>().ok_or(Errno::EINVAL)?;
    if mask & WANTED != WANTED {
        return Err(Errno::ENOSYS);
    }
    Ok(Entry {
        user: (links_and_user >> 32) as u32,
        group: group_and_mode as u32,
        mount,
    })
}

/// The network namespace that a socket was made in.
///
/// # Errors
/// ioctl(2): `SIOCGSKNS`; `EPERM` without `CAP_NET_ADMIN` in that namespace,
/// `ENOTTY` for what is no socket.
///
/// # Kernel
/// 4.10.
///
/// # Source
/// include/uapi/linux/sockios.h
pub fn network_of_socket(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: u64 = 0x894c;
    let socket = socket.as_raw_fd() as u64;
    // SAFETY: numbers; returns a new descriptor.
    owned(unsafe { raw(nr::IOCTL, [socket, SIOCGSKNS, 0, 0, 0, 0]) })
}

/// The serial number of the caller's session keyring.
///
/// # Errors
/// keyctl(2).
pub fn session_keyring() -> Result<i64> {
    const KEYCTL_GET_KEYRING_ID: u64 = 0;
    let session = -3_i64 as u64;
    by_value(nr::KEYCTL, [KEYCTL_GET_KEYRING_ID, session, 0, 0, 0, 0])
}

/// What prctl(2) says with number arguments: for asking, in a probe.
///
/// # Errors
/// prctl(2).
pub fn ask_prctl(option: PrctlQuestion) -> Result<i64> {
    let (option, argument) = match option {
        PrctlQuestion::StoreBypass => (52, 0),
        PrctlQuestion::IndirectBranch => (52, 1),
        PrctlQuestion::Securebits => (27, 0),
        PrctlQuestion::BoundingSetHas(capability) => (23, u64::from(capability)),
    };
    by_value(nr::PRCTL, [option, argument, 0, 0, 0, 0])
}

/// A question that prctl(2) answers without changing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrctlQuestion {
    /// The state of speculative store bypass.
    StoreBypass,
    /// The state of indirect branch speculation.
    IndirectBranch,
    /// The securebits.
    Securebits,
    /// Whether a capability is in the bounding set; `EINVAL` when this
    /// kernel does not know it.
    BoundingSetHas(u8),
}

/// Whether the kernel can make a core scheduling cookie: asks for the
/// caller's own, which changes nothing.
///
/// # Errors
/// `EINVAL` not built, `ENODEV` no SMT.
///
/// # Kernel
/// 5.14, `CONFIG_SCHED_CORE`.
pub fn core_cookie() -> Result<u64> {
    let mut cookie: u64 = 0;
    let cookie_at = &raw mut cookie as u64;
    // SAFETY: a live word to write.
    check(unsafe { raw(nr::PRCTL, [62, 0, 0, 0, cookie_at, 0]) })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    Ok(unsafe { core::ptr::read_volatile(&raw const cookie) })
}

/// Unlocks a pseudo-terminal's other side and opens it, whatever its name
/// leads to.
///
/// # Errors
/// ioctl_tty(2): `TIOCSPTLCK`, `TIOCGPTPEER`.
///
/// # Kernel
/// 4.13.
pub fn open_terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    const TIOCSPTLCK: u64 = 0x4004_5431;
    const TIOCGPTPEER: u64 = 0x5441;
    /// `O_RDWR | O_NOCTTY | O_CLOEXEC`.
    const FLAGS: u64 = 2 | 0o400 | CLOEXEC;
    let unlocked: i32 = 0;
    let unlocked_at = &raw const unlocked as u64;
    let master = master.as_raw_fd() as u64;
    // SAFETY: a live integer to read.
    check(unsafe { raw(nr::IOCTL, [master, TIOCSPTLCK, unlocked_at, 0, 0, 0]) })?;
    // SAFETY: numbers; returns a new descriptor.
    owned(unsafe { raw(nr::IOCTL, [master, TIOCGPTPEER, FLAGS, 0, 0, 0]) })
}

/// Whether an extended attribute of an open directory, also of one that is
/// open only as a path, is `value`.
///
/// # Errors
/// getxattr(2). One that is not there is none: `Ok(false)`.
pub fn attribute_is(directory: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<bool> {
    let path = std::format!("/proc/self/fd/{}\0", directory.as_raw_fd());
    let mut found = [0_u8; 16];
    let (path, name) = (path.as_ptr() as u64, name.as_ptr() as u64);
    let room = [&raw mut found as u64, found.len() as u64];
    let [at, length] = room;
    // SAFETY: two C strings, and a live array with its own length to write to.
    let asked = check(unsafe { raw(nr::GETXATTR, [path, name, at, length, 0, 0]) });
    match asked {
        Ok(length) => {
            // SAFETY: a live local, which the kernel wrote through its address.
            let found = unsafe { core::ptr::read_volatile(&raw const found) };
            Ok(found.get(..length as usize) == Some(value))
        }
        // ENODATA, ERANGE, EOPNOTSUPP.
        Err(Errno(61 | 34 | 95)) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Sends a block of steps and descriptors to the spawner.
///
/// # Errors
/// sendmsg(2); `EPIPE` and `ECONNRESET` when the spawner is gone.
pub fn send_request(
    spawner: BorrowedFd<'_>,
    image: &[u64],
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    const MSG_NOSIGNAL: u64 = 0x4000;
    // struct cmsghdr, as words: length; level and type; the descriptors.
    let mut control: Vec<u32> = Vec::with_capacity(4 + descriptors.len() + 1);
    let length = 16 + 4 * descriptors.len() as u32;
    control.extend([length, 0, 1, 1]);
    control.extend(descriptors.iter().map(|fd| fd.as_raw_fd() as u32));
    if !control.len().is_multiple_of(2) {
        control.push(0);
    }
    let vector: [u64; 2] = [image.as_ptr() as u64, (image.len() * 8) as u64];
    let head: [u64; 7] = [
        0,
        0,
        vector.as_ptr() as u64,
        1,
        control.as_ptr() as u64,
        (control.len() * 4) as u64,
        0,
    ];
    let socket = spawner.as_raw_fd() as u64;
    let head_at = head.as_ptr() as u64;
    loop {
        // SAFETY: a live struct msghdr that names live buffers with their
        // own lengths.
        let sent = check(unsafe { raw(nr::SENDMSG, [socket, head_at, MSG_NOSIGNAL, 0, 0, 0]) });
        match sent {
            Err(Errno::EINTR) => {}
            sent => return sent.map(|_| ()),
        }
    }
}

/// Receives one answer of the spawner; `None` when it is gone.
///
/// # Errors
/// recvmsg(2); `EAGAIN` on a socket that does not block; `EPROTO` for a
/// datagram of another size.
pub fn receive_answer(socket: BorrowedFd<'_>) -> Result<Option<(Answer, Option<OwnedFd>)>> {
    const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
    let mut bytes_read = [0; Answer::BYTES];
    let mut control: [u64; 3] = [0; 3];
    let vector: [u64; 2] = [bytes_read.as_mut_ptr() as u64, Answer::BYTES as u64];
    let mut head: [u64; 7] = [
        0,
        0,
        vector.as_ptr() as u64,
        1,
        control.as_mut_ptr() as u64,
        24,
        0,
    ];
    let head_at = head.as_mut_ptr() as u64;
    let socket = socket.as_raw_fd() as u64;
    let bytes = loop {
        // SAFETY: a live struct msghdr that names live buffers with their
        // own lengths.
        let received =
            check(unsafe { raw(nr::RECVMSG, [socket, head_at, MSG_CMSG_CLOEXEC, 0, 0, 0]) });
        match received {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    if bytes == 0 {
        return Ok(None);
    }
    let [length, _, descriptor] = control;
    let passed = if length == 20 {
        // SAFETY: the kernel installed it for this process, which has told
        // nobody else.
        Some(unsafe { OwnedFd::from_raw_fd(descriptor as u32 as RawFd) })
    } else {
        None
    };
    if bytes as usize != Answer::BYTES {
        return Err(Errno::EPROTO);
    }
    // SAFETY: a live local, which the kernel wrote in full.
    let answer = Answer::from_bytes(unsafe { core::ptr::read_volatile(&raw const bytes_read) });
    Ok(Some((answer, passed)))
}

/// Receives one answer of an init, which may be anybody's by now: what it
/// passes along is dropped. `None` when it is gone.
///
/// # Errors
/// read(2); `EPROTO` for a datagram that is shorter.
pub fn receive_answer_alone(socket: BorrowedFd<'_>) -> Result<Option<Answer>> {
    let mut bytes = [0; Answer::BYTES];
    // SAFETY: a live buffer with its length.
    let is_whole = unsafe { receive_whole(socket, &raw mut bytes as u64, Answer::BYTES) }?;
    // SAFETY: a live local, which the kernel wrote in full.
    let bytes = unsafe { core::ptr::read_volatile(&raw const bytes) };
    Ok(is_whole.then(|| Answer::from_bytes(bytes)))
}

/// Receives a child's report; `None` when the child has executed or ended.
///
/// # Errors
/// read(2); `EPROTO` for a report of another size.
pub fn receive_report(socket: BorrowedFd<'_>) -> Result<Option<Report>> {
    let mut report = Report::default();
    // SAFETY: a live structure of plain numbers with its length.
    let is_whole = unsafe { receive_whole(socket, &raw mut report as u64, Report::BYTES) }?;
    // SAFETY: a live local, which the kernel wrote in full.
    let report = unsafe { core::ptr::read_volatile(&raw const report) };
    Ok(is_whole.then_some(report))
}

/// Reads one datagram of that length; whether there was one before the end.
///
/// # Safety
/// `at` is the address of that many bytes that may be written.
unsafe fn receive_whole(socket: BorrowedFd<'_>, at: u64, length: usize) -> Result<bool> {
    let socket = socket.as_raw_fd() as u64;
    loop {
        // SAFETY: the caller's promise.
        match check(unsafe { raw(nr::READ, [socket, at, length as u64, 0, 0, 0]) }) {
            // Whoever ended without reading what was sent to it resets the
            // connection. The kernel says so once, before it hands out what was
            // said last.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Ok(0) => return Ok(false),
            Ok(read) if read as usize == length => return Ok(true),
            Ok(_) => return Err(Errno::EPROTO),
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes the child without a spawner: for a small caller with one thread.
/// The caller is its parent.
///
/// # Errors
/// clone3(2); `EPROTO` for a malformed block.
pub fn make_child_directly(
    image: &[u64],
    descriptors: &[BorrowedFd<'_>],
    report: BorrowedFd<'_>,
) -> Result<(i32, OwnedFd)> {
    let descriptors: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let image = Image::check(image, descriptors.len()).map_err(|_| Errno::EPROTO)?;
    let made = make_child(&image, &descriptors, report.as_raw_fd())?;
    // SAFETY: clone3 made it for us, and nothing else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(made.pidfd) };
    Ok((made.pid, pidfd))
}
