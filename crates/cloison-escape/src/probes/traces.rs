//! What a way leaves in the stage's `/proc` while it holds still.

use std::io;

use super::outside::Process;

/// What one way is seen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A descriptor whose name begins so.
    Descriptor(&'static str),
    /// A descriptor open for writing whose name ends so.
    Written(&'static str),
    /// A descriptor of which the kernel tells so, in a line that begins so.
    Told(&'static str),
    /// A file system of that type over the scratch directory.
    Mounted(&'static str),
    /// A node at that path: a device of that number.
    Node(&'static str, u64),
    /// A file at that path.
    File(&'static str),
    /// A mark of one of its mappings.
    Mapping(&'static str),
    /// A field of its status, and its value.
    Status(&'static str, &'static str),
    /// A field of its status, and what its value ends with.
    StatusEnds(&'static str, &'static str),
    /// The beginning of a file of the stage's `/proc`, handed back.
    Beginning(&'static str),
}

/// Where a mount of the attempt's stands.
const OVER: &str = "/tmp/scratch/over";

impl Trace {
    /// Whether `attempt` shows it.
    pub(super) fn shows(self, attempt: Process) -> io::Result<bool> {
        match self {
            Self::Descriptor(start) => attempt.holds_one_of(start),
            Self::Written(end) => attempt.writes_to(end),
            Self::Told(start) => attempt.is_told(start),
            Self::Mounted(kind) => {
                let mounts = attempt.text("mountinfo")?;
                Ok(mounts.lines().any(|line| is_mounted(line, kind)))
            }
            Self::Node(path, number) => attempt.has_node(path, number),
            Self::File(path) => attempt.has_file(path),
            Self::Mapping(mark) => {
                let mappings = attempt.text("smaps")?;
                let marks = mappings
                    .lines()
                    .filter_map(|line| line.strip_prefix("VmFlags:"));
                Ok(marks
                    .flat_map(str::split_whitespace)
                    .any(|word| word == mark))
            }
            Self::Status(field, value) => Ok(attempt.field(field).as_deref() == Some(value)),
            Self::StatusEnds(field, end) => Ok(attempt
                .field(field)
                .is_some_and(|value| value.ends_with(end))),
            Self::Beginning(_) => Ok(false),
        }
    }
}

fn is_mounted(line: &str, kind: &str) -> bool {
    let stands = line.split(' ').nth(4) == Some(OVER);
    let found = line
        .split_once(" - ")
        .and_then(|(_, rest)| rest.split(' ').next());
    stands && found == Some(kind)
}
