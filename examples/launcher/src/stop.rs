//! `cloison stop`, `freeze` and `thaw`: a running sandbox, whoever launched it.

use std::time::Duration;

use cloison::runtime::{Ending, Running, Runtime};

use crate::cli;
use crate::error::Error;
use crate::report::print;
use crate::signals::Signals;

/// Ends a sandbox; gives the exit code.
pub(crate) fn stop(options: &cli::Stop) -> Result<u8, Error> {
    let (directory, name) = options.name.record(&options.state.directory);
    let running = Running::find(&directory, &name)?;
    let limit = Duration::from_secs(options.timeout_s.into());
    let ending = running.stop(options.signal, limit)?;
    let mut signals = None;
    Runtime::leave_nothing(&directory, &name, || {
        // A signal ends this process as any until something is removed.
        if signals.is_none() {
            signals = Some(Signals::take()?);
        }
        signals.as_mut().map_or(Ok(()), Signals::ending)
    })?;
    let how = match ending {
        Ending::ByItself => format!("ended by {}", options.signal),
        Ending::KilledFrozen => "was frozen and is killed".to_owned(),
        Ending::Killed if limit.is_zero() => "is killed".to_owned(),
        Ending::Killed => format!("did not end within {} s and is killed", limit.as_secs()),
    };
    print(&format!("{} {how}\n", options.name))?;
    Ok(0)
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
