//! Taking a layer away, so that a probe can be shown to be alive.

use std::os::fd::OwnedFd;

use crate::Layer;
use crate::posture::Field;

/// One way in which a plan is weaker than its spec. Named by tests and by
/// `cloison-escape` alone.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub enum Weakening {
    /// The layer is neither planned nor expected.
    Without(Layer),
    /// The layer is planned and expected, but the child leaves out its
    /// steps: the posture must turn red.
    Broken(Layer),
    /// Everything is planned and expected, but the one step that decides the
    /// field is left out or does another thing: the field must turn red.
    BrokenField(Field),
    /// A descriptor is kept that the posture does not expect.
    Leak(OwnedFd),
    /// Trees below this path are attached after the copy, where nothing
    /// locks them.
    Unlocked(&'static str),
    /// The n-th step and the one after it change places.
    Swapped(usize),
    /// The seccomp programs are these.
    Seccomp(crate::seccomp::Filters),
}
