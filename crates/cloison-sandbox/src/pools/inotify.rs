//! inotify instances and watches: no file tells how many there are, so that
//! they are counted where they are open.

use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};

use super::{Pool, found, source};
use crate::proc::Reader;
use crate::proc::fields::{decimal, lines};

/// What is open.
#[derive(Default)]
struct Open {
    instances: u64,
    watches: u64,
}

/// What counts for the host's root: his own, and those of all servers, whose
/// user namespaces were made in his name. What is open in two processes counts
/// twice.
///
/// # Source
/// kernel/ucount.c, `inc_ucount`; `proc_pid_fdinfo(5)`
pub(super) fn pools(reader: &mut Reader, proc: &OwnedFd) -> [Pool; 2] {
    let open = open(reader, proc).ok();
    let mut limit = |file| found(reader, proc, &source(file, b"", 0));
    [
        Pool {
            name: "inotify instances of root and all servers",
            used: open.as_ref().map(|open| open.instances),
            size: limit(c"sys/fs/inotify/max_user_instances"),
            remedy: "raise the sysctl fs.inotify.max_user_instances above \
                     limits.inotify_instances_max times the servers of this host",
        },
        Pool {
            name: "inotify watches of root and all servers",
            used: open.as_ref().map(|open| open.watches),
            size: limit(c"sys/fs/inotify/max_user_watches"),
            remedy: "raise the sysctl fs.inotify.max_user_watches above \
                     limits.inotify_watches_max times the servers of this host",
        },
    ]
}

fn open(reader: &mut Reader, proc: &OwnedFd) -> Result<Open, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = readlinkat(proc, c"self/ns/user")?;
    let mut all = Dir::openat(proc, c".", flags, Mode::empty())?;
    let mut open = Open::default();
    for entry in all.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if decimal(name.to_bytes()).is_none() {
            continue;
        }
        // What has ended meanwhile, or may not be looked at, has none.
        let Ok(process) = openat(proc, name, flags, Mode::empty()) else {
            continue;
        };
        let is_roots = fstat(&process).is_ok_and(|found| found.st_uid == 0);
        let is_servers = readlinkat(&process, c"ns/user").is_ok_and(|theirs| theirs != own);
        if is_roots || is_servers {
            count(reader, &process, &mut open)?;
        }
    }
    Ok(open)
}

/// Adds what one process has open.
fn count(reader: &mut Reader, process: &OwnedFd, open: &mut Open) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut descriptors) = Dir::openat(process, c"fd", flags, Mode::empty()) else {
        return Ok(());
    };
    let directory = descriptors
        .as_fd()
        .try_clone_to_owned()
        .map_err(|_| Errno::EMFILE)?;
    let mut facts = None;
    for descriptor in descriptors.iter().flatten() {
        let number = descriptor.file_name();
        let target = readlinkat(&directory, number);
        if target.is_ok_and(|target| target == "anon_inode:inotify") {
            open.instances += 1;
            if facts.is_none() {
                facts = openat(process, c"fdinfo", flags, Mode::empty()).ok();
            }
            let text = facts.as_ref().map(|facts| reader.read(facts, number));
            if let Some(Ok(text)) = text {
                let watches = lines(text).filter(|line| line.starts_with(b"inotify wd:"));
                open.watches += watches.count() as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    #[test]
    fn what_is_open_is_counted() {
        let told = |what| {
            let all = crate::pools().unwrap();
            let pool = all.iter().find(|pool| pool.name.starts_with(what));
            pool.unwrap().used.unwrap()
        };
        let before = (told("inotify instances"), told("inotify watches"));
        let open: Vec<_> = (0..20)
            .map(|_| Inotify::init(InitFlags::empty()).unwrap())
            .collect();
        for one in &open {
            for path in ["/", "/proc", "/dev"] {
                one.add_watch(path, AddWatchFlags::IN_CREATE).unwrap();
            }
        }
        // Others come and go meanwhile.
        assert!(told("inotify instances") >= before.0 + 10, "{before:?}");
        assert!(told("inotify watches") >= before.1 + 30, "{before:?}");
    }
}
