//! What an id-mapped mount maps its ids with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::steps::Op;

use super::{CLONE_NEWUSER, Maker, NamespaceError, NamespaceStep, ask_for};
use crate::IdRange;
use crate::spawner::Asked;
use crate::steps::StepList;

/// How the ids that files carry on disk are shown to one sandbox: a user
/// namespace that nobody ever joins, whose map the kernel reads for an
/// id-mapped mount.
///
/// It is not the sandbox's own: that one maps what is shown here to what the
/// sandbox calls it.
///
/// # Kernel
/// 5.12.
///
/// # Source
/// mount_setattr(2), "ID-mapped mounts"
#[derive(Debug)]
pub struct IdMapping {
    descriptor: OwnedFd,
    on_disk: IdRange,
    shown: IdRange,
}

impl IdMapping {
    /// Shows the ids `on_disk` as `shown`.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub fn create(on_disk: IdRange, shown: IdRange) -> Result<Self, NamespaceError> {
        PendingIdMapping::begin(on_disk, shown)?.finish()
    }

    /// The ids that files carry on disk.
    #[must_use]
    pub fn on_disk(&self) -> IdRange {
        self.on_disk
    }

    /// The host ids that they are shown with.
    #[must_use]
    pub fn shown(&self) -> IdRange {
        self.shown
    }
}

impl AsFd for IdMapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// One in the making. Dropped, none is made.
#[derive(Debug)]
pub(crate) struct PendingIdMapping {
    asked: Asked,
    on_disk: IdRange,
    shown: IdRange,
}

impl PendingIdMapping {
    pub(crate) fn begin(on_disk: IdRange, shown: IdRange) -> Result<Self, NamespaceError> {
        let mut list = StepList::new(CLONE_NEWUSER);
        list.push(None, Op::CloseOthers, []);
        list.push(None, Op::Wait, []);
        let asked = ask_for(&list)?;
        Ok(Self {
            asked,
            on_disk,
            shown,
        })
    }

    pub(crate) fn finish(self) -> Result<IdMapping, NamespaceError> {
        let Self {
            asked,
            on_disk,
            shown,
        } = self;
        let maker = Maker::of(asked, NamespaceStep::Map)?;
        // To an id-mapped mount "inside" is the disk.
        let map = format!("{} {} {}\n", on_disk.first(), shown.first(), IdRange::COUNT);
        maker.write("gid_map", &map)?;
        maker.write("uid_map", &map)?;
        let descriptor = maker.open("ns/user")?;
        Ok(IdMapping {
            descriptor,
            on_disk,
            shown,
        })
    }
}
