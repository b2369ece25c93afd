//! Executes a program that its parent traces from the first instruction.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: traced PROGRAM [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let begun = ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP));
    if let Err(errno) = begun {
        eprintln!("cannot be traced: {errno}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("not executed: {error}");
    ExitCode::FAILURE
}
