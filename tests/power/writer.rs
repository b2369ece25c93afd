//! The writer, in a guest: changes one file after the other through the
//! library, and marks each change that was acknowledged.

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cloison::StateDirectory;
use cloison_tests::guest::find_disk;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{UnlinkatFlags, sync, unlinkat};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

use crate::layout::{Marks, Mounted, STATE};
use crate::load::{NAMES, What, change, content};
use crate::{Failure, STATE_DISK};

/// Between the starts of two changes, at least: a writer that waits for no disk
/// is to be no busier than the others, and the log has an end.
const PAUSE: Duration = Duration::from_millis(5);
/// Far longer than one process may hold the lock here.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which flushes do not happen: the kernel says that they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeftOut {
    Nothing,
    /// Those of the files.
    Files,
    /// Those of the directory.
    Directory,
    Both,
}

/// What a writer is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) left_out: LeftOut,
}

/// Writes for as long as it is told, and says how many changes that were.
pub(crate) fn write(load: &Load) -> Result<u64, Failure> {
    let disk = find_disk(STATE_DISK)?.display().to_string();
    let mounted = Mounted::mount(Path::new(&format!("{disk}1")))?;
    let mut marks = Marks::open(Path::new(&format!("{disk}2")))?;
    let state = StateDirectory::open(Path::new(STATE))?;
    let lock = state.lock(PATIENCE, || Ok::<(), cloison::Error>(()))?;
    sync();
    marks.write(0)?;
    leave_out(load.left_out, state.directory().as_raw_fd())?;
    let end = Instant::now() + Duration::from_secs(load.seconds);
    let mut acknowledged = 0;
    while Instant::now() < end {
        let next = Instant::now() + PAUSE;
        let number = acknowledged + 1;
        let change = change(load.seed, number);
        let name = NAMES.get(change.file).ok_or("no such file")?;
        match change.what {
            What::Written => state.write(&lock, name, &content(load.seed, number, name))?,
            What::Removed => state.remove(&lock, name)?,
            What::RemovedAgain => {
                match unlinkat(state.directory(), *name, UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
                state.remove(&lock, name)?;
            }
        }
        marks.write(number)?;
        acknowledged = number;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    drop((lock, state, mounted));
    Ok(acknowledged)
}

/// From here on those flushes return without having done anything. It is the
/// library's own writer all the same.
fn leave_out(left_out: LeftOut, directory: RawFd) -> Result<(), Failure> {
    let flushes = [libc::SYS_fsync, libc::SYS_fdatasync];
    let on_directory = |operator| -> Result<Vec<SeccompRule>, Failure> {
        let number = u64::try_from(directory)?;
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, number)?;
        Ok(vec![SeccompRule::new(vec![is])?])
    };
    let rules = match left_out {
        LeftOut::Nothing => return Ok(()),
        LeftOut::Files => on_directory(SeccompCmpOp::Ne)?,
        LeftOut::Directory => on_directory(SeccompCmpOp::Eq)?,
        LeftOut::Both => Vec::new(),
    };
    let filter = SeccompFilter::new(
        flushes.map(|call| (call, rules.clone())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        TargetArch::x86_64,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
