//! Whether anything carries an id of a range.

use std::ffi::CString;
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::walk::{Seen, walk};
use super::{Error, failed};
use crate::beneath;
use crate::escaped::EscapedName;

/// The longest value of an extended attribute.
///
/// # Source
/// xattr(7)
const VALUE_BYTES_MAX: usize = 65536;

/// Where a file carries an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// Its owner.
    User,
    /// Its group.
    Group,
    /// An entry of one of its access control lists.
    AccessList,
    /// The root that its capabilities are good for.
    Capabilities,
}

/// A file that carries an id of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its name in its directory; empty for the top.
    pub name: EscapedName,
    /// Its inode.
    pub inode: u64,
    /// The id.
    pub id: u32,
    /// Where it is carried.
    pub bearer: Bearer,
}

/// The first file found beneath `directory`, itself included, that carries an id of
/// `ids`: as its owner, its group, in an access control list or as the root of its
/// capabilities. Asked before a block of ids is handed out again.
///
/// `Ok(None)` tells you that there was none while nobody changed the tree. What
/// stands on another mount is another tree.
///
/// # Errors
/// [`Error::Changed`], [`Error::Call`].
///
/// # Source
/// include/uapi/linux/posix_acl_xattr.h, capabilities(7)
pub fn find_foreign(directory: BorrowedFd<'_>, ids: Range<u32>) -> Result<Option<Foreign>, Error> {
    let walked = walk(directory, |seen| match carried(seen, &ids) {
        Ok(None) => ControlFlow::Continue(()),
        Ok(Some((id, bearer))) => ControlFlow::Break(Ok(Foreign {
            name: EscapedName::new(seen.name.to_bytes()),
            inode: seen.status.st_ino,
            id,
            bearer,
        })),
        Err(errno) => ControlFlow::Break(Err(failed("reading attributes", seen.name.to_bytes())(
            errno,
        ))),
    })?;
    match walked {
        ControlFlow::Continue(_) => Ok(None),
        ControlFlow::Break(found) => found.map(Some),
    }
}

fn carried(seen: &Seen<'_>, ids: &Range<u32>) -> Result<Option<(u32, Bearer)>, Errno> {
    for (id, bearer) in [
        (seen.status.st_uid, Bearer::User),
        (seen.status.st_gid, Bearer::Group),
    ] {
        if ids.contains(&id) {
            return Ok(Some((id, bearer)));
        }
    }
    if beneath::kind(&seen.status) == SFlag::S_IFLNK {
        return Ok(None);
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        if let Some(list) = attribute(seen, name)? {
            // A header of four bytes comes first.
            let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
            let mut named = entries
                .filter(|entry| names_an_id(entry))
                .map(|entry| word(entry, 4));
            if let Some(id) = named.find(|id| ids.contains(id)) {
                return Ok(Some((id, Bearer::AccessList)));
            }
        }
    }
    if let Some(capabilities) = attribute(seen, "security.capability")? {
        let root = word(&capabilities, 20);
        if capabilities.len() == 24 && ids.contains(&root) {
            return Ok(Some((root, Bearer::Capabilities)));
        }
    }
    Ok(None)
}

/// Whether an entry of an access control list is that of a named user or group.
fn names_an_id(entry: &[u8]) -> bool {
    const USER: u8 = 0x02;
    const GROUP: u8 = 0x08;
    matches!(entry, [USER | GROUP, 0, ..])
}

/// Four bytes of little endian; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u32::from_le_bytes(*word))
}

/// An attribute of what is named and not opened, by the kernel's own name for the
/// descriptor; `None`: it has none of that name.
fn attribute(seen: &Seen<'_>, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", seen.file.as_raw_fd()))
        .map_err(|_| Errno::EINVAL)?;
    let mut value = Vec::with_capacity(256);
    loop {
        let room = rustix::buffer::spare_capacity(&mut value);
        match rustix::fs::getxattr(path.as_c_str(), name, room).map_err(beneath::errno) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(None),
            Err(Errno::ERANGE) if value.capacity() < VALUE_BYTES_MAX => {
                value.reserve(VALUE_BYTES_MAX);
            }
            Err(errno) => return Err(errno),
        }
    }
}
