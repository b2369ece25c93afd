//! The memory file systems that only one launch has.
//!
//! They are made while the spawner makes the child, and sent after it: making
//! them takes as long as it does, and the child needs them only after its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::host::{self, attribute};
use nix::errno::Errno;

use crate::error::Error;
use crate::layers::landlock::{self, Ruleset};
use crate::layers::tree::{CONFINED, Filling, NO_EXEC, Swap, Tmpfs, Tree};
use crate::plan::Composition;
use crate::spawner::{errno, io_errno};
use crate::steps::StepList;

/// One of them: where it stands, what its mount forbids, what Landlock allows.
pub(crate) struct Place {
    pub(crate) target: &'static str,
    pub(crate) attributes: u64,
    access: u64,
}

/// In the order of attachment, and of sending.
pub(crate) const PLACES: [Place; 3] = [
    Place {
        target: "dev/shm",
        attributes: NO_EXEC,
        access: landlock::WRITE_TREE,
    },
    Place {
        target: "tmp",
        attributes: CONFINED,
        access: landlock::WRITE_TREE,
    },
    Place {
        target: "run",
        attributes: NO_EXEC,
        access: landlock::WRITE_TREE,
    },
];

/// Descriptors that keep their places until the child receives them.
pub(crate) fn keepers(composition: &Composition<'_>) -> Result<[OwnedFd; PLACES.len()], Errno> {
    // Any will do; each is one of its own, so that no other is lost with it.
    let copy = || {
        let copied = composition.prepared.user.as_fd().try_clone_to_owned();
        copied.map_err(|error| io_errno(&error))
    };
    Ok([copy()?, copy()?, copy()?])
}

/// How they will be made.
#[derive(Debug)]
pub(crate) struct LateTrees {
    shm: Tmpfs,
    tmp: Tmpfs,
    run: Tmpfs,
    ruleset: Option<Ruleset>,
}

impl LateTrees {
    pub(crate) fn decide(composition: &Composition<'_>, ruleset: Option<Ruleset>) -> Self {
        let owner = composition.ids.host_id(composition.spec.user);
        let sizes = &composition.spec.tmpfs;
        let tmpfs = |bytes_max, mode, owner, attributes| Tmpfs {
            bytes_max,
            files_max: sizes.files_max,
            mode,
            owner,
            attributes,
            swap: Swap::Allowed,
        };
        Self {
            shm: tmpfs(sizes.shm_bytes_max, c"1777", 0, NO_EXEC),
            tmp: tmpfs(sizes.tmp_bytes_max, c"1777", 0, CONFINED),
            run: tmpfs(sizes.run_bytes_max, c"755", owner, NO_EXEC),
            ruleset,
        }
    }

    /// Makes them, lets Landlock allow them, and sends them to the child of
    /// `list` at the other end of `report`.
    pub(crate) fn bring(&self, list: &StepList, report: BorrowedFd<'_>) -> Result<(), Error> {
        let trees = self
            .make()
            .map_err(|errno| Error::prepare("tmpfs", errno))?;
        if let Some(ruleset) = self.ruleset {
            ruleset
                .allow(list, &trees)
                .map_err(|errno| Error::prepare("the Landlock ruleset", errno))?;
        }
        let mounts: Vec<BorrowedFd<'_>> = trees.iter().map(|tree| tree.mount.as_fd()).collect();
        match host::send_request(report, &[0], &mounts).map_err(errno) {
            // Nobody is there: the spawner, or the child's report, says why.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::prepare("the way to the child", errno)),
        }
    }

    fn make(&self) -> Result<[Tree; PLACES.len()], Errno> {
        let run = Filling::new(&self.run)?;
        run.directory("credentials")?;
        let [shm_at, tmp_at, run_at] = PLACES;
        Ok([
            finished(Filling::new(&self.shm)?, &shm_at)?,
            finished(Filling::new(&self.tmp)?, &tmp_at)?,
            finished(run, &run_at)?,
        ])
    }
}

/// The empty tmpfs of `/run/credentials`, which never reaches a disk. The
/// sandbox gets a read-only mount of it.
pub(crate) fn credentials(composition: &Composition<'_>) -> Result<Tree, Errno> {
    let tmpfs = Tmpfs {
        bytes_max: 1 << 20,
        files_max: 256,
        mode: c"500",
        owner: composition.ids.host_id(composition.spec.user),
        attributes: NO_EXEC,
        swap: if composition.kernel_has_noswap() {
            Swap::Never
        } else {
            Swap::Allowed
        },
    };
    Ok(Tree {
        mount: Filling::new(&tmpfs)?.into_mount(),
        target: "run/credentials".to_owned(),
        file_system: "tmpfs",
        attributes: NO_EXEC | attribute::READ_ONLY,
        access: landlock::READ_TREE,
    })
}

fn finished(filling: Filling, place: &Place) -> Result<Tree, Errno> {
    filling.finish(place.target, place.attributes, place.access)
}
