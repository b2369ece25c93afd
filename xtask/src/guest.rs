//! `cargo xtask guest KERNEL [--full] [--limit-s N] -- COMMAND...`

use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use cloison_tests::guest::{AllSeen, End, Form, Guest, Programs};

use crate::error::Error;
use crate::from_root;

/// The code of a command that did not run.
const EXIT_NOT_STARTED: u8 = 125;

/// Runs a command in a guest and ends as it does.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let guest = parse(arguments)?;
    let programs = Programs::build()?;
    let ended = guest.run(&programs, &mut io::stdout())?;
    eprintln!(
        "kernel {}: {:.1} s",
        guest.kernel.release()?,
        ended.lasted.as_secs_f64()
    );
    let code = match ended.end {
        End::Exited(code) => code,
        End::Signalled(signal) => 128 + signal,
        End::NotStarted(why) => {
            eprintln!("the command did not run: {why}");
            return Ok(ExitCode::from(EXIT_NOT_STARTED));
        }
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Writes into the README what the last run of the tests saw in guests.
pub(crate) fn compat() -> Result<(), Error> {
    let path = from_root("README.md");
    let readme = fs::read_to_string(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let fresh = AllSeen::read()?.spliced(&readme).ok_or(Error::NoTable)?;
    fs::write(&path, fresh).map_err(|source| Error::Write { path, source })
}

/// Prints the counts of that run.
pub(crate) fn kernels() -> Result<(), Error> {
    print!("{}", AllSeen::read()?.counts());
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Guest, Error> {
    let mut words = arguments.iter();
    let kernel = words.next().ok_or(Error::Usage)?.parse()?;
    let mut guest = Guest::new(kernel, &[]);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--full" => guest.form = Form::Full,
            "--limit-s" => {
                let seconds = words.next().and_then(|seconds| seconds.parse().ok());
                guest.limit = Duration::from_secs(seconds.ok_or(Error::Usage)?);
            }
            "--" => {
                guest.command = words.cloned().collect();
                break;
            }
            _ => return Err(Error::Usage),
        }
    }
    if guest.command.is_empty() {
        return Err(Error::Usage);
    }
    Ok(guest)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_guest_is_read_from_words() {
        let guest = parse(&words("6.1 --full --limit-s 7 -- cloison check --json")).unwrap();
        assert_eq!((guest.kernel.name(), guest.form), ("6.1", Form::Full));
        assert_eq!(guest.limit, Duration::from_secs(7));
        assert_eq!(guest.command, ["cloison", "check", "--json"]);
        for wrong in [
            "",
            "6.1",
            "6.1 cloison",
            "6.1 --",
            "2.6 -- true",
            "6.1 --limit-s x -- true",
        ] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
