//! QEMU, started for one guest and ended with it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{End, Ended, Form, Guest, GuestError, INIT, fetched};

const QEMU: &str = "qemu-system-x86_64";
const PROCESSORS: &str = "2";
const MEMORY_MIB: &str = "2048";
const CONSOLE_BYTES_MAX: usize = 4 << 10;
const COPY_BYTES: usize = 1 << 16;

/// The files of a guest in its folder.
pub(super) const ARCHIVE: &str = "root";
const CONSOLE: &str = "console";
const RESULT: &str = "result";

/// QEMU itself: ended, whatever becomes of whoever holds it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and that is as well.
        if self.0.kill().is_err() || self.0.wait().is_err() {
            eprintln!("{QEMU} could not be ended");
        }
    }
}

pub(super) fn run(guest: &Guest, folder: &Path, to: &mut dyn Write) -> Result<Ended, GuestError> {
    let begun = Instant::now();
    let (console, result) = (folder.join(CONSOLE), folder.join(RESULT));
    let mut qemu = command(guest, folder)?;
    let child = qemu.spawn().map_err(|source| GuestError::Start {
        program: QEMU.to_owned(),
        source,
    })?;
    let mut machine = Machine(child);
    let failed = |source| GuestError::Start {
        program: QEMU.to_owned(),
        source,
    };
    let output = relay(&mut machine.0, begun + guest.limit, to).map_err(failed)?;
    let Some(output) = output else {
        return Err(GuestError::TimeOver {
            limit_s: guest.limit.as_secs(),
            console: end_of(&console),
        });
    };
    let status = machine.0.wait().map_err(failed)?;
    if !status.success() {
        let mut said = String::new();
        if let Some(mut errors) = machine.0.stderr.take() {
            errors.read_to_string(&mut said).map_err(failed)?;
        }
        return Err(GuestError::Program {
            program: QEMU.to_owned(),
            status,
            said,
        });
    }
    let said = fs::read(&result).unwrap_or_default();
    let end: End = serde_json::from_slice(&said).map_err(|_| GuestError::Silent {
        console: end_of(&console),
    })?;
    Ok(Ended {
        end,
        output,
        lasted: begun.elapsed(),
    })
}

fn command(guest: &Guest, folder: &Path) -> Result<Command, GuestError> {
    let image = guest.kernel.image();
    if !image.is_file() {
        return Err(GuestError::NotFetched(guest.kernel));
    }
    // Ended by the kernel when this process is.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", QEMU]);
    // Emulation: where this machine is itself a guest, a stock kernel may hang
    // with KVM. Its processors take turns: where they run at once, one may
    // execute half of an instruction that another is patching (a static key
    // that is flipped), and the kernel dies of it.
    command.args(["-accel", "tcg,thread=single", "-cpu", "max"]);
    command.args(["-smp", PROCESSORS, "-m", MEMORY_MIB]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    command.args(["-nic", "none"]);
    command.arg("-serial").arg(to_file(&folder.join(CONSOLE)));
    command.args(["-serial", "stdio"]);
    command.arg("-serial").arg(to_file(&folder.join(RESULT)));
    command.arg("-kernel").arg(image);
    command.arg("-initrd").arg(folder.join(ARCHIVE));
    let line = format!("console=ttyS0 quiet panic=-1 no_timer_check rdinit={INIT}");
    command.args(["-append", line.as_str()]);
    if guest.form == Form::Full {
        let disk = fetched().join("guests/disk");
        if !disk.is_file() {
            return Err(GuestError::NoDisk);
        }
        let disk = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
        command.args(["-drive", disk.as_str()]);
    }
    for disk in &guest.disks {
        command.args(disk.words());
    }
    command
        // What is written to the disk goes there, and is forgotten.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

fn to_file(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// Copies what the guest writes until QEMU closes its output; `None` if the
/// time is over before that.
fn relay(
    child: &mut Child,
    deadline: Instant,
    to: &mut dyn Write,
) -> std::io::Result<Option<String>> {
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut all = Vec::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut waiting = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let length = stdout.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Some(String::from_utf8_lossy(&all).into_owned()));
        }
        all.extend_from_slice(bytes);
        to.write_all(bytes)?;
        to.flush()?;
    }
}

fn end_of(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let start = bytes.len().saturating_sub(CONSOLE_BYTES_MAX);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}
