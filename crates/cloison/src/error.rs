//! What can go wrong, by what the caller can do.

use std::io;
use std::path::PathBuf;

use crate::settings::FileError;

/// Why something was not done. Nothing of it was done then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of ours, or one that we read, refused.
    #[error("{doing} {}", path.display())]
    Path {
        /// What was to be done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of settings is refused.
    #[error(transparent)]
    File(#[from] Box<FileError>),
    /// The directory of state is not safe to keep state in.
    #[error("{} is not safe to keep state in: {reason}", path.display())]
    UnsafeState {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file of the state that this library did not write so.
    #[error("{} is not a file of this library, or is damaged", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        source: Option<serde_json::Error>,
    },
    /// A file of the state that a later version wrote.
    #[error("{} is of format {found}; this version knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// A file of the state that another host wrote.
    #[error("{} was written by another host", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else has changed the state for too long.
    #[error("another process has held {} for too long", .0.display())]
    Locked(PathBuf),
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Box::new(error).into()
    }
}

/// Names what was done to a path.
pub(crate) fn at(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Path {
        doing,
        path,
        source,
    }
}

impl Error {
    /// What an operator can do.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnsafeState { .. } => "name a directory that only root can enter",
            Self::Torn { .. } => {
                "bring the file back from a backup of this host; nothing is guessed"
            }
            Self::Newer { .. } => "use the version that wrote it, or a later one",
            Self::Foreign { .. } => {
                "each host has a state of its own: name another directory, or bring back that of \
                 this host"
            }
            Self::Locked(_) => "look who holds it: `lslocks`",
            Self::File(_) | Self::Path { .. } => return None,
        })
    }
}
