//! The files that an operator writes: `FILE.toml` and `host.toml`.

use std::path::Path;

use cloison::settings::{FileError, HostSettings, SettingsFile};
use miette::{LabeledSpan, NamedSource, SourceCode};

use crate::error::Error;
use crate::report::{covered, escaped};

/// Where the host's settings are if nobody says otherwise.
const HOST: &str = "/etc/cloison/host.toml";

/// What is wrong in a file, with the lines around it.
#[derive(Debug, thiserror::Error)]
#[error("{}", escaped(&.error.message))]
pub(crate) struct Shown {
    error: FileError,
    help: Option<String>,
    source_code: NamedSource<String>,
}

impl From<FileError> for Shown {
    fn from(error: FileError) -> Self {
        let name = escaped(&error.path.display().to_string());
        Self {
            help: error.help.as_deref().map(escaped),
            source_code: NamedSource::new(name, covered(&error.text)),
            error,
        }
    }
}

impl miette::Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.error.place.clone()?;
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), place);
        Some(Box::new(std::iter::once(label)))
    }
}

/// The settings of `path`, or of the usual file if there is one.
pub(crate) fn host(path: Option<&Path>) -> Result<HostSettings, Error> {
    let path = match path {
        Some(path) => path,
        None if Path::new(HOST).exists() => Path::new(HOST),
        None => return Ok(HostSettings::default()),
    };
    Ok(HostSettings::from_file(&SettingsFile::read(path)?)?)
}
