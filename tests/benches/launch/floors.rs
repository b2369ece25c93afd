//! The floors: bare launches that a sandbox is compared with. None has a
//! layer beyond the namespaces it names.

use std::error::Error;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use cloison_linux::host::{self, Reach, attribute};
use cloison_linux::steps::Op;
use cloison_sandbox::{Hierarchy, IdRange, Prepared};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use crate::block::{Argument, Block, Running};
use crate::noop;

const NEWNS: u64 = 0x2_0000;
const NEWCGROUP: u64 = 0x200_0000;
const NEWUTS: u64 = 0x400_0000;
const NEWIPC: u64 = 0x800_0000;
const NEWUSER: u64 = 0x1000_0000;
const NEWPID: u64 = 0x2000_0000;
const NEWNET: u64 = 0x4000_0000;

const NO_SUID: u64 = attribute::NO_SUID;
const NO_DEV: u64 = NO_SUID | attribute::NO_DEV;
const NO_EXEC: u64 = NO_DEV | attribute::NO_EXEC;
const READ_ONLY: u64 = attribute::READ_ONLY;

type Timed = Result<Duration, Box<dyn Error>>;

/// F0, the usual one-clone launch: seven namespaces in one clone3, the map
/// written by the parent, five mounts, pivot, exec, wait.
pub(crate) struct OneClone {
    block: Vec<u64>,
    map: String,
}

impl OneClone {
    pub(crate) fn new(root: &Path, ids: IdRange) -> Result<Self, Box<dyn Error>> {
        let root = root.to_str().ok_or("a root whose name is no text")?;
        let mut block = Block::default();
        block.push(Op::Wait, []);
        block.push(Op::SetGroup, [0.into()]);
        block.push(Op::SetUser, [0.into()]);
        block.push(Op::MakePrivate, []);
        // The old calls: MS_BIND | MS_REC, then nosuid, nodev, noexec.
        mount_old(&mut block, root, root, 0x5000, "");
        let at = block.text(root);
        block.push(Op::EnterDirectory, [at]);
        mount_old(&mut block, "proc", "proc", 2 | 4 | 8, "");
        mount_old(&mut block, "tmpfs", "dev", 2 | 8, "mode=755,size=64k");
        let pts = block.text("dev/pts");
        block.push(Op::MakeDirectory, [pts]);
        let options = "newinstance,ptmxmode=666,mode=620";
        mount_old(&mut block, "devpts", "dev/pts", 2 | 8, options);
        mount_old(&mut block, "tmpfs", "tmp", 2 | 4, "mode=1777,size=64m");
        pivot(&mut block);
        execute(&mut block);
        let flags = NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP;
        Ok(Self {
            block: block.finish(flags, None, 0),
            map: format!("0 {} {}", ids.first(), IdRange::COUNT),
        })
    }

    pub(crate) fn launch(&self) -> Timed {
        let begun = Instant::now();
        let running = Running::start(&self.block, &[])?;
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", running.pid), &self.map)?;
        }
        running.go_on()?;
        running.ended()?;
        Ok(begun.elapsed())
    }
}

/// Where a floor's network namespace comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Made inside the measured time: F1.
    Made,
    /// Made beforehand: F2.
    Pooled,
}

/// F1 and F2, the design's order with the same mounts and cgroups as the
/// sandbox compared: placed, network, mounts, pivot, user namespace joined,
/// the copy; no other layer.
pub(crate) struct DesignsOrder<'a> {
    root: &'a Path,
    prepared: &'a Prepared,
    network: Network,
}

impl<'a> DesignsOrder<'a> {
    pub(crate) fn new(root: &'a Path, prepared: &'a Prepared, network: Network) -> Self {
        Self {
            root,
            prepared,
            network,
        }
    }

    pub(crate) fn launch(&self) -> Timed {
        let begun = Instant::now();
        let mounts = self.mounts()?;
        let network = self.prepared.network.as_ref();
        let network = network.ok_or("a floor without a network namespace")?;
        let mut descriptors = vec![self.prepared.user.as_fd(), network.as_fd()];
        let mut block = Block::default();
        let born_in = self.enter_cgroups(&mut block, &mut descriptors);
        if self.network == Network::Pooled {
            block.push(Op::JoinNamespace, [1.into(), NEWNET.into()]);
        }
        block.push(Op::MakePrivate, []);
        for (target, mount) in &mounts {
            let slot = Argument::Number(descriptors.len() as u64);
            descriptors.push(mount.as_fd());
            if target.is_empty() {
                block.push(Op::AttachRoot, [slot]);
            } else {
                let path = block.text(target);
                block.push(Op::Attach, [slot, path]);
            }
        }
        let (kind, target) = (block.text("proc"), block.text("proc"));
        let options = block.list(&["subset", "pid", "hidepid", "invisible"]);
        block.push(
            Op::MountNew,
            [kind, target, options, NO_EXEC.into(), 0.into()],
        );
        pivot(&mut block);
        block.push(Op::JoinNamespace, [0.into(), NEWUSER.into()]);
        block.push(Op::Unshare, [(NEWNS | NEWIPC | NEWUTS | NEWCGROUP).into()]);
        block.push(Op::SetGroup, [0.into()]);
        block.push(Op::SetUser, [0.into()]);
        execute(&mut block);
        let made = match self.network {
            Network::Made => NEWNET,
            Network::Pooled => 0,
        };
        let block = block.finish(NEWNS | NEWPID | made, born_in, descriptors.len());
        Running::start(&block, &descriptors)?.ended()?;
        drop(mounts);
        Ok(begun.elapsed())
    }

    /// The detached mounts of a sandbox with a root of its own, made in the
    /// same way: the caller's umask is 0, so no mode is set afterwards.
    fn mounts(&self) -> Result<Vec<(&'static str, OwnedFd)>, Box<dyn Error>> {
        let ids = self.prepared.user.ids();
        let owner = ids.host_id(0).to_string();
        let root = nix::fcntl::open(
            self.root,
            nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let root = tree(root.as_fd(), NO_DEV | READ_ONLY)?;
        let dev = tmpfs(16 << 10, 32, c"755", None, NO_SUID | attribute::NO_EXEC)?;
        fill_devices(dev.as_fd())?;
        set(dev.as_fd(), READ_ONLY)?;
        let owner = Some(owner.as_str());
        let run = tmpfs(16 << 20, 16_384, c"755", owner, NO_EXEC)?;
        mkdirat(&run, "credentials", Mode::from_bits_truncate(0o755))?;
        let credentials = tmpfs(1 << 20, 256, c"500", owner, NO_EXEC)?;
        let shared = tree(credentials.as_fd(), NO_EXEC | READ_ONLY)?;
        Ok(vec![
            ("", root),
            ("dev", dev),
            ("dev/pts", devpts(ids)?),
            ("dev/shm", tmpfs(64 << 20, 16_384, c"1777", None, NO_EXEC)?),
            ("tmp", tmpfs(64 << 20, 16_384, c"1777", None, NO_DEV)?),
            ("run", run),
            ("run/credentials", shared),
        ])
    }

    fn enter_cgroups(
        &self,
        block: &mut Block,
        descriptors: &mut Vec<BorrowedFd<'a>>,
    ) -> Option<u64> {
        let mut born_in = None;
        for placement in self.prepared.cgroup.placements() {
            let slot = descriptors.len() as u64;
            if *placement.hierarchy() == Hierarchy::V2 {
                descriptors.push(placement.directory());
                born_in = Some(slot);
            } else {
                descriptors.push(placement.entry());
                block.push(Op::EnterCgroup, [slot.into()]);
            }
        }
        born_in
    }
}

fn mount_old(block: &mut Block, kind: &str, target: &str, flags: u64, options: &str) {
    let (kind, target) = (block.text(kind), block.text(target));
    let options = block.text(options);
    block.push(Op::MountOld, [kind, target, flags.into(), options]);
}

fn pivot(block: &mut Block) {
    block.push(Op::PivotRoot, []);
    block.push(Op::DetachOldRoot, []);
    block.push(Op::EnterRoot, []);
}

fn execute(block: &mut Block) {
    let path = block.text(noop::PATH);
    let arguments = block.list(&[noop::PATH]);
    let environment = block.list(&[]);
    block.push(Op::Execute, [path, arguments, environment]);
}

fn failed(call: &'static str) -> impl FnOnce(cloison_linux::sys::Errno) -> Box<dyn Error> {
    move |error| format!("{call}: error {}", error.0).into()
}

fn tree(source: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd, Box<dyn Error>> {
    let mount = host::open_tree(Some(source), c"", Reach::One).map_err(failed("open_tree"))?;
    set(mount.as_fd(), attributes)?;
    Ok(mount)
}

fn set(mount: BorrowedFd<'_>, attributes: u64) -> Result<(), Box<dyn Error>> {
    host::set_mount_attributes(mount, attributes, 0, None, Reach::One)
        .map_err(failed("mount_setattr"))
}

fn tmpfs(
    bytes: u64,
    files: u64,
    mode: &CStr,
    owner: Option<&str>,
    attributes: u64,
) -> Result<OwnedFd, Box<dyn Error>> {
    let text = |value: String| std::ffi::CString::new(value);
    let (bytes, files) = (text(bytes.to_string())?, text(files.to_string())?);
    let owner = owner.map(|owner| text(owner.to_owned())).transpose()?;
    let mut options: Vec<(&CStr, Option<&CStr>)> = vec![
        (c"size", Some(&bytes)),
        (c"nr_inodes", Some(&files)),
        (c"mode", Some(mode)),
    ];
    if let Some(owner) = &owner {
        options.push((c"uid", Some(owner)));
        options.push((c"gid", Some(owner)));
    }
    host::new_mount(c"tmpfs", &options, attributes).map_err(failed("tmpfs"))
}

fn devpts(ids: IdRange) -> Result<OwnedFd, Box<dyn Error>> {
    let (uid, gid) = (
        std::ffi::CString::new(ids.host_id(0).to_string())?,
        std::ffi::CString::new(ids.host_id(5).to_string())?,
    );
    let options: [(&CStr, Option<&CStr>); 5] = [
        (c"mode", Some(c"620")),
        (c"ptmxmode", Some(c"666")),
        (c"uid", Some(&uid)),
        (c"gid", Some(&gid)),
        (c"max", Some(c"64")),
    ];
    host::new_mount(c"devpts", &options, NO_SUID | attribute::NO_EXEC).map_err(failed("devpts"))
}

fn fill_devices(dev: BorrowedFd<'_>) -> Result<(), Box<dyn Error>> {
    for (name, (major, minor)) in [
        ("null", (1, 3)),
        ("zero", (1, 5)),
        ("full", (1, 7)),
        ("random", (1, 8)),
        ("urandom", (1, 9)),
        ("tty", (5, 0)),
    ] {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(dev, name, SFlag::S_IFCHR, mode, makedev(major, minor))?;
    }
    for name in ["pts", "shm"] {
        mkdirat(dev, name, Mode::from_bits_truncate(0o755))?;
    }
    for (name, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlinkat(to, dev, name)?;
    }
    Ok(())
}
