//! The launcher `cloison`: runs sandboxes, and says what encloses them.

mod attend;
mod check;
mod cli;
mod error;
mod exec;
mod inspect;
mod kernel;
mod lookup;
mod manual;
mod report;
mod run;
mod servers;
mod settings;
mod signals;
mod stop;
mod streams;
mod tenant;
mod terminal;
mod tree;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use cloison_sandbox::Hierarchies;

use crate::cli::{Cli, Verb};
use crate::error::{EXIT_OURS, Error};

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(cli::separated(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let explain = match &cli.verb {
        Verb::Run(options) if options.json => report::explain_as_json,
        _ => report::explain,
    };
    match act(cli.verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            explain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn act(verb: Verb) -> Result<u8, Error> {
    // Before anything else makes a process.
    if matches!(verb, Verb::Check(_) | Verb::Run(_) | Verb::Up(_)) {
        Hierarchies::enter_leaf().map_err(|error| Error::Start(error.into()))?;
    }
    match verb {
        Verb::Check(options) => check::check(&options),
        Verb::Run(options) => run::run(*options),
        Verb::Inspect(options) => inspect::inspect(&options),
        Verb::Exec(options) => exec::exec(*options),
        Verb::Stop(options) => stop::stop(&options),
        Verb::Freeze(options) => stop::freeze(&options),
        Verb::Thaw(options) => stop::thaw(&options),
        Verb::Tenant(options) => tenant::tenant(options.verb),
        Verb::Tree(options) => tree::tree(&options.verb),
        Verb::Up(options) => servers::up(&options),
        Verb::Down(options) => servers::down(&options),
        Verb::Ps(options) => servers::ps(&options),
        Verb::Completions(options) => manual::completions(&options),
        Verb::Man(options) => manual::pages(&options),
    }
}

/// Shows help, version, or what was typed wrongly.
fn usage(error: &clap::Error) -> ExitCode {
    let odd = std::env::args_os().enumerate().skip(1);
    let odd = odd
        .into_iter()
        .find(|(_, argument)| argument.to_str().is_none());
    if let (ErrorKind::InvalidUtf8, Some((at, argument))) = (error.kind(), odd) {
        let shown = argument.to_string_lossy();
        report::notice(&format!(
            "the argument {at}, `{shown}`, is not text in UTF-8"
        ));
        return ExitCode::from(EXIT_OURS);
    }
    // Whoever closed the pipe does not want to read it.
    match error.print() {
        Ok(()) | Err(_) => {}
    }
    if error.use_stderr() {
        ExitCode::from(EXIT_OURS)
    } else {
        ExitCode::SUCCESS
    }
}
