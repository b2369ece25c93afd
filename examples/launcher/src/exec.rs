//! `cloison exec`: a second command in a running sandbox.

use cloison::runtime::{Running, Runtime};
use cloison_sandbox::{ExecError, ExecSocket, ExitStatus};

use crate::attend::{Connection, hand_on, streams_wanted, wait_for_own_output};
use crate::cli;
use crate::error::Error;
use crate::run::plain_environment;
use crate::signals::Signals;

/// Starts the command and gives its exit code.
pub(crate) fn exec(options: cli::Exec) -> Result<u8, Error> {
    let name = &options.name;
    let (directory, record) = name.record(&options.state.directory);
    Running::find(&directory, &record)?;
    let mut signals = Signals::take()?;
    let program = options.command.first().cloned().unwrap_or_default();
    let mut environment = plain_environment();
    environment.extend(options.env);
    let exec = cloison_sandbox::Exec {
        command: options.command,
        environment,
        working_directory: options.directory,
    };
    let failed = |source| Error::Exec {
        name: name.to_string(),
        program: program.clone(),
        source,
    };
    let (streams, ends) = streams_wanted()?;
    let socket = ExecSocket::at(Runtime::exec_path(&directory, &record));
    let mut execution = socket.start(&exec, streams).map_err(failed)?;
    let Connection { ends, terminal } = Connection::make(execution.take_terminal(), ends)?;
    let carried = ends.carry()?;
    let send = |signal| match execution.signal(signal) {
        Ok(()) | Err(ExecError::Ended) => Ok(()),
        Err(error) => Err(failed(error)),
    };
    hand_on(&execution, send, terminal.as_ref(), &mut signals)?;
    let status = execution.wait().map_err(failed)?;
    wait_for_own_output(carried, &mut signals)?;
    drop(terminal);
    match status {
        ExitStatus::Unknown => Err(Error::EndedAround(name.to_string())),
        status => Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX)),
    }
}
