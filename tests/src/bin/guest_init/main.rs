//! Process 1 of a guest: mounts what a host has, loads the modules, runs the
//! command it is ordered, says how that ended, and switches the machine off.
//!
//! In the full form it only makes the disk the root and leaves process 1 to
//! systemd, whose service starts this program once more for the rest.

mod boot;
mod fail;
mod serve;

use std::fs;
use std::io;
use std::process::{ExitCode, id};

use cloison_tests::guest::{CONSOLE, End, Form, ORDER, Order, RESULT, SERVE};
use fail::{Failed, step};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

fn main() -> ExitCode {
    let serves = std::env::args().nth(1).as_deref() == Some(SERVE);
    if id() != 1 && !serves {
        eprintln!("this is process 1 of a guest, and nothing elsewhere");
        return ExitCode::FAILURE;
    }
    let end = match act(serves) {
        Ok(end) => end,
        Err(failed) => End::NotStarted(failed.to_string()),
    };
    if let Err(failed) = tell(&end) {
        complain(&failed);
    }
    sync();
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(errno) => complain(&Failed::new("switching off", errno)),
    }
    ExitCode::FAILURE
}

fn act(serves: bool) -> Result<End, Failed> {
    let order = || -> Result<Order, Failed> {
        let bytes = fs::read(ORDER).map_err(step(ORDER))?;
        serde_json::from_slice(&bytes).map_err(step(ORDER))
    };
    let order = order()?;
    if serves {
        serve::enter_leaf()?;
        return serve::run(&order);
    }
    boot::prepare(&order)?;
    match order.form {
        Form::Bare => {
            boot::furnish()?;
            serve::run(&order)
        }
        Form::Full => boot::hand_over(&order),
    }
}

fn tell(end: &End) -> Result<(), Failed> {
    let mut bytes = serde_json::to_vec(end).map_err(step(RESULT))?;
    bytes.push(b'\n');
    serve::write_all(RESULT, &bytes)
}

/// Says it where the kernel says its own.
fn complain(failed: &Failed) {
    let text = format!("guest: {failed}\n");
    // Nothing is left to say it to.
    let told: io::Result<()> = fs::write(CONSOLE, text);
    drop(told);
}
