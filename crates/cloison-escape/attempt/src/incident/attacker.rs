//! The attacker: told no path, pid or name but what it finds.
//!
//! It first looks for all it could change, then tries every other way to
//! reach a neighbour, gives its account, and only then encrypts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::sys;

use super::calls;
use super::files::Found;
use super::{descriptors, files, guard, ipc, keys, memory, mounts, signals, sockets};

/// It is not on the stage and did nothing.
const EXIT_NOT_ON_STAGE: u8 = 99;
/// How long one way may take.
const WAY_TIMEOUT: Duration = Duration::from_secs(3);

/// How often one way was tried and how often it got through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    tried: u32,
    through: u32,
    /// The error number of the first refusal.
    refusal: i32,
}

impl Tally {
    /// Counts one try.
    pub(super) fn count<T>(&mut self, outcome: &Result<T, i32>) {
        self.tried += 1;
        match outcome {
            Ok(_) => self.through += 1,
            Err(errno) if self.refusal == 0 => self.refusal = *errno,
            Err(_) => {}
        }
    }

    /// Counts one try made through std.
    pub(super) fn count_io<T>(&mut self, outcome: &io::Result<T>) {
        match outcome {
            Ok(_) => self.count(&Ok(())),
            Err(error) => self.count::<()>(&Err(error.raw_os_error().unwrap_or(0))),
        }
    }

    /// As its line in the account has it.
    pub(super) fn encode(self) -> String {
        format!("{} {} {}", self.tried, self.through, self.refusal)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace();
        let tally = Self {
            tried: numbers.next()?.parse().ok()?,
            through: numbers.next()?.parse().ok()?,
            refusal: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then_some(tally)
    }
}

/// Attacks; its account goes to standard output, a line a way: name, how
/// often tried, how often through, first error number.
pub(super) fn attack() -> ExitCode {
    if !guard::on_stage() {
        eprintln!("attacker: this is not the ground of a re-enactment: nothing was done");
        return ExitCode::from(EXIT_NOT_ON_STAGE);
    }
    let mut found = Found::default();
    say("descriptor", Some(descriptors::find(&mut found)));
    say("file", Some(files::find(&mut found)));
    say("socket", apart(|| sockets::reach(&found)));
    say("keyring", apart(keys::reach));
    say("ipc", apart(ipc::reach));
    say("process", apart(memory::reach));
    say("mount", apart(mounts::reach));
    say("signal", apart(signals::reach));
    say("encrypt", Some(files::encrypt(found)));
    ExitCode::SUCCESS
}

fn say(way: &str, tally: Option<Tally>) {
    match tally {
        Some(tally) => println!("{way} {}", tally.encode()),
        None => println!("{way} ended early"),
    }
}

/// Tries a way in a process of its own: a filter may kill for it, and what it
/// changes in itself must not help the next way.
fn apart(way: impl FnOnce() -> Tally) -> Option<Tally> {
    let (reader, mut writer) = io::pipe().ok()?;
    let Some(child) = sys::fork().ok()? else {
        let told = writer.write_all(way().encode().as_bytes());
        // Without its answer the parent says that the way ended early.
        drop((told, writer));
        sys::exit(0);
    };
    drop(writer);
    let answer = read_within(File::from(OwnedFd::from(reader)), WAY_TIMEOUT);
    if answer.is_none() {
        sys::kill_own_child(child);
    }
    sys::wait(child).ok()?;
    Tally::decode(&answer?)
}

/// All that comes until the other end closes; `None` if that takes longer.
fn read_within(mut reader: File, timeout: Duration) -> Option<String> {
    use std::os::fd::AsRawFd;
    let end = Instant::now() + timeout;
    let mut text = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = i32::try_from(left.as_millis()).unwrap_or(0);
        let ready = calls::readable([reader.as_raw_fd()], left);
        if ready == Ok([false]) {
            return None;
        }
        let mut piece = [0; 256];
        match reader.read(&mut piece).ok()? {
            0 => return String::from_utf8(text).ok(),
            length => text.extend_from_slice(piece.get(..length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn tally_survives_the_pipe() {
        let mut tally = Tally::default();
        tally.count(&Ok(()));
        tally.count::<()>(&Err(1));
        tally.count::<()>(&Err(13));
        assert_eq!(tally.encode(), "3 1 1");
        assert_eq!(Tally::decode("3 1 1"), Some(tally));
        for bad in ["", "3 1", "3 1 1 1", "3 x 1"] {
            assert_eq!(Tally::decode(bad), None, "{bad:?}");
        }
    }
}
