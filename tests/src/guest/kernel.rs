//! The kernels that guests boot.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use super::{GuestError, fetched};

/// What a production host has at hand, or loads when it is asked for it: the
/// kernels of clouds have these as modules.
const MODULES: &[&str] = &[
    "overlay",
    "squashfs",
    "loop",
    "veth",
    "bridge",
    "tun",
    "nf_tables",
    "vsock",
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "binfmt_misc",
    "xfrm_user",
    "zram",
];

/// The same where the kernel still has it: what older ones need for swap in
/// compressed memory.
const OLDER_MODULES: &[&str] = &["lzo_rle"];

/// One of Debian's kernels, fetched by `.ci/fetch-guests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuestKernel {
    /// That of bullseye: too old, and it must be said how.
    V5_10,
    /// That of bookworm: the oldest that must do.
    V6_1,
    /// That of trixie.
    V6_12,
    /// That of trixie's backports.
    V7_3,
}

impl GuestKernel {
    /// All, the oldest first.
    pub const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_3];

    /// The part of its version by which it is known.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_3 => "7.3",
        }
    }

    /// The whole of its version, as uname(2) tells it.
    ///
    /// # Errors
    /// [`GuestError::NotFetched`].
    pub fn release(self) -> Result<String, GuestError> {
        let text = fs::read_to_string(self.file("release"));
        let text = text.map_err(|_| GuestError::NotFetched(self))?;
        Ok(text.trim().to_owned())
    }

    pub(crate) fn image(self) -> PathBuf {
        self.file("vmlinuz")
    }

    fn file(self, name: &str) -> PathBuf {
        fetched().join("guests").join(self.name()).join(name)
    }

    /// The modules to load, each after those that it needs: path and bytes.
    pub(crate) fn modules(self) -> Result<Vec<(PathBuf, Vec<u8>)>, GuestError> {
        let folder = self.file("modules");
        let read = |name| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| GuestError::File { path, source })
        };
        let (needs, built_in) = (read("modules.dep")?, read("modules.builtin")?);
        let needs = parse_needs(&needs);
        let built_in: Vec<String> = built_in.lines().map(name_of).collect();
        let mut ordered = Vec::new();
        let older = OLDER_MODULES
            .iter()
            .filter(|name| needs.contains_key(**name));
        for name in older.chain(MODULES) {
            match needs.get_key_value(*name) {
                Some((_, (path, below))) => {
                    // What comes last in the list must be loaded first.
                    for path in below.iter().rev().chain([path]) {
                        if !ordered.contains(path) {
                            ordered.push(*path);
                        }
                    }
                }
                None if built_in.iter().any(|built| built == name) => {}
                None => return Err(GuestError::NoModule { kernel: self, name }),
            }
        }
        ordered
            .into_iter()
            .map(|path| {
                let bytes = unpacked(&folder.join(path))?;
                Ok((PathBuf::from(format!("{}.ko", name_of(path))), bytes))
            })
            .collect()
    }
}

impl fmt::Display for GuestKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GuestKernel {
    type Err = GuestError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kernel| kernel.name() == name);
        found.ok_or_else(|| GuestError::NoSuchKernel(name.to_owned()))
    }
}

/// Each module by its name: its path, and those of all that it needs.
fn parse_needs(text: &str) -> BTreeMap<String, (&str, Vec<&str>)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (name_of(path), (path, needs.split_whitespace().collect())))
        .collect()
}

/// `kernel/net/bridge/br-x.ko.xz` is the module `br_x`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// A module's bytes: they are packed in later releases.
fn unpacked(path: &Path) -> Result<Vec<u8>, GuestError> {
    let failed = |source| GuestError::File {
        path: path.to_owned(),
        source,
    };
    if path.extension() != Some(OsStr::new("xz")) {
        return fs::read(path).map_err(failed);
    }
    let mut xz = Command::new("xz");
    let xz = xz.args(["--decompress", "--stdout"]).arg(path);
    super::said_by(xz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_name_and_what_it_needs() {
        let needs = parse_needs("k/br-x.ko.xz: k/stp.ko.xz k/llc.ko.xz\nk/llc.ko.xz:\n");
        let found = needs.get("br_x");
        let below = vec!["k/stp.ko.xz", "k/llc.ko.xz"];
        assert_eq!(found, Some(&("k/br-x.ko.xz", below)));
        assert!(needs.contains_key("llc"));
    }

    #[test]
    fn every_kernel_is_found_by_its_name() {
        for kernel in GuestKernel::ALL {
            assert!(matches!(kernel.name().parse(), Ok(found) if kernel == found));
        }
        assert!("2.6".parse::<GuestKernel>().is_err());
    }
}
