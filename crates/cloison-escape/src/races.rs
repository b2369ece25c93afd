//! Races against whoever prepares a root: while a launch goes on, an entry of
//! the tenant's tree is swapped for a link that leads out of it.
//!
//! A race is no [`crate::probes::Probe`]: nothing runs inside that a layer could
//! stop. What holds it is how paths are opened; so its control is no weakened
//! sandbox but an implementation by name, kept in the tests, which loses to the
//! same swapper.

/// One race.
#[derive(Debug)]
pub struct Race {
    /// Its row in the catalogue.
    pub id: &'static str,
    /// What is tried, in a few words.
    pub title: &'static str,
    /// Where it was done or described before.
    pub reference: &'static str,
    /// What is swapped, in the tenant's tree.
    pub swapped: &'static str,
    /// What holds it. A test shows that together they do.
    pub held_by: &'static [&'static str],
    /// What the control does by name.
    pub control: &'static str,
}

const BENEATH: &str = "openat2 beneath the root's descriptor, no link followed";
const STAGED: &str = "a staged mount namespace in which the host's files are not";
const READ_BACK: &str = "mounts and device nodes read back before anything runs";

/// Every race, in the order of the catalogue.
pub const RACES: [Race; 5] = [
    Race {
        id: "a15",
        title: "a directory is swapped for a link while mounts are made",
        reference: "CVE-2021-30465, CVE-2019-19921",
        swapped: "a directory above a place to mount on",
        held_by: &[BENEATH, STAGED, READ_BACK],
        control: "mounts a tree on the path",
    },
    Race {
        id: "a16",
        title: "the source of a mask is swapped for a link",
        reference: "CVE-2025-31133",
        swapped: "`dev`, with the null device in it",
        held_by: &[
            "masks and device nodes are ours: none is taken from the tree",
            READ_BACK,
        ],
        control: "binds the tree's null device over a file",
    },
    Race {
        id: "a17",
        title: "the place of the console is swapped for a link",
        reference: "CVE-2025-52565",
        swapped: "`dev`, with the place of the console in it",
        held_by: &[
            "a devpts of the sandbox's own, on a /dev of its own",
            BENEATH,
            STAGED,
        ],
        control: "binds a terminal on the path",
    },
    Race {
        id: "a18",
        title: "what is written to proc goes to another file",
        reference: "CVE-2025-52881, CVE-2019-16884",
        swapped: "`proc`",
        held_by: &[
            "written through the descriptor of the proc just mounted",
            BENEATH,
            STAGED,
        ],
        control: "writes its oom score by name",
    },
    Race {
        id: "a34",
        title: "a place to mount on is made through a swapped directory",
        reference: "CVE-2024-45310",
        swapped: "a directory above a place to mount on",
        held_by: &["no place is ever made in a tenant's tree", BENEATH],
        control: "makes the directories of the path",
    },
];
