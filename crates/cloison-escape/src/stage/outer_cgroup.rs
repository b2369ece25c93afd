//! The cgroups that bound a stage from outside, one in every hierarchy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::devices;
use super::hierarchies::{Hierarchy, Kind, LIMITING, descend};
use super::{Limits, StageError};

const PREFIX: &str = "cloison-stage-";
/// What follows in the name of a group whose owner holds its lock.
const LOCKED: &str = "locked-";
/// The file of a group whose lock counts. That of the directory is taken by
/// whoever tries features in the group.
const LOCK: &str = "cgroup.procs";
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);
const CPU_PERIOD_US: u64 = 100_000;
/// What sandboxes on the stage may be limited by, and the stage itself is not.
const GIVEN_ON: [&str; 2] = ["cpuset", "io"];

/// The groups of one stage. Made by steps, so that what was made is known,
/// and removed, also when a later step fails.
#[derive(Debug, Default)]
pub(super) struct OuterCgroup {
    groups: Vec<(Kind, PathBuf)>,
    /// One lock a group, held as long as this process lives: the next stage
    /// knows by it whose group may go.
    locks: Vec<Flock<File>>,
    /// Controllers of v2 switched on for the group's sake.
    switched_on: Vec<(PathBuf, &'static str)>,
}

impl OuterCgroup {
    /// Makes the groups, and bounds them.
    pub(super) fn make(&mut self, limits: &Limits) -> Result<(), StageError> {
        let hierarchies = Hierarchy::read_all().map_err(StageError::CgroupsUnreadable)?;
        let name = format!("{PREFIX}{LOCKED}{}", own_identity()?);
        let mut bounded = Vec::new();
        for hierarchy in &hierarchies {
            let mut controllers = Vec::new();
            for controller in LIMITING {
                if hierarchy
                    .bears(controller)
                    .map_err(StageError::CgroupsUnreadable)?
                {
                    controllers.push(controller);
                }
            }
            let mut given = controllers.clone();
            for controller in GIVEN_ON {
                let is_there = hierarchy.kind == Kind::V2
                    && !controllers.is_empty()
                    && hierarchy
                        .bears(controller)
                        .map_err(StageError::CgroupsUnreadable)?;
                given.extend(is_there.then_some(controller));
            }
            let parent = self.parent(hierarchy, &given)?;
            let group = parent.join(&name);
            let lock = create_locked(&group).map_err(|source| step(&group, source))?;
            self.groups.push((hierarchy.kind.clone(), group.clone()));
            self.locks.push(lock);
            fill_cpuset(&parent, &group)?;
            for controller in &controllers {
                bound(&hierarchy.kind, &group, controller, limits)?;
            }
            if hierarchy
                .bears("devices")
                .map_err(StageError::CgroupsUnreadable)?
            {
                for (file, rule) in devices::rules() {
                    write(&group.join(file), &rule)?;
                }
            }
            bounded.extend(controllers);
        }
        match LIMITING.into_iter().find(|name| !bounded.contains(name)) {
            Some(controller) => Err(StageError::NoController { controller }),
            None => Ok(()),
        }
    }

    /// Places a process, in all hierarchies.
    pub(super) fn place(&self, pid: u32) -> Result<(), StageError> {
        for (_, group) in &self.groups {
            write(&group.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Ends every process in the groups, frozen ones too.
    pub(super) fn end_processes(&self) -> Result<(), StageError> {
        self.groups
            .iter()
            .try_for_each(|(_, group)| end_processes(group))
    }

    /// Ends every process in the groups, frozen ones too, and removes them.
    pub(super) fn remove(mut self) -> Result<(), StageError> {
        let deadline = Instant::now() + REMOVAL_TIMEOUT;
        for (_, group) in self.groups.drain(..) {
            loop {
                end_processes(&group)?;
                match remove_tree(&group) {
                    Ok(()) => break,
                    Err(source) if Instant::now() > deadline => return Err(step(&group, source)),
                    Err(_) => thread::sleep(REMOVAL_PAUSE),
                }
            }
        }
        for (group, controller) in self.switched_on.drain(..).rev() {
            write(
                &group.join("cgroup.subtree_control"),
                &format!("-{controller}"),
            )?;
        }
        Ok(())
    }

    /// The group beneath which a group with `controllers` can be made.
    ///
    /// # Kernel
    /// In v2 a group that holds processes, unless it is the root, gives no
    /// controllers to groups beneath it: then the nearest group above that
    /// can is taken.
    fn parent(
        &mut self,
        hierarchy: &Hierarchy,
        controllers: &[&'static str],
    ) -> Result<PathBuf, StageError> {
        if hierarchy.kind != Kind::V2 || controllers.is_empty() {
            return Ok(hierarchy.own.clone());
        }
        let mut refused = None;
        for group in hierarchy.own.ancestors() {
            if !group.starts_with(&hierarchy.mount_point) {
                break;
            }
            match self.switch_on(group, controllers) {
                Ok(()) => return Ok(group.to_owned()),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(StageError::NoController {
            controller: "memory",
        }))
    }

    fn switch_on(&mut self, group: &Path, controllers: &[&'static str]) -> Result<(), StageError> {
        let file = group.join("cgroup.subtree_control");
        let on = fs::read_to_string(&file).map_err(|source| step(&file, source))?;
        for controller in controllers {
            if on.split_whitespace().any(|name| name == *controller) {
                continue;
            }
            write(&file, &format!("+{controller}"))?;
            self.switched_on.push((group.to_owned(), controller));
        }
        Ok(())
    }
}

/// Makes a group and takes its lock.
///
/// # Kernel
/// A file of a cgroup hierarchy is one and the same for every namespace, and
/// so is its lock: it goes with the process that holds it, in whatever pid
/// namespace that is, and in whichever another looks.
fn create_locked(group: &Path) -> io::Result<Flock<File>> {
    loop {
        fs::create_dir(group)?;
        let file = group.join(LOCK);
        let lock = File::open(&file)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        // Another stage may have taken it for a dead one's before it was
        // locked: then it is gone.
        match fs::symlink_metadata(&file) {
            Ok(found) if found.ino() == lock.metadata()?.ino() => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Removes what stages left whose outer process was killed: groups whose lock
/// nobody holds. Others are not touched.
pub(super) fn remove_stale() -> Result<(), StageError> {
    for hierarchy in Hierarchy::read_all().map_err(StageError::CgroupsUnreadable)? {
        let mut folders = vec![hierarchy.mount_point.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue; // Gone meanwhile.
            };
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                let name = entry.file_name();
                match name.to_str().and_then(|name| name.strip_prefix(PREFIX)) {
                    Some(owner) if owner.starts_with(LOCKED) => remove_if_free(&entry.path())?,
                    // What lies in a stage belongs to its outer process.
                    Some(_) => {}
                    None => folders.push(entry.path()),
                }
            }
        }
    }
    Ok(())
}

fn remove_if_free(group: &Path) -> Result<(), StageError> {
    let Ok(file) = File::open(group.join(LOCK)) else {
        return Ok(()); // Gone meanwhile.
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        // Held until the group is gone: who has just made it makes another.
        Ok(_lock) => remove_empty(group),
        Err((_, Errno::EWOULDBLOCK)) => Ok(()),
        Err((_, errno)) => Err(step(group, errno.into())),
    }
}

fn remove_empty(group: &Path) -> Result<(), StageError> {
    // A frozen process cannot end, although its stage is gone.
    thaw(group)?;
    match remove_tree(group) {
        Err(error) if error.raw_os_error() != Some(Errno::EBUSY as i32) => Err(step(group, error)),
        _ => Ok(()),
    }
}

/// What tells this process from a later one with the same pid.
fn own_identity() -> Result<String, StageError> {
    let pid = std::process::id();
    match start_time(pid) {
        Some(start) => Ok(format!("{pid}-{start}")),
        None => Err(StageError::CgroupsUnreadable(
            io::ErrorKind::NotFound.into(),
        )),
    }
}

fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

/// A process cannot be placed in a new cpuset before it has both.
fn fill_cpuset(parent: &Path, group: &Path) -> Result<(), StageError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        if from.exists() && to.exists() && !group.join("cgroup.controllers").exists() {
            let value = fs::read_to_string(&from).map_err(|source| step(&from, source))?;
            write(&to, value.trim())?;
        }
    }
    Ok(())
}

fn bound(kind: &Kind, group: &Path, controller: &str, limits: &Limits) -> Result<(), StageError> {
    let quota_us = limits
        .cpu_percent_max
        .map(|percent| u64::from(percent) * CPU_PERIOD_US / 100);
    let values: Vec<(&str, String)> = match (kind, controller) {
        (Kind::V1 { .. }, "memory") => pair(limits.memory_bytes_max, |bytes| {
            vec![
                ("memory.limit_in_bytes", bytes.to_string()),
                (
                    "memory.memsw.limit_in_bytes",
                    bytes.saturating_add(limits.swap_bytes_max).to_string(),
                ),
            ]
        }),
        (Kind::V2, "memory") => pair(limits.memory_bytes_max, |bytes| {
            vec![
                ("memory.max", bytes.to_string()),
                ("memory.swap.max", limits.swap_bytes_max.to_string()),
            ]
        }),
        (Kind::V1 { .. }, "cpu") => pair(quota_us, |quota| {
            vec![
                ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ]
        }),
        (Kind::V2, "cpu") => pair(quota_us, |quota| {
            vec![("cpu.max", format!("{quota} {CPU_PERIOD_US}"))]
        }),
        _ => pair(limits.processes_max, |count| {
            vec![("pids.max", count.to_string())]
        }),
    };
    for (file, value) in values {
        let path = group.join(file);
        // Swap is accounted only where the kernel was told to.
        if file.contains("sw") && !path.exists() {
            continue;
        }
        write(&path, &value)?;
    }
    Ok(())
}

fn pair<T>(limit: Option<u64>, files: impl FnOnce(u64) -> Vec<T>) -> Vec<T> {
    limit.map(files).unwrap_or_default()
}

/// Every process in a group of a stage was started by that stage.
fn end_processes(group: &Path) -> Result<(), StageError> {
    thaw(group)?;
    for group in descend(group).map_err(|source| step(group, source))? {
        let Ok(processes) = fs::read_to_string(group.join("cgroup.procs")) else {
            continue; // Gone meanwhile.
        };
        // 0 stands for a process that this pid namespace does not show.
        let pids = processes.lines().filter_map(|pid| pid.parse().ok());
        for pid in pids.filter(|pid| *pid > 0) {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(step(&group, errno.into())),
            }
        }
    }
    Ok(())
}

/// Lets go on what stands still in `group` and beneath it. In version 2 what is
/// frozen ends without.
pub(super) fn thaw(group: &Path) -> Result<(), StageError> {
    if !group.join("freezer.state").exists() {
        return Ok(());
    }
    for group in descend(group)
        .map_err(|source| step(group, source))?
        .iter()
        .rev()
    {
        let file = group.join("freezer.state");
        match fs::write(&file, "THAWED") {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(step(&file, source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> io::Result<()> {
    for group in descend(group)? {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn write(file: &Path, value: &str) -> Result<(), StageError> {
    fs::write(file, value).map_err(|source| step(file, source))
}

fn step(path: &Path, source: io::Error) -> StageError {
    StageError::Cgroup {
        path: path.to_owned(),
        source,
    }
}
