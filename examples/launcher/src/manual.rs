//! Completions and man pages, made of the one definition of what can be
//! typed.

use clap::CommandFactory;

use crate::cli::{self, Cli};
use crate::error::{Error, at};
use crate::report::print;

/// Writes the completions for a shell.
pub(crate) fn completions(options: &cli::Completions) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "cloison", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Writes a man page for the program and one for each of its verbs.
pub(crate) fn pages(options: &cli::Man) -> Result<u8, Error> {
    clap_mangen::generate_to(Cli::command(), &options.directory)
        .map_err(at("writing man pages into", &options.directory))?;
    Ok(0)
}
