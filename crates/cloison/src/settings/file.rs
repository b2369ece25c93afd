//! A file of settings, read, and what is wrong at a place in it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloison_sandbox::{Refused, Spec};
use serde::de::DeserializeOwned;

use super::{PolicyError, place};
use crate::error::{Error, at};

/// The most that a file of settings may hold.
const BYTES_MAX: u64 = 1 << 20;

/// A file of settings that was read, kept to show places in it.
#[derive(Clone, Debug)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
}

/// Something wrong in a file of settings. Nothing was done.
///
/// Text and message are as they stand in the file: whoever shows them on a
/// terminal escapes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// All of its text.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// Which bytes of the text it is about.
    pub place: Option<Range<usize>>,
    /// What may be meant instead.
    pub help: Option<String>,
}

impl FileError {
    /// Line and column of the place, from 1, the column in characters.
    #[must_use]
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let before = self.text.get(..self.place.as_ref()?.start)?;
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((line, before.get(start..)?.chars().count() + 1))
    }
}

impl SettingsFile {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::File`] where it is no text, or larger than 1
    /// MiB.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(at("reading", path))?;
        let mut read = Self {
            path: path.to_owned(),
            text: String::new(),
        };
        if bytes.len() as u64 > BYTES_MAX {
            return Err(read
                .error("the file is larger than 1 MiB", None, None)
                .into());
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                read.text = text;
                Ok(read)
            }
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                read.text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = Some(start..start + 1);
                Err(read
                    .error("the file is not text in UTF-8", place, None)
                    .into())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn of(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says of one sandbox.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn spec(&self) -> Result<Spec, Error> {
        Ok(self.parse()?)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(&self.text).map_err(|error| self.not_understood(&error))
    }

    pub(super) fn not_understood(&self, error: &toml::de::Error) -> FileError {
        let message = error.message();
        match unknown(message) {
            Some((problem, help)) => self.error(&problem, error.span(), Some(help)),
            None => self.error(message, error.span(), None),
        }
    }

    /// The error for what the library refuses, with its place if it is in this
    /// file.
    #[must_use]
    pub fn refused(&self, refused: &Refused) -> FileError {
        let place = place::refused(&self.text, refused);
        self.error(&refused.to_string(), place, None)
    }

    /// The error for a path of the host that this file names and that cannot be
    /// used; `None` if it does not name it.
    #[must_use]
    pub fn unusable(&self, path: &Path, why: &str) -> Option<FileError> {
        let place = place::of_path(&self.text, path)?;
        let message = format!("{}: {why}", path.display());
        Some(self.error(&message, Some(place), None))
    }

    /// The error for what cannot be done with a path of the host, on a target
    /// or with a number, if this file names it.
    #[must_use]
    pub fn placed(&self, error: &cloison_sandbox::Error) -> Option<FileError> {
        use cloison_sandbox::Error as Failed;
        match error {
            Failed::HostPath { path, errno } => self.unusable(path, errno.desc()),
            error => {
                let place = place::failed(&self.text, error)?;
                let message = match error {
                    Failed::Cgroup(why) => why.to_string(),
                    error => error.to_string(),
                };
                Some(self.error(&message, Some(place), None))
            }
        }
    }

    /// The error for what the policy refuses.
    #[must_use]
    pub fn against_policy(&self, refused: &PolicyError) -> FileError {
        let place = place::of_setting(&self.text, &refused.setting);
        self.error(&refused.to_string(), place, Some(refused.remedy()))
    }

    pub(super) fn error(
        &self,
        message: &str,
        place: Option<Range<usize>>,
        help: Option<String>,
    ) -> FileError {
        // A place at the end of the file is one that cannot be shown.
        let end = self.text.len();
        let place = place.map(|place| {
            let start = place.start.min(end.saturating_sub(1));
            start..place.end.clamp(start, end)
        });
        FileError {
            path: self.path.clone(),
            text: self.text.clone(),
            message: message.to_owned(),
            place,
            help,
        }
    }
}

/// What serde, or toml for a variant, says of an unknown name: the problem, and
/// which known name it may be.
fn unknown(message: &str) -> Option<(String, String)> {
    let (problem, typed, known) = of_serde(message).or_else(|| of_toml(message))?;
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3);
    let help = match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    Some((problem, help))
}

/// "unknown field `x`, expected one of `a`, `b`".
fn of_serde(message: &str) -> Option<(String, &str, Vec<&str>)> {
    let (problem, known) = message.split_once(", expected ")?;
    let (_, rest) = problem
        .strip_prefix("unknown field ")
        .or(problem.strip_prefix("unknown variant "))?
        .split_once('`')?;
    let typed = rest.strip_suffix('`')?;
    let known = known.split('`').skip(1).step_by(2).collect();
    Some((problem.to_owned(), typed, known))
}

/// "unexpected keys in table: x, y, available keys: a, b".
fn of_toml(message: &str) -> Option<(String, &str, Vec<&str>)> {
    let rest = message.strip_prefix("unexpected keys in table: ")?;
    let (typed, known) = rest.split_once(", available keys: ")?;
    let typed = typed.split(", ").next()?;
    let known = known.split(", ").collect();
    Some((format!("unknown field `{typed}`"), typed, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SettingsFile {
        SettingsFile::of("a.toml", text)
    }

    fn shown(error: FileError) -> (String, Option<String>, Option<Range<usize>>) {
        (error.message, error.help, error.place)
    }

    #[test]
    fn unknown_key_is_refused_with_place_and_suggestion() {
        let text = "name = \"a\"\ncomand = []\n";
        let error = source(text).parse::<Spec>().map_err(shown);
        let wanted = (
            "unknown field `comand`".to_owned(),
            Some("did you mean `command`?".to_owned()),
            Some(11..17),
        );
        assert_eq!(error, Err(wanted));
    }

    #[test]
    fn place_is_told_as_line_and_column() {
        let error = source("a = 1\né = \"b\"\n").error("no", Some(11..12), None);
        assert_eq!(error.line_and_column(), Some((2, 5)));
    }

    #[test]
    fn refusal_points_at_what_is_refused() {
        let text =
            "name = \"a\"\ncommand = [\"/a\", \"b\\u0000\"]\n[environment]\n\"x=\" = \"1\"\n";
        let source = source(text);
        for (refused, wanted) in [
            (Refused::Nul, "\"b\\u0000\""),
            (Refused::Variable("x=".to_owned()), "\"1\""),
            (Refused::CommandNotAbsolute("/a".to_owned()), "\"/a\""),
            (Refused::NoCommand, "[\"/a\", \"b\\u0000\"]"),
        ] {
            let place = place::refused(&source.text, &refused).and_then(|place| text.get(place));
            assert_eq!(place, Some(wanted), "{refused}");
        }
        assert_eq!(place::refused(&source.text, &Refused::NoIds), None);
    }

    #[test]
    fn refused_mount_is_pointed_at_itself() {
        let text = "[[mounts]]\nsource = \"/a\"\ntarget = \"/x\"\n\
                    [[mounts]]\nsource = \"/b\"\ntarget = \"/proc\"\n";
        let source = source(text);
        let refused = Refused::MountOnOurs("/proc".into());
        let place = place::refused(&source.text, &refused).and_then(|place| text.get(place));
        assert_eq!(place, Some("\"/proc\""));
    }
}
