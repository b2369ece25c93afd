//! B09, B21 and G12: the sandbox's own init and what it started, which run as
//! the same user; the launcher's child before it executes; the launcher.

use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::processes::Target;
use crate::report::{CouldNotTry, Report};
use crate::sys;

/// Where a program that is not relocated usually starts. A wrong guess is as
/// good as a right one, see [`Target::address`].
const LIKELY_ADDRESS: usize = 0x40_0000;

/// Inspects and changes process `target`, which is 1 unless told otherwise.
pub(crate) fn b21(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let pid = arguments.number_or("target", 1)?;
    if pid == sys::own_pid() {
        return Err(CouldNotTry("the target is this program itself".to_owned()));
    }
    let target = Target {
        pid,
        address: LIKELY_ADDRESS,
    };
    target.inspect(None, report);
    target.set_back(report);
    let executed = executed()?;
    report.begin_with("exec-");
    executed.inspect(Some(arguments.text("token")?), report);
    executed.set_back(report);
    Ok(())
}

/// Where whoever launched the sandbox says what was started in it meanwhile.
const EXECUTED: &str = "/executed";
const SAID_WITHIN: Duration = Duration::from_secs(10);

fn executed() -> Result<Target, CouldNotTry> {
    let end = Instant::now() + SAID_WITHIN;
    let said = loop {
        match std::fs::read_to_string(EXECUTED) {
            Ok(said) if said.ends_with('\n') => break said,
            _ if Instant::now() > end => {
                return Err(CouldNotTry(format!("nobody wrote {EXECUTED}")));
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let words = Arguments::parse(said.split_whitespace().map(str::to_owned));
    Ok(Target {
        pid: words.number("pid")?,
        address: words.number("address")?,
    })
}

/// Inspects the process `child`, which another launch holds before it
/// executes.
pub(crate) fn b09(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    outside(arguments, "child")?.inspect(None, report);
    Ok(())
}

/// Inspects the launcher, its spawner, and a child of its before it executes.
pub(crate) fn g12(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (key, prefix) in [
        ("child", "child-"),
        ("spawner", "spawner-"),
        ("caller", "caller-"),
    ] {
        report.begin_with(prefix);
        outside(arguments, key)?.inspect(None, report);
    }
    Ok(())
}

fn outside(arguments: &Arguments, key: &str) -> Result<Target, CouldNotTry> {
    Ok(Target {
        pid: arguments.number(key)?,
        address: LIKELY_ADDRESS,
    })
}
