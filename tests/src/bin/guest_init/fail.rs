//! What went wrong in a guest, for the one line that its host reads.

use std::error::Error;
use std::fmt;
use std::io;

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    step: String,
    source: io::Error,
}

impl Failed {
    pub(crate) fn new(step: &str, source: impl Into<io::Error>) -> Self {
        Self {
            step: step.to_owned(),
            source: source.into(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl Error for Failed {}

pub(crate) fn step<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> Failed {
    move |source| Failed::new(step, source)
}
