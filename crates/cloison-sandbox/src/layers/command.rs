//! The last step: the command, or the init that starts it.

use std::collections::BTreeMap;
use std::path::Path;

use cloison_linux::steps::Op;

use crate::Layer;
use crate::error::Refused;
use crate::plan::Composition;
use crate::spec::{Init, Spec};

/// What a command is told of its sockets: a second one of these in its
/// environment would hide ours from some programs, and ours hide it from others.
const LISTEN_VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// What process 1 keeps beyond the streams, from descriptor 3 on.
pub(crate) struct Sockets {
    /// How many the command gets.
    pub(crate) handed_in: usize,
    /// The number of that on which the init listens.
    pub(crate) listener: Option<usize>,
}

impl Sockets {
    /// The first number behind them.
    pub(crate) fn behind(&self) -> usize {
        self.listener
            .map_or(3 + self.handed_in, |listener| listener + 1)
    }
}

/// What stands in the environment of a command to which sockets are handed:
/// sd_listen_fds(3).
fn listen_variables(composition: &Composition<'_>, sockets: usize) -> Vec<String> {
    if sockets == 0 {
        return Vec::new();
    }
    // The init's first child is process 2 of the new pid namespace.
    let pid = match composition.spec.init {
        Init::On => 2,
        Init::Off => 1,
    };
    vec![format!("LISTEN_FDS={sockets}"), format!("LISTEN_PID={pid}")]
}

/// Checks command and environment.
pub(crate) fn check(spec: &Spec) -> Result<(), Refused> {
    let Some(program) = spec.command.first() else {
        return Err(Refused::NoCommand);
    };
    if !program.starts_with('/') {
        return Err(Refused::CommandNotAbsolute(program.clone()));
    }
    check_texts(&spec.command, &spec.environment, &spec.working_directory)?;
    let ours = |key: &&String| LISTEN_VARIABLES.contains(&key.as_str());
    if let Some(key) = spec.environment.keys().find(ours) {
        return Err(Refused::ListenVariable(key.clone()));
    }
    Ok(())
}

/// Checks what any command is given, of a launch or of an exec.
pub(crate) fn check_texts(
    command: &[String],
    environment: &BTreeMap<String, String>,
    working_directory: &Path,
) -> Result<(), Refused> {
    let directory = working_directory.to_str().unwrap_or_default();
    if !directory.starts_with('/') {
        return Err(Refused::WorkingDirectory(working_directory.to_owned()));
    }
    let texts = command.iter().chain(environment.values());
    if texts
        .chain(environment.keys())
        .map(String::as_str)
        .chain([directory])
        .any(|text| text.contains('\0'))
    {
        return Err(Refused::Nul);
    }
    let odd =
        |key: &&String| key.is_empty() || key.contains('=') || key.chars().any(char::is_control);
    match environment.keys().find(odd) {
        Some(key) => Err(Refused::Variable(key.clone())),
        None => Ok(()),
    }
}

/// The environment as execve(2) takes it.
pub(crate) fn variables(environment: &BTreeMap<String, String>) -> Vec<String> {
    let all = environment.iter();
    all.map(|(key, value)| format!("{key}={value}")).collect()
}

/// Goes to the working directory, with the command's own rights.
pub(crate) fn enter_working_directory(composition: &mut Composition<'_>) {
    let directory = composition.spec.working_directory.as_os_str();
    let directory = composition.list.text(directory.as_encoded_bytes());
    composition
        .list
        .push(None, Op::EnterDirectory, [directory.into()]);
}

/// Executes. `terminal`: whether descriptor 0 is the sandbox's terminal.
pub(crate) fn steps(composition: &mut Composition<'_>, sockets: &Sockets, terminal: bool) {
    let spec = composition.spec;
    let mut environment = variables(&spec.environment);
    environment.extend(listen_variables(composition, sockets.handed_in));
    // A control without the layer must not keep a part of it.
    let has_domain = composition.applies(Layer::LandlockFiles);
    let list = &mut composition.list;
    let environment = list.list(&environment);
    match spec.init {
        Init::On => {
            let mode = match (terminal, has_domain) {
                (true, true) => "t",
                (false, true) => "s",
                (true, false) => "T",
                (false, false) => "S",
            };
            let listener = sockets.listener.map(|number| number.to_string());
            let mode = format!("{mode}{}", listener.unwrap_or_default());
            let head = ["cloison-init", &mode];
            let all = head
                .into_iter()
                .chain(spec.command.iter().map(String::as_str));
            let arguments = list.list(all);
            list.push(
                None,
                Op::ExecuteKept,
                [arguments.into(), environment.into()],
            );
        }
        Init::Off => {
            let path = list.text(spec.command.first().map_or("", String::as_str));
            let arguments = list.list(&spec.command);
            list.push(
                None,
                Op::Execute,
                [path.into(), arguments.into(), environment.into()],
            );
        }
    }
}
