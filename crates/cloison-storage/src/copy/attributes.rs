//! Extended attributes of a base.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};

use super::{DiskIds, Failure, Rule, call};
use crate::beneath;

/// The longest value, and the longest list of names.
///
/// # Source
/// xattr(7)
const BYTES_MAX: usize = 65536;

/// Copies those that make sense in a tenant's tree; how many do not.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, ids: DiskIds) -> Result<u64, Failure> {
    let mut names = Vec::with_capacity(256);
    let listed = grown(&mut names, |names| {
        flistxattr(from, rustix::buffer::spare_capacity(names))
    });
    match listed {
        Err(Errno::EOPNOTSUPP) => return Ok(0),
        listed => listed.map_err(call("listing its attributes"))?,
    }
    let mut skipped = 0;
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let rewrite: fn(Vec<u8>, DiskIds) -> Result<Vec<u8>, Rule> = match name {
            b"security.capability" => capabilities,
            b"system.posix_acl_access" | b"system.posix_acl_default" => access_list,
            _ if name.starts_with(b"user.") => |value, _| Ok(value),
            _ => {
                skipped += 1;
                continue;
            }
        };
        let mut value = Vec::with_capacity(256);
        grown(&mut value, |value| {
            fgetxattr(from, name, rustix::buffer::spare_capacity(value))
        })
        .map_err(call("reading an attribute of it"))?;
        let value = rewrite(value, ids).map_err(Failure::Rule)?;
        fsetxattr(to, name, &value, XattrFlags::empty())
            .map_err(|error| Failure::Call("setting an attribute of it", beneath::errno(error)))?;
    }
    Ok(skipped)
}

/// Reads into `bytes`, with more room if it is too small.
fn grown(
    bytes: &mut Vec<u8>,
    mut read: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>,
) -> Result<(), Errno> {
    loop {
        bytes.clear();
        match read(bytes).map_err(beneath::errno) {
            Err(Errno::ERANGE) if bytes.capacity() < BYTES_MAX => bytes.reserve(BYTES_MAX),
            read => return read.map(drop),
        }
    }
}

/// Capabilities good for the tenant's root alone: those of version 2 would be good
/// for the host's.
///
/// # Source
/// capabilities(7), "File capability extended attribute versioning"
fn capabilities(value: Vec<u8>, ids: DiskIds) -> Result<Vec<u8>, Rule> {
    let sets = match value.as_slice() {
        [0 | 1, 0, 0, 2, sets @ ..] if value.len() == 20 => sets,
        [0 | 1, 0, 0, 3, sets @ .., 0, 0, 0, 0] if value.len() == 24 => sets,
        _ => return Err(Rule::Capabilities),
    };
    let effective = value.first().copied().unwrap_or(0);
    Ok([&[effective, 0, 0, 3], sets, &ids.first().to_le_bytes()].concat())
}

/// An access control list whose named users and groups are shifted.
///
/// # Source
/// include/uapi/linux/posix_acl_xattr.h
fn access_list(mut value: Vec<u8>, ids: DiskIds) -> Result<Vec<u8>, Rule> {
    const USER: u8 = 0x02;
    const GROUP: u8 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        if let [USER | GROUP, 0, _, _, id @ ..] = entry {
            id.copy_from_slice(&shifted(id, ids).ok_or(Rule::Id)?);
        }
    }
    Ok(value)
}

fn shifted(id: &[u8], ids: DiskIds) -> Option<[u8; 4]> {
    let id = u32::from_le_bytes(*id.first_chunk()?);
    ids.shift(id).map(u32::to_le_bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ids() -> DiskIds {
        DiskIds::from_first(0x7000_0000).unwrap()
    }

    #[test]
    fn capabilities_become_the_tenants_roots() {
        let sets = [7_u8; 16];
        let two = [&[1, 0, 0, 2], &sets[..]].concat();
        let three = |root: u8| [&[1, 0, 0, 3], &sets[..], &[root, 0, 0, 0]].concat();
        let tenants = [&[1, 0, 0, 3], &sets[..], &[0, 0, 0, 0x70]].concat();
        assert_eq!(capabilities(two.clone(), ids()), Ok(tenants.clone()));
        assert_eq!(capabilities(three(0), ids()), Ok(tenants));
        for wrong in [three(1), two[..12].to_vec(), Vec::new()] {
            assert_eq!(capabilities(wrong, ids()), Err(Rule::Capabilities));
        }
    }

    #[test]
    fn named_ids_of_an_access_list_are_shifted() {
        let list = |user: u32| {
            let entry = |tag: u8, id: u32| [&[tag, 0, 7, 0], &id.to_le_bytes()[..]].concat();
            [
                vec![2, 0, 0, 0],
                entry(1, u32::MAX),
                entry(2, user),
                entry(4, u32::MAX),
                entry(16, u32::MAX),
                entry(32, u32::MAX),
            ]
            .concat()
        };
        assert_eq!(access_list(list(5), ids()), Ok(list(0x7000_0005)));
        assert_eq!(access_list(list(65536), ids()), Err(Rule::Id));
    }
}
