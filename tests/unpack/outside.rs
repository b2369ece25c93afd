//! What lies outside of a tree, looked at before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything beneath a directory, as far as it could be changed, but for one tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside(BTreeMap<PathBuf, String>);

impl Outside {
    /// `but` itself is looked at, what is in it is not.
    pub(crate) fn look(beneath: &Path, but: &Path) -> Self {
        let mut files = BTreeMap::new();
        walk(beneath, but, &mut files);
        Self(files)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is not as it was.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let paths = self.0.keys().chain(now.0.keys());
        let changed = paths.filter(|path| self.0.get(*path) != now.0.get(*path));
        let mut changes: Vec<String> = changed
            .map(|path| {
                let (was, is) = (self.0.get(path), now.0.get(path));
                format!("{}: {was:?}, now {is:?}", path.display())
            })
            .collect();
        changes.dedup();
        changes
    }
}

fn walk(path: &Path, but: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let status = path.symlink_metadata().unwrap();
    let content = if status.is_file() {
        fs::read(path).unwrap()
    } else if status.is_symlink() {
        fs::read_link(path)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes()
    } else {
        Vec::new()
    };
    let mut seen = format!(
        "{} {:o} {}:{} {} links {} bytes",
        status.ino(),
        status.mode(),
        status.uid(),
        status.gid(),
        status.nlink(),
        status.size(),
    );
    if path == but {
        // What is unpacked may change the top of its tree.
        seen = format!("{}", status.ino());
    } else {
        let (modified, changed) = (status.mtime_nsec(), status.ctime_nsec());
        let seconds = (status.mtime(), status.ctime());
        seen.push_str(&format!(
            " {seconds:?} {modified} {changed} {:?}",
            content.escape_ascii().to_string()
        ));
    }
    files.insert(path.to_owned(), seen);
    if status.is_dir() && path != but {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), but, files);
        }
    }
}
