//! Why a document was not made.

use std::path::PathBuf;

use cloison_sandbox::Layer;

/// Why a document was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// No such command.
    #[error(
        "usage: cargo xtask docs | compared | compat | kernels | guest KERNEL [--full] [--limit-s N] -- COMMAND..."
    )]
    Usage,
    /// A guest did not run its command.
    #[error(transparent)]
    Guest(#[from] cloison_tests::guest::GuestError),
    /// The source of the layers has no meaning for this one.
    #[error("crates/cloison-sandbox/src/layer.rs has no doc comment for {0:?}")]
    NoMeaning(Layer),
    /// The text has not one place for the table.
    #[error("SECURITY.md has not one `{first}` before one `{last}`")]
    NoPlace {
        /// The line that the table stands after.
        first: &'static str,
        /// The line that it stands before.
        last: &'static str,
    },
    /// A document with a made part could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// Where it should stand.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The trial did not start.
    #[error("starting the trial")]
    Trial(#[source] std::io::Error),
    /// The trial failed; it has said why.
    #[error("the trial failed: {0}")]
    Tried(std::process::ExitStatus),
    /// The README has not the two lines between which the table stands.
    #[error("README.md has no place for the table of kernels")]
    NoTable,
    /// The document could not be written.
    #[error("writing {}", path.display())]
    Write {
        /// Where it should stand.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
