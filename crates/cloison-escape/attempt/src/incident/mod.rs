//! The programs of the re-enactment (`examples/reenact`): a tenant's server
//! with its canaries, and the attacker.
//!
//! The attacker is harmless by construction. [`guard`] refuses to begin
//! anywhere but on the ground that the re-enactment made, a root without
//! `/usr`, `/etc` or `/home`; and it changes, takes or signals nothing whose
//! content or name does not say that it is a canary.

mod attacker;
mod calls;
mod canaries;
mod descriptors;
mod files;
mod guard;
mod http;
mod ipc;
mod keys;
mod memory;
mod mounts;
mod server;
mod signals;
mod sockets;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// A part could not begin.
const EXIT_COULD_NOT_BEGIN: u8 = 20;

/// Plays `role` if it is one of the re-enactment; `None` for any other word.
pub(crate) fn play(role: &str, mut words: impl Iterator<Item = String>) -> Option<ExitCode> {
    match role {
        "attacker" => Some(attacker::attack()),
        "serve" => Some(match (words.next(), words.next()) {
            (Some(folder), Some(clerk)) => server::serve(&folder, &clerk),
            _ => could_not_begin("serve", "a folder and a clerk's program are wanted"),
        }),
        "clerk" => loop {
            std::thread::park();
        },
        "ordinary" => Some(be_ordinary(words.collect())),
        _ => None,
    }
}

/// What a service manager does for an ordinary process: the socket comes as
/// descriptor 0 and goes on as descriptor 3.
fn be_ordinary(words: Vec<String>) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else {
        return could_not_begin("ordinary", "no command was named");
    };
    if let Err(errno) = calls::duplicate_to(0, 3) {
        return could_not_begin("ordinary", &format!("dup3: {errno}"));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LISTEN_FDS", "1")
        .stdin(std::process::Stdio::null());
    could_not_begin("ordinary", &command.exec().to_string())
}

fn could_not_begin(role: &str, reason: &str) -> ExitCode {
    eprintln!("{role}: {reason}");
    ExitCode::from(EXIT_COULD_NOT_BEGIN)
}
