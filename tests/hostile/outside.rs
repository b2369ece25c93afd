//! What lies outside a tree, looked at before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything beneath some directories, as far as it could be changed, and the
/// mounts of this namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    files: BTreeMap<PathBuf, String>,
    mounts: Vec<String>,
}

impl Outside {
    pub(crate) fn look(beneath: &[&str]) -> Self {
        let mut files = BTreeMap::new();
        for path in beneath {
            walk(Path::new(path), &mut files);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts: Vec<String> = mounts.lines().map(str::to_owned).collect();
        mounts.sort();
        Self { files, mounts }
    }

    /// What is not as it was.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for path in self.files.keys().chain(now.files.keys()) {
            let (was, is) = (self.files.get(path), now.files.get(path));
            if was != is {
                changes.push(format!("{}: {was:?}, now {is:?}", path.display()));
            }
        }
        let new = now.mounts.iter().filter(|line| !self.mounts.contains(line));
        changes.extend(new.map(|line| format!("mounted: {line}")));
        changes
    }
}

fn walk(path: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let status = path.symlink_metadata().unwrap();
    let content = if status.is_file() && status.mode() & 0o400 != 0 {
        fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    let kind = status.file_type();
    let mode = status.mode();
    let (owner, group) = (status.uid(), status.gid());
    let changed = (status.ctime(), status.ctime_nsec());
    let fifo = kind.is_fifo();
    files.insert(
        path.to_owned(),
        format!("{mode:o} {owner}:{group} {changed:?} {fifo} {content:?}"),
    );
    if status.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), files);
        }
    }
}
