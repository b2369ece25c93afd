//! What can go wrong with volumes and images, by what the caller can do.

use std::io;

use super::VolumeName;

/// Why something was not done. Nothing of it was done then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// What was asked for is against a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is one of that name.
    #[error("there is a volume {0} already")]
    Exists(VolumeName),
    /// There is none of that name.
    #[error("there is no volume {0}")]
    Missing(VolumeName),
    /// It is attached somewhere: a second file system on one image would
    /// destroy it.
    #[error("the volume {0} is attached")]
    Attached(VolumeName),
    /// Another process changes the volumes of that directory, for too long.
    #[error("another process has been changing these volumes for too long")]
    Busy,
    /// The host's disk is full.
    #[error("the host's disk has no room for the volume {0}")]
    NoSpace(VolumeName),
    /// The host lacks something.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// What lies there is no volume that this library made.
    #[error("the volume {name} is not one of this library, or is damaged: {reason}")]
    Damaged {
        /// Its name.
        name: VolumeName,
        /// What does not fit.
        reason: &'static str,
    },
    /// A program of the host's did not do its work.
    #[error("{program} failed: {said}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said, with nothing that a terminal obeys.
        said: String,
    },
    /// A call that should succeed was refused.
    #[error("{doing} failed")]
    Step {
        /// What was to be done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The rule that something is against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The name of a volume.
    #[error("a volume's name has 1 to 32 of a to z, 0 to 9 and - and begins with a letter")]
    Name,
    /// A directory of volumes that others than the host can enter.
    #[error("the directory of volumes must be the host's own: {0}")]
    Directory(&'static str),
    /// Fewer bytes than any volume has.
    #[error("a volume has at least {fewest} bytes")]
    TooFewBytes {
        /// The fewest.
        fewest: u64,
    },
    /// Fewer inodes than a volume of that size has.
    #[error("a volume of that size has at least {fewest} inodes")]
    TooFewInodes {
        /// The fewest.
        fewest: u64,
    },
    /// More inodes than an image of that size has room for.
    #[error("an image of that size has at most {most} inodes")]
    TooManyInodes {
        /// The most.
        most: u64,
    },
    /// A volume keeps what it has: its file system may use all of it.
    #[error("a volume never shrinks; this one has {bytes} bytes and {inodes} inodes")]
    Shrinks {
        /// What it has.
        bytes: u64,
        /// What it has.
        inodes: u64,
    },
    /// The inodes of an image grow with its bytes alone.
    #[error("an image of that size has {gives} inodes, no more and no fewer")]
    InodesOfImage {
        /// What it would have.
        gives: u64,
    },
    /// An image that somebody else could have made or could change.
    #[error("the image is not the provider's: {0}")]
    NotTheProviders(&'static str),
    /// A file that is no image of a kind that is mounted.
    #[error("the file is neither a squashfs nor an erofs image")]
    NotAnImage,
}

/// What this host lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lacking {
    /// Quotas of projects, where nothing else was to be taken.
    #[error("the file system of the volumes keeps no quotas of projects")]
    ProjectQuota,
    /// Loop devices.
    #[error("there is no loop device to be had")]
    LoopDevices,
    /// A program.
    #[error("there is no program {0}")]
    Program(&'static str),
    /// A kind of file system.
    #[error("this kernel has no {0}")]
    FileSystem(&'static str),
    /// Files without a name, of which nothing is left after a crash.
    #[error("the file system of the volumes cannot make a file without a name")]
    UnnamedFiles,
    /// Room that is set apart.
    #[error("the file system of the volumes cannot set room apart")]
    Reservation,
    /// Maps of ids on a kind of file system.
    #[error("this kernel does not map the ids of {0}")]
    MapOfIds(&'static str),
}

/// Names a step that failed.
pub(crate) fn step<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> VolumeError {
    move |source| VolumeError::Step {
        doing,
        source: source.into(),
    }
}

/// The same for a raw call.
pub(crate) fn raw(errno: cloison_linux::sys::Errno) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(errno.0)
}

impl VolumeError {
    /// What an operator can do.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused(refused) => refused.remedy(),
            Self::Lacking(lacking) => lacking.remedy(),
            Self::Exists(_) => "take another name, or remove that volume",
            Self::Missing(_) => "list the volumes of this tenant",
            Self::Attached(_) => "stop the server that has it; `losetup -l` shows its device",
            Self::Busy => "look who holds the directory: `lslocks`",
            Self::NoSpace(_) => "make room, or make the volume sparse and watch the disk",
            Self::Damaged { .. } => "bring it back from a backup; nothing is guessed",
            Self::Program { .. } | Self::Step { .. } => return None,
        })
    }
}

impl Refused {
    const fn remedy(&self) -> &'static str {
        match self {
            Self::Name => "name it so",
            Self::Directory(_) => "give it to root with mode 0700",
            Self::TooFewBytes { .. }
            | Self::TooFewInodes { .. }
            | Self::TooManyInodes { .. }
            | Self::InodesOfImage { .. } => "ask for that many",
            Self::Shrinks { .. } => "make a smaller volume and copy what it shall have",
            Self::NotTheProviders(_) => {
                "unpack a tenant's image inside a sandbox of his; a provider's lies where root \
                 alone writes"
            }
            Self::NotAnImage => "make one with mksquashfs or mkfs.erofs",
        }
    }
}

impl Lacking {
    const fn remedy(&self) -> &'static str {
        match self {
            Self::ProjectQuota => {
                "use an image, or xfs mounted with prjquota, or ext4 made with the features \
                 quota and project and mounted with prjquota"
            }
            Self::LoopDevices => "load the module loop and give this process /dev/loop-control",
            Self::Program(_) => "install e2fsprogs",
            Self::FileSystem(_) => "load its module, or use a kernel that has it",
            Self::UnnamedFiles | Self::Reservation => {
                "keep the volumes on ext4, xfs, btrfs or tmpfs"
            }
            Self::MapOfIds(_) => {
                "use a kernel from 6.2 on for squashfs and from 5.19 on for erofs, or unpack the \
                 image into a tree"
            }
        }
    }
}
