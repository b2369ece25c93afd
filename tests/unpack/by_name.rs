//! What an unpacker does that takes names for places.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::archive::Item;

/// Unpacks the entries one after the other; those that fail are passed over.
pub(crate) fn unpack(items: &[Item], tree: &Path) {
    for item in items {
        // An unpacker that warns and goes on.
        drop(one(item, tree));
    }
}

fn one(item: &Item, tree: &Path) -> io::Result<()> {
    let place = tree.join(OsStr::from_bytes(&item.name));
    let target = OsStr::from_bytes(&item.target);
    // The one thing it does not do: its ground is all that it may spoil.
    if !place.starts_with("/tmp/ground/") {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
        if !fs::canonicalize(parent)?.starts_with("/tmp") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    }
    match item.kind {
        b'0' | 0 | b'7' | b'S' => {
            File::create(&place)?.write_all(&item.content)?;
            chown(&place, Some(item.owner), Some(item.owner))?;
            fs::set_permissions(&place, Permissions::from_mode(item.mode))
        }
        b'5' => {
            fs::create_dir_all(&place)?;
            chown(&place, Some(item.owner), Some(item.owner))?;
            fs::set_permissions(&place, Permissions::from_mode(item.mode))
        }
        b'2' => {
            if place.is_dir() {
                drop(fs::remove_dir(&place));
            }
            drop(fs::remove_file(&place));
            symlink(target, &place)
        }
        b'1' => {
            drop(fs::remove_file(&place));
            fs::hard_link(tree.join(target), &place)
        }
        b'6' => Ok(mkfifo(&place, Mode::S_IRWXU)?),
        _ => Ok(()),
    }
}
