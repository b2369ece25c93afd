//! `cloison stop`, `freeze` and `thaw`: a running sandbox, whoever launched it.

use std::path::Path;
use std::time::Duration;

use cloison::runtime::{Ending, Running, Runtime};
use cloison_sandbox::SandboxName;

use crate::cli;
use crate::error::Error;
use crate::report::print;
use crate::signals::Signals;

/// Ends a sandbox; gives the exit code.
pub(crate) fn stop(options: &cli::Stop) -> Result<u8, Error> {
    let (directory, name) = options.name.record(&options.state.directory);
    let limit = Duration::from_secs(options.timeout_s.into());
    let ending = match Running::find(&directory, &name) {
        Ok(running) => Some(running.stop(options.signal, limit)?),
        // One that ended by itself, and is still told of.
        Err(cloison::Error::NoSandbox(_)) if has_ended(&directory, &name)? => None,
        Err(error) => return Err(error.into()),
    };
    let mut signals = None;
    Runtime::leave_nothing(&directory, &name, || {
        // A signal ends this process as any until something is removed.
        if signals.is_none() {
            signals = Some(Signals::take()?);
        }
        signals.as_mut().map_or(Ok(()), Signals::ending)
    })?;
    let how = match ending {
        None => "had ended by itself".to_owned(),
        Some(Ending::ByItself) => format!("ended by {}", options.signal),
        Some(Ending::KilledFrozen) => "was frozen and is killed".to_owned(),
        Some(Ending::Killed) if limit.is_zero() => "is killed".to_owned(),
        Some(Ending::Killed) => format!("did not end within {} s and is killed", limit.as_secs()),
    };
    print(&format!("{} {how}\n", options.name))?;
    Ok(0)
}

fn has_ended(directory: &Path, name: &SandboxName) -> Result<bool, Error> {
    let record = Runtime::written_of(directory, name)?;
    Ok(record.is_some_and(|record| record.stays))
}

/// Freezes a sandbox; gives the exit code.
pub(crate) fn freeze(options: &cli::Freeze) -> Result<u8, Error> {
    let (directory, name) = options.name.record(&options.state.directory);
    Running::find(&directory, &name)?.freeze()?;
    Ok(0)
}

/// Thaws a sandbox; gives the exit code.
pub(crate) fn thaw(options: &cli::Thaw) -> Result<u8, Error> {
    let (directory, name) = options.name.record(&options.state.directory);
    Running::find(&directory, &name)?.thaw()?;
    Ok(0)
}
