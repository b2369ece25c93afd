//! The corpus, unpacked beside canaries: by us, and by name.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cloison_storage::unpack::{Error, Options, Unpacked, unpack};
use cloison_storage::{Devices, tree};
use cloison_tests::{Outcome, REPORT};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::archive::encode;
use crate::by_name;
use crate::corpus::{Sample, samples};
use crate::outside::Outside;

/// All that an archive could reach lies beneath it: the machine's `/tmp` is not there.
const GROUND: &str = "/tmp/ground";
pub(crate) const OUTSIDE: &str = "/tmp/ground/outside";
pub(crate) const TREE: &str = "/tmp/ground/place/tree";
const PATIENCE: Duration = Duration::from_secs(60);

/// The canaries as they were, and an empty tree between them.
fn ground() {
    if Path::new(GROUND).exists() {
        fs::remove_dir_all(GROUND).unwrap();
    }
    for directory in ["outside/deep/er", "outside/link", "place/tree"] {
        fs::create_dir_all(Path::new(GROUND).join(directory)).unwrap();
    }
    for file in [
        "outside/file",
        "outside/deep/file",
        "outside/link/file",
        "place/sibling",
        "file",
    ] {
        let path = Path::new(GROUND).join(file);
        fs::write(&path, "canary").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    }
    symlink("file", Path::new(OUTSIDE).join("to-file")).unwrap();
    mkfifo(&Path::new(OUTSIDE).join("fifo"), Mode::S_IRWXU).unwrap();
}

fn look() -> Outside {
    Outside::look(Path::new("/tmp"), Path::new(TREE))
}

fn open_tree() -> OwnedFd {
    File::open(TREE).unwrap().into()
}

/// Why an archive was refused, without what is its own.
fn reason(error: &Error) -> String {
    match error {
        Error::Refused { rule, .. } => format!("{rule:?}"),
        Error::Limit { limit, .. } => format!("limit of {limit:?}"),
        Error::Malformed { fault, .. } => format!("malformed: {fault}"),
        Error::Call { doing, errno, .. } => format!("call: {doing}: {errno}"),
        other => format!("{other:?}"),
    }
}

/// What was unpacked whole has its first and last file, and nothing that only a
/// host makes.
fn is_whole(unpacked: &Unpacked) -> Result<(), String> {
    let content = |name: &str| fs::read(Path::new(TREE).join(name)).unwrap_or_default();
    if content("last") != b"last" {
        return Err(format!("{unpacked:?}, and the last file is missing"));
    }
    for entry in fs::read_dir(TREE).unwrap() {
        let status = entry.unwrap().metadata().unwrap();
        use std::os::unix::fs::FileTypeExt;
        if status.file_type().is_char_device() || status.file_type().is_block_device() {
            return Err("a device node was made".to_owned());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Count {
    archives: usize,
    whole: usize,
    refused: BTreeMap<String, usize>,
}

pub(crate) fn contained() -> Outcome {
    ground();
    let before = look();
    let mut count = Count::default();
    let mut faults = Vec::new();
    let skipping = Options {
        devices: Devices::Skip,
        ..Options::default()
    };
    for sample in samples() {
        let bytes = encode(&sample.items, sample.squeezed);
        // Either way with devices, in turn.
        let options = if count.archives % 2 == 0 {
            Options::default()
        } else {
            skipping
        };
        let result = unpack(bytes.as_slice(), open_tree().as_fd(), &options);
        count.archives += 1;
        if let Err(fault) = judge(&sample, result, &mut count) {
            faults.push(format!("{}: {fault}", sample.about()));
        }
        let removed = tree::empty(open_tree().as_fd(), PATIENCE).unwrap();
        if !removed.is_whole() {
            faults.push(format!("{}: {removed:?}", sample.about()));
        }
        let changes = before.changes(&look());
        if !changes.is_empty() {
            faults.push(format!("{}: {changes:?}", sample.about()));
            break;
        }
    }
    let refused: usize = count.refused.values().sum();
    println!(
        "{REPORT}{} archives, {} unpacked whole, {refused} refused; {} things outside, none changed",
        count.archives,
        count.whole,
        before.len()
    );
    for (reason, times) in &count.refused {
        println!("{REPORT}refused {times}: {reason}");
    }
    if count.archives < 2000 || count.whole < 500 || refused < 500 {
        faults.push("the corpus is too small".to_owned());
    }
    fs::remove_dir_all(GROUND).unwrap();
    faults.truncate(10);
    faults.into()
}

fn judge(
    sample: &Sample,
    result: Result<Unpacked, Error>,
    count: &mut Count,
) -> Result<(), String> {
    match result {
        Ok(unpacked) => {
            count.whole += 1;
            let entries = usize::try_from(unpacked.entries).unwrap();
            if entries != sample.items.len() {
                return Err(format!("{entries} entries"));
            }
            is_whole(&unpacked)
        }
        Err(error) => {
            let text = error.to_string();
            let is_harmless = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            // Nothing here is beyond what this user may do: an error of a call, or
            // a broken archive, is a fault of ours.
            let is_refusal = matches!(error, Error::Refused { .. } | Error::Limit { .. });
            *count.refused.entry(reason(&error)).or_default() += 1;
            if is_harmless && is_refusal {
                Ok(())
            } else {
                Err(format!("{error:?}"))
            }
        }
    }
}

/// The corpus is alive: whoever takes names for places is led outside by some of it.
pub(crate) fn control() -> Outcome {
    ground();
    let mut before = look();
    let (mut archives, mut led) = (0, 0);
    let (mut by_name_of, mut by_links, mut by_kind) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for sample in samples() {
        archives += 1;
        by_name::unpack(&sample.items, Path::new(TREE));
        if before.changes(&look()).is_empty() {
            let removed = tree::empty(open_tree().as_fd(), PATIENCE).unwrap();
            assert!(removed.is_whole(), "{removed:?}");
            continue;
        }
        led += 1;
        *by_name_of.entry(sample.name).or_insert(0) += 1;
        *by_links.entry(sample.links).or_insert(0) += 1;
        *by_kind.entry(sample.kind).or_insert(0) += 1;
        ground();
        before = look();
    }
    println!("{REPORT}{archives} archives by name, {led} of them changed something outside");
    println!("{REPORT}by name: {by_name_of:?}");
    println!("{REPORT}by links: {by_links:?}");
    println!("{REPORT}by type: {by_kind:?}");
    fs::remove_dir_all(GROUND).unwrap();
    let mut faults = Vec::new();
    for (what, alive) in [
        (
            "a link to a directory before",
            by_links.contains_key("a link to a directory before"),
        ),
        (
            "two links before",
            by_links.contains_key("two links before"),
        ),
        (
            "a hard link before",
            by_links.contains_key("a hard link before"),
        ),
        ("a link after", by_links.contains_key("a link after")),
        ("sibling", by_name_of.contains_key("sibling")),
        ("absolute", by_name_of.contains_key("absolute")),
        (
            "beneath the link",
            by_name_of.contains_key("a file beneath the link"),
        ),
        (
            "hard link outside",
            by_kind.contains_key("hard link outside"),
        ),
    ] {
        if !alive {
            faults.push(format!("{what} leads nobody outside"));
        }
    }
    if led < 500 {
        faults.push(format!("only {led} archives lead outside"));
    }
    faults.into()
}
