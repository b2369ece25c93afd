//! Landlock: what the sandbox may do with files, TCP ports, and processes
//! and abstract sockets outside.
//!
//! Rules for trees go in beforehand by the caller's descriptors: they follow
//! the inode through move, pivot and copy. The child adds the one for the
//! proc that it mounts itself.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use cloison_linux::host::{self, Handled};
use cloison_linux::steps::Op;
use nix::errno::Errno;

use crate::Layer;
use crate::layers::tree::Tree;
use crate::plan::Composition;
use crate::spawner::errno;
use crate::steps::{Slot, StepList};

const EXECUTE: u64 = 1;
const WRITE: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const LIST: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;

/// Nothing but listing directories: the root's own.
pub(crate) const LIST_ONLY: u64 = LIST;
/// Reading one file.
pub(crate) const READ_FILE: u64 = READ | EXECUTE;
/// Reading and writing one file.
pub(crate) const WRITE_FILE: u64 = READ_FILE | WRITE | TRUNCATE | IOCTL_DEVICE;
/// Reading and executing what is beneath.
pub(crate) const READ_TREE: u64 = READ_FILE | LIST;
/// Everything beneath but making device nodes.
pub(crate) const WRITE_TREE: u64 = ALL_FILES & !(MAKE_CHAR | MAKE_BLOCK);
/// Using devices.
pub(crate) const DEVICES: u64 = READ | WRITE | LIST | TRUNCATE | IOCTL_DEVICE;
/// Reading and writing the files of a proc.
pub(crate) const PROC: u64 = READ | WRITE | LIST;

/// All rights on files up to ABI 5.
const ALL_FILES: u64 = (1 << 16) - 1;
/// Binding and connecting TCP ports.
const ALL_NETWORK: u64 = 0b11;
const BIND: u64 = 0b01;
const CONNECT: u64 = 0b10;
/// Abstract unix sockets and signals.
const ALL_SCOPE: u64 = 0b11;

/// The rights on files that a kernel of this ABI knows.
///
/// # Source
/// landlock(7), table of ABI versions
fn files_known(abi: i64) -> u64 {
    let bits = match abi {
        ..=0 => 0,
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        5.. => 16,
    };
    (1 << bits) - 1
}

/// The ruleset, with a rule for each of `trees`; `None` when every part of
/// it is waived or left out. Trees that come late are allowed later.
pub(crate) fn prepare<'a>(
    composition: &mut Composition<'_>,
    trees: impl IntoIterator<Item = &'a Tree>,
) -> Result<Option<Ruleset>, Errno> {
    let abi = host::landlock_abi().unwrap_or(0);
    let part = |layer, mask| {
        if composition.applies(layer) && !composition.is_broken(layer) {
            mask
        } else {
            0
        }
    };
    let handled = Handled {
        files: part(Layer::LandlockFiles, ALL_FILES & files_known(abi)),
        network: part(Layer::LandlockNetwork, ALL_NETWORK),
        scope: part(Layer::LandlockScope, ALL_SCOPE),
    };
    if handled == Handled::default() {
        return Ok(None);
    }
    let ruleset = host::landlock_ruleset(handled).map_err(errno)?;
    allow(ruleset.as_fd(), trees, handled.files)?;
    if handled.network != 0 {
        let tcp = &composition.spec.tcp;
        for (ports, access) in [(&tcp.bind, BIND), (&tcp.connect, CONNECT)] {
            for &port in ports {
                host::landlock_allow_port(ruleset.as_fd(), port, access).map_err(errno)?;
            }
        }
    }
    Ok(Some(Ruleset {
        slot: composition.list.own(ruleset),
        files: handled.files,
    }))
}

/// A ruleset of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruleset {
    slot: Slot,
    /// The rights on files that it handles.
    files: u64,
}

impl Ruleset {
    /// Adds a rule for each of `trees`: before the domain is entered.
    pub(crate) fn allow(self, list: &StepList, trees: &[Tree]) -> Result<(), Errno> {
        let ruleset = list.owned(self.slot).ok_or(Errno::EBADF)?;
        allow(ruleset, trees, self.files)
    }
}

fn allow<'a>(
    ruleset: BorrowedFd<'_>,
    trees: impl IntoIterator<Item = &'a Tree>,
    files: u64,
) -> Result<(), Errno> {
    for tree in trees {
        let access = tree.access & files;
        if access != 0 {
            host::landlock_allow_tree(ruleset, tree.mount.as_fd(), access).map_err(errno)?;
        }
    }
    Ok(())
}

/// Adds the rule for proc, and for a root that the child made, and enters the
/// domain.
pub(crate) fn steps(
    composition: &mut Composition<'_>,
    ruleset: Option<Ruleset>,
    made_root: Option<u64>,
) {
    let Some(Ruleset {
        slot: ruleset,
        files,
    }) = ruleset
    else {
        return;
    };
    let layer = [
        Layer::LandlockFiles,
        Layer::LandlockNetwork,
        Layer::LandlockScope,
    ]
    .into_iter()
    .find(|layer| composition.applies(*layer));
    let list = &mut composition.list;
    if PROC & files != 0 {
        let unused = list.text("");
        list.push(
            layer,
            Op::AddRule,
            [
                ruleset.into(),
                (PROC & files).into(),
                1.into(),
                unused.into(),
            ],
        );
    }
    // The inodes of an overlay are its own: no rule for a layer reaches them.
    if let Some(access) = made_root
        .map(|access| access & files)
        .filter(|access| *access != 0)
    {
        let root = list.text("/");
        list.push(
            layer,
            Op::AddRule,
            [ruleset.into(), access.into(), 0.into(), root.into()],
        );
    }
    list.push(layer, Op::RestrictSelf, [ruleset.into()]);
}

/// A port that the sandbox's rules do not allow to be bound, for the
/// self-report to try.
pub(crate) fn denied_port(composition: &Composition<'_>) -> u16 {
    // A set: a list of nearly every port is legal.
    let allowed: HashSet<u16> = composition.spec.tcp.bind.iter().copied().collect();
    (1024..=u16::MAX)
        .rev()
        .find(|port| !allowed.contains(port))
        .unwrap_or(u16::MAX)
}
