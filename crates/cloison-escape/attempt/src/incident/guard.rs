//! What makes the attacker harmless: where it runs, and what it may change.

use std::fs;
use std::path::Path;

/// The first words of every file, message, key and answer that is a canary.
pub(super) const CANARY: &[u8] = b"CLOISON CANARY";
/// What the kernel calls a process that may be traced and written into.
pub(super) const SERVER: &str = "canary-serve";
/// What the kernel calls a process that may be ended.
pub(super) const CLERK: &str = "canary-clerk";
/// What the attacker leaves where it could change something.
pub(super) const TAKEN: &[u8] = b"TAKEN";
/// The value of a semaphore that is a canary.
pub(super) const SEMAPHORE: i64 = 4242;

const MARKER: &str = "/cloison-stage";
const MARKER_CONTENT: &[u8] = b"CLOISON STAGE\n";

/// Whether this is ground that the re-enactment made: the marker stands in
/// the root, and nothing that the root of a machine has.
pub(super) fn on_stage() -> bool {
    let foreign = ["/usr", "/etc", "/home", "/var", "/root", "/boot"];
    fs::read(MARKER).is_ok_and(|content| content == MARKER_CONTENT)
        && !foreign
            .iter()
            .any(|path| Path::new(path).symlink_metadata().is_ok())
}

/// Whether these bytes say that they are a canary.
pub(super) fn is_canary(content: &[u8]) -> bool {
    content.starts_with(CANARY)
}

/// Whether the kernel calls the process `pid` by this name.
pub(super) fn is_called(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim_end() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacker_does_not_begin_on_a_machine() {
        assert!(!on_stage());
    }

    #[test]
    fn only_what_says_so_is_a_canary() {
        assert!(is_canary(b"CLOISON CANARY\npayroll"));
        for other in [&b""[..], b"CLOISON", b" CLOISON CANARY", b"payroll"] {
            assert!(!is_canary(other));
        }
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        assert!(!is_called(own, SERVER) && !is_called(own, CLERK));
    }
}
