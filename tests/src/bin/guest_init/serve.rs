//! The command: run, its output relayed, everything else ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, id};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cloison_tests::guest::{End, OUTPUT, Order};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::fs::OpenOptionsExt;

use crate::fail::{Failed, step};

/// How long what is left of the output may take, once the command has ended.
const REST: Duration = Duration::from_secs(20);
const COPY_BYTES: usize = 4 << 10;

/// Goes into a leaf of the cgroup that systemd delegates: a group that holds
/// processes hands no controller on.
pub(crate) fn enter_leaf() -> Result<(), Failed> {
    let own = "/proc/self/cgroup";
    let text = fs::read_to_string(own).map_err(step(own))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or_else(|| Failed::new(own, io::ErrorKind::InvalidData))?;
    let leaf = format!("/sys/fs/cgroup{path}/leaf");
    fs::create_dir(&leaf).map_err(step(&leaf))?;
    fs::write(format!("{leaf}/cgroup.procs"), "0").map_err(step(&leaf))
}

/// Runs the command to its end.
pub(crate) fn run(order: &Order) -> Result<End, Failed> {
    let mut port = port(OUTPUT)?;
    let (mut reader, writer) = io::pipe().map_err(step("making a pipe"))?;
    let errors = writer.try_clone().map_err(step("duplicating a pipe"))?;
    let Some((program, arguments)) = order.command.split_first() else {
        return Ok(End::NotStarted("no command".to_owned()));
    };
    let path = order.environment.get("PATH").map_or("", String::as_str);
    let found = path
        .split(':')
        .map(|folder| format!("{folder}/{program}"))
        .find(|file| std::path::Path::new(file).is_file());
    let mut command = Command::new(found.as_deref().unwrap_or(program));
    command
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(&order.environment)
        .current_dir(&order.directory)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors);
    let child = command.spawn().map_err(step(program))?;
    // Its ends of the pipe.
    drop(command);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let copied = copy(&mut reader, &mut port);
        // The one who waits may have given up.
        done.send(copied).is_ok()
    });
    let end = wait(Pid::from_raw(child.id().cast_signed()))?;
    if id() == 1 {
        // Whoever still holds the pipe; there is nobody else to end.
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Failed::new("ending what is left", errno)),
        }
    }
    match ended.recv_timeout(REST) {
        Ok(copied) => copied.map_err(step(OUTPUT))?,
        Err(_) => return Err(Failed::new(OUTPUT, io::ErrorKind::TimedOut)),
    }
    Ok(end)
}

/// Waits for it, and for whatever else ends before it.
fn wait(child: Pid) -> Result<End, Failed> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(End::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(End::Signalled(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failed::new("waiting for the command", errno)),
        }
    }
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut buffer = [0; COPY_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            tcdrain(&*to)?;
            return Ok(());
        }
        to.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// Writes to a port, and waits until it is out.
pub(crate) fn write_all(path: &str, bytes: &[u8]) -> Result<(), Failed> {
    let mut port = port(path)?;
    port.write_all(bytes).map_err(step(path))?;
    tcdrain(&port).map_err(step(path))
}

/// A serial port that changes nothing of what is written to it.
fn port(path: &str) -> Result<File, Failed> {
    let file = OpenOptions::new()
        .write(true)
        .read(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(path)
        .map_err(step(path))?;
    let mut settings = tcgetattr(&file).map_err(step(path))?;
    cfmakeraw(&mut settings);
    tcsetattr(&file, SetArg::TCSANOW, &settings).map_err(step(path))?;
    Ok(file)
}
