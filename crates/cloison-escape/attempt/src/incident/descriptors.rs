//! Inherited descriptors: each open folder, and those above it.

use std::path::Path;

use super::attacker::Tally;
use super::calls;
use super::files::Found;

const DESCRIPTORS_MAX: i32 = 1024;

/// Searches from every descriptor that was left open and names a folder.
/// proc is not asked: a sandbox may have none. The working folder is another
/// one afterwards; nothing that follows names a relative path.
pub(super) fn find(found: &mut Found) -> Tally {
    let mut tally = Tally::default();
    for descriptor in 3..DESCRIPTORS_MAX {
        let entered = calls::fchdir(descriptor);
        if entered.is_ok() {
            for above in [".", "..", "../.."] {
                found.search(Path::new(above), &mut tally);
            }
        } else {
            tally.count(&entered);
        }
    }
    tally
}
