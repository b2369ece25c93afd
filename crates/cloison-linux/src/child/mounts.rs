//! Mounts: made, attached, covered; and the root that they stand in.

use super::{AT_EMPTY_PATH, AT_FDCWD, Child, O_CLOEXEC, O_PATH, RESOLVE_STRICT, plain};
use crate::steps::END;
use crate::sys::{Errno, Result, by_value, close, nr};

impl Child {
    pub(super) fn make_private(&self) -> Result<()> {
        const MS_REC_PRIVATE: u64 = 0x4000 | 0x4_0000;
        let root = c"/".as_ptr() as u64;
        self.done(nr::MOUNT, [0, root, 0, MS_REC_PRIVATE, 0, 0])
    }

    /// From here on "beneath the root" is beneath the working directory: a
    /// descriptor would stay with the mounts that were copied.
    pub(super) fn enter_root(&mut self) -> Result<()> {
        self.enter(c"/".as_ptr() as u64)?;
        self.root = AT_FDCWD as i32;
        Ok(())
    }

    /// Moves a detached mount onto what `target` names.
    fn move_onto(&self, mount: u64, target: u64) -> Result<()> {
        const F_EMPTY_AND_T_EMPTY: u64 = 0x04 | 0x40;
        let empty = c"".as_ptr() as u64;
        self.done(
            nr::MOVE_MOUNT,
            [mount, empty, target, empty, F_EMPTY_AND_T_EMPTY, 0],
        )
    }

    /// Puts a detached mount on a path of the old root.
    fn move_to(&self, mount: u64, path: u64) -> Result<()> {
        const F_EMPTY_PATH: u64 = 0x04;
        let empty = c"".as_ptr() as u64;
        self.done(
            nr::MOVE_MOUNT,
            [mount, empty, AT_FDCWD, path, F_EMPTY_PATH, 0],
        )
    }

    pub(super) fn attach_root(&mut self, slot: u64) -> Result<()> {
        let mount = self.descriptor(slot);
        self.move_to(mount, c"/".as_ptr() as u64)?;
        plain(nr::FCHDIR, [mount, 0, 0, 0, 0, 0])?;
        self.root = mount as i32;
        Ok(())
    }

    /// Opens a path beneath the new root for nothing but naming it.
    ///
    /// No link is followed and nothing above the root is reached, whatever a
    /// tenant does to its tree meanwhile.
    fn open_target(&self, path: u64) -> Result<i32> {
        // With O_NOFOLLOW a link in the last place would be opened itself.
        let how: [u64; 3] = [O_PATH | O_CLOEXEC, 0, RESOLVE_STRICT];
        let how_at = how.as_ptr() as u64;
        let opened = self.call(
            nr::OPENAT2,
            [self.root as u64, self.data(path), how_at, 24, 0, 0],
        )?;
        Ok(opened as i32)
    }

    pub(super) fn attach(&self, mount: u64, path: u64) -> Result<()> {
        let target = self.open_target(path)?;
        let moved = self.move_onto(mount, target as u64);
        close(target);
        moved
    }

    pub(super) fn mount_new(
        &mut self,
        [kind, path, options, attributes, remember]: [u64; 5],
    ) -> Result<()> {
        let mount = self.make_mount(self.data(kind), options, attributes)?;
        self.attach(mount as u64, path)?;
        if remember == 1 {
            self.proc = mount;
        } else {
            close(mount);
        }
        Ok(())
    }

    /// A new file system's mount, detached.
    fn make_mount(&self, kind: u64, options: u64, attributes: u64) -> Result<i32> {
        let context = self.call(nr::FSOPEN, [kind, 1, 0, 0, 0, 0])? as u64;
        let mut at = options;
        loop {
            let key = self.word(at);
            if key == END {
                break;
            }
            let value = self.word(at + 8);
            // FSCONFIG_SET_STRING
            self.done(
                nr::FSCONFIG,
                [context, 1, self.data(key), self.data(value), 0, 0],
            )?;
            at += 16;
        }
        // FSCONFIG_CMD_CREATE
        self.done(nr::FSCONFIG, [context, 6, 0, 0, 0, 0])?;
        let mount = self.call(nr::FSMOUNT, [context, 1, attributes, 0, 0, 0])?;
        close(context as i32);
        Ok(mount as i32)
    }

    /// Layers of an overlay must stand in the mount namespace of whoever mounts
    /// it (before 6.15), and are named by a path. This place is that of
    /// [`Self::share`], for the same reason.
    pub(super) fn stage_layers(&mut self, slot: u64) -> Result<()> {
        let mount = self.descriptor(slot);
        self.move_to(mount, c"/proc".as_ptr() as u64)?;
        plain(nr::FCHDIR, [mount, 0, 0, 0, 0, 0])?;
        self.root = mount as i32;
        Ok(())
    }

    /// The overlay makes files of its own as whoever mounted it. Through an
    /// id-mapped layer the host's root has no id to make them with: the kernel
    /// would mount it read-only and say so only in its log.
    pub(super) fn mount_overlay(&self, [slot, options, attributes, id]: [u64; 4]) -> Result<()> {
        const NO_SETUID_FIXUP: u64 = 1 << 2;
        let bits = by_value(nr::PRCTL, [27, 0, 0, 0, 0, 0])? as u64;
        // Else the capabilities that a mount needs went with the id.
        plain(nr::PRCTL, [28, bits | NO_SETUID_FIXUP, 0, 0, 0, 0])?;
        set_file_ids(id)?;
        let mount = self.make_mount(c"overlay".as_ptr() as u64, options, attributes)?;
        set_file_ids(0)?;
        plain(nr::PRCTL, [28, bits, 0, 0, 0, 0])?;
        plain(
            nr::DUP3,
            [mount as u64, self.descriptor(slot), O_CLOEXEC, 0, 0, 0],
        )?;
        close(mount);
        Ok(())
    }

    pub(super) fn pivot_root(&self) -> Result<()> {
        let here = c".".as_ptr() as u64;
        self.done(nr::PIVOT_ROOT, [here, here, 0, 0, 0, 0])
    }

    pub(super) fn detach_old_root(&self) -> Result<()> {
        const MNT_DETACH: u64 = 2;
        let here = c".".as_ptr() as u64;
        self.done(nr::UMOUNT2, [here, MNT_DETACH, 0, 0, 0, 0])
    }

    /// Only a mount that stands somewhere can be copied (before 6.15). This one
    /// stands on the old root, and goes away with it: `/proc` is there of the
    /// spawner's and of every host's.
    pub(super) fn park(&self, mount: u64) -> Result<()> {
        self.move_to(mount, c"/proc".as_ptr() as u64)
    }

    /// Both ends are found beneath descriptors of our own making, through no
    /// link and into no other mount: what is covered is an entry of the proc
    /// that was just mounted, and what covers it a file of ours.
    pub(super) fn cover(&self, [parked, name, entry]: [u64; 3]) -> Result<()> {
        const OPEN_TREE_CLONE: u64 = 1;
        const RESOLVE_NO_XDEV: u64 = 0x01;
        let how: [u64; 3] = [O_PATH | O_CLOEXEC, 0, RESOLVE_STRICT | RESOLVE_NO_XDEV];
        let how_at = how.as_ptr() as u64;
        let target = self.call(
            nr::OPENAT2,
            [self.proc as u64, self.data(entry), how_at, 24, 0, 0],
        )? as i32;
        let flags = OPEN_TREE_CLONE | O_CLOEXEC;
        let opened = self.call(nr::OPEN_TREE, [parked, self.data(name), flags, 0, 0, 0]);
        let covered = match opened {
            Ok(copy) => {
                let moved = self.move_onto(copy as u64, target as u64);
                close(copy as i32);
                moved
            }
            Err(errno) => Err(errno),
        };
        close(target);
        covered
    }

    pub(super) fn share(&self, slot: u64) -> Result<()> {
        const OPEN_TREE_CLONE: u64 = 1;
        const READ_ONLY: [u64; 4] = [1, 0, 0, 0];
        let mount = self.descriptor(slot);
        self.park(mount)?;
        let empty = c"".as_ptr() as u64;
        let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH;
        let copy = self.call(nr::OPEN_TREE, [mount, empty, flags, 0, 0, 0])? as u64;
        let attributes = READ_ONLY.as_ptr() as u64;
        self.done(
            nr::MOUNT_SETATTR,
            [copy, empty, AT_EMPTY_PATH, attributes, 32, 0],
        )?;
        plain(nr::DUP3, [copy, mount, O_CLOEXEC, 0, 0, 0])?;
        close(copy as i32);
        Ok(())
    }
}

/// Sets user and group that files are made with. These calls return what was
/// set before and never an error: asked again, they say what is set.
fn set_file_ids(id: u64) -> Result<()> {
    const NO_CHANGE: u64 = u32::MAX as u64;
    for call in [nr::SETFSGID, nr::SETFSUID] {
        by_value(call, [id, 0, 0, 0, 0, 0])?;
        if by_value(call, [NO_CHANGE, 0, 0, 0, 0, 0])? as u64 != id {
            return Err(Errno::EPERM);
        }
    }
    Ok(())
}
