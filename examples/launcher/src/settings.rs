//! The files that an operator writes: `FILE.toml` and `host.toml`.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloison::HostSettings;
use cloison_sandbox::{CgroupError, Refused, Spec};
use miette::{LabeledSpan, NamedSource, SourceCode};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, at};
use crate::report::{covered, escaped};

/// Where the host's settings are if nobody says otherwise.
const HOST: &str = "/etc/cloison/host.toml";
/// The most that a file of settings may hold.
const BYTES_MAX: u64 = 1 << 20;

/// A file of settings that was read, kept to show places in it.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

/// Something wrong at a place in a file of settings.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FileError {
    message: String,
    place: Option<Range<usize>>,
    help: Option<String>,
    source_code: NamedSource<String>,
}

impl miette::Diagnostic for FileError {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.clone()?;
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), place);
        Some(Box::new(std::iter::once(label)))
    }
}

/// The spec that `path` holds, and the file to show places in.
pub(crate) fn spec(path: &Path) -> Result<(Spec, Source), Error> {
    let source = Source::read(path)?;
    let spec = source.parse()?;
    Ok((spec, source))
}

/// The settings in `path`, or in the usual file if there is one.
pub(crate) fn host(path: Option<&Path>) -> Result<HostSettings, Error> {
    let path = match path {
        Some(path) => path,
        None if Path::new(HOST).exists() => Path::new(HOST),
        None => return Ok(HostSettings::default()),
    };
    Source::read(path)?.parse()
}

impl Source {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(at("reading", path))?;
        let mut source = Self {
            path: path.to_owned(),
            text: String::new(),
        };
        if bytes.len() as u64 > BYTES_MAX {
            return Err(source.error("the file is larger than 1 MiB", None, None));
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                source.text = text;
                Ok(source)
            }
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                source.text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Err(source.error(
                    "the file is not text in UTF-8",
                    Some(start..start + 1),
                    None,
                ))
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text).map_err(|error| {
            let message = error.message();
            match unknown(message) {
                Some((problem, help)) => self.error(problem, error.span(), Some(help)),
                None => self.error(message, error.span(), None),
            }
        })
    }

    /// The error for what the library refuses, with its place if it is in
    /// this file.
    pub(crate) fn refused(&self, refused: &Refused) -> Error {
        self.error(&refused.to_string(), self.place(refused), None)
    }

    /// The error for a path of the host that this file names and that cannot be
    /// used; `None` if it does not name it.
    pub(crate) fn unusable(&self, path: &Path, why: &str) -> Option<Error> {
        let document = DeTable::parse(&self.text).ok()?;
        let place = naming(&DeValue::Table(document.get_ref().clone()), path)?;
        Some(self.error(&format!("{}: {why}", path.display()), Some(place), None))
    }

    /// The error for what cannot be done with a path of the host, on a target
    /// or with a number, if this file names it.
    pub(crate) fn placed(&self, error: &cloison_sandbox::Error) -> Option<Error> {
        use cloison_sandbox::Error as Failed;
        let document = DeTable::parse(&self.text).ok()?;
        let table = document.get_ref();
        let place = match error {
            Failed::HostPath { path, errno } => return self.unusable(path, errno.desc()),
            Failed::NotMappable { path, .. } => naming(&DeValue::Table(table.clone()), path),
            Failed::MountPoint { target, .. } => mount_on(table, target),
            // It names the setting, where it is one.
            Failed::Step { step, .. } => setting(table, step),
            Failed::Cgroup(why @ CgroupError::Limit { .. }) => {
                let why = why.to_string();
                let place = setting(table, &why)?;
                return Some(self.error(&why, Some(place), None));
            }
            _ => None,
        };
        Some(self.error(&error.to_string(), Some(place?), None))
    }

    fn error(&self, message: &str, place: Option<Range<usize>>, help: Option<String>) -> Error {
        // A place at the end of the file is one that cannot be shown.
        let end = self.text.len();
        let place = place.map(|place| {
            let start = place.start.min(end.saturating_sub(1));
            start..place.end.clamp(start, end)
        });
        let name = escaped(&self.path.display().to_string());
        Error::File(Box::new(FileError {
            message: escaped(message),
            place,
            help: help.map(|help| escaped(&help)),
            source_code: NamedSource::new(name, covered(&self.text)),
        }))
    }

    fn place(&self, refused: &Refused) -> Option<Range<usize>> {
        let document = DeTable::parse(&self.text).ok()?;
        let table = document.get_ref();
        let root = DeValue::Table(table.clone());
        let below = |keys: &[&str]| below(table, keys);
        match refused {
            Refused::NoIds | Refused::OtherIds { .. } => below(&["ids"]),
            Refused::NoCommand => below(&["command"]),
            Refused::CommandNotAbsolute(_) => below(&["command", "0"]).or(below(&["command"])),
            Refused::WorkingDirectory(_) => below(&["working_directory"]),
            Refused::Nul => with_nul(&root),
            Refused::Variable(name) => below(&["environment", name]),
            Refused::Mounts(_) => below(&["mounts"]),
            Refused::ExecWithoutInit => below(&["init"]),
            Refused::ListenVariable(name) => below(&["environment", name]),
            Refused::MountTarget(target)
            | Refused::MountOnOurs(target)
            | Refused::MountTwice(target)
            | Refused::MountHidden { target, .. } => mount_on(table, target),
            Refused::MountPointMissing { name, .. } => {
                let target = Path::new("/").join(name);
                mount_on(table, &target).or(below(&["root"]))
            }
            Refused::TreeOwner { path, .. } | Refused::HostHonoursSetuid(path) => {
                naming(&root, path).or(below(&["root"]))
            }
            Refused::OtherDiskIds => below(&["root", "own", "disk_ids"]),
            Refused::Capability(_) => below(&["capabilities"]),
            Refused::HostPathNotAbsolute(path)
            | Refused::MountSource(path)
            | Refused::WholeHost(path)
            | Refused::ReadOnlyOnHost(path)
            | Refused::LayerWithinTree { layer: path, .. }
            | Refused::OfTheKernel { path, .. } => naming(&root, path),
            Refused::OutOfBounds { field, value, .. } => {
                let keys: Vec<&str> = field.split('.').collect();
                below(&keys).or_else(|| in_list(table, &keys, *value))
            }
            Refused::IoDevices(_) => below(&["cgroup", "io"]),
            Refused::IoDeviceTwice(device) => last_naming(&root, device),
            Refused::EveryPort => below(&["tcp", "bind"]),
            Refused::NoTerminals => below(&["limits", "terminals_max"]),
            Refused::TooLarge { .. } => largest(table),
            _ => None,
        }
    }
}

/// The value at the end of `keys`; a number is a place in an array.
fn below(table: &DeTable<'_>, keys: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = keys.split_first()?;
    let (_, mut value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    for key in rest {
        value = match value.get_ref() {
            DeValue::Table(table) => table.iter().find(|(name, _)| name.get_ref() == key)?.1,
            DeValue::Array(array) => array.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value.span())
}

/// The setting that a message names between its first pair of backquotes.
fn setting(table: &DeTable<'_>, message: &str) -> Option<Range<usize>> {
    let keys: Vec<&str> = message.split('`').nth(1)?.split('.').collect();
    below(table, &keys)
}

/// The value at the end of `keys` in the entry of a list above it that has
/// this value.
fn in_list(table: &DeTable<'_>, keys: &[&str], value: u64) -> Option<Range<usize>> {
    let (last, above) = keys.split_last()?;
    let (list, above) = above.split_last()?;
    let mut within = table;
    for key in above {
        let (_, found) = within.iter().find(|(name, _)| name.get_ref() == key)?;
        within = found.get_ref().as_table()?;
    }
    let (_, list) = within.iter().find(|(name, _)| name.get_ref() == list)?;
    let entries = list.get_ref().as_array()?.iter();
    let mut found = entries.filter_map(|entry| {
        let (_, found) = entry
            .get_ref()
            .as_table()?
            .iter()
            .find(|(key, _)| key.get_ref() == last)?;
        let number = found.get_ref().as_integer()?;
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
        (number == Some(value)).then(|| found.span())
    });
    found.next()
}

/// What takes most of the room for strings.
fn largest(table: &DeTable<'_>) -> Option<Range<usize>> {
    ["command", "environment", "mounts", "working_directory"]
        .iter()
        .filter_map(|key| below(table, &[key]))
        .max_by_key(|place| place.len())
}

/// The last mount on that target.
fn mount_on(table: &DeTable<'_>, target: &Path) -> Option<Range<usize>> {
    let (_, mounts) = table.iter().find(|(key, _)| key.get_ref() == "mounts")?;
    let targets = mounts.get_ref().as_array()?.iter().filter_map(|mount| {
        let mut fields = mount.get_ref().as_table()?.iter();
        let (_, value) = fields.find(|(key, _)| key.get_ref() == "target")?;
        Some((value.get_ref().as_str()?, value.span()))
    });
    let mut here = targets.filter(|(found, _)| Path::new(found) == target);
    here.next_back().map(|(_, place)| place)
}

/// The first text that names `path`.
fn naming(value: &DeValue<'_>, path: &Path) -> Option<Range<usize>> {
    let look = |value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) if Path::new(text.as_ref()) == path => Some(value.span()),
        inner => naming(inner, path),
    };
    match value {
        DeValue::Array(array) => array.iter().find_map(look),
        DeValue::Table(table) => [
            "root",
            "directory",
            "own",
            "path",
            "access",
            "disk-layer",
            "mounts",
            "source",
            "cgroup",
            "io",
            "device",
        ]
        .iter()
        .filter_map(|name| table.iter().find(|(key, _)| key.get_ref() == name))
        .find_map(|(_, value)| look(value)),
        _ => None,
    }
}

/// The last text that names `path` as a device.
fn last_naming(value: &DeValue<'_>, path: &Path) -> Option<Range<usize>> {
    let table = value.as_table()?;
    let (_, found) = table.iter().find(|(key, _)| key.get_ref() == "cgroup")?;
    let (_, list) = found
        .get_ref()
        .as_table()?
        .iter()
        .find(|(key, _)| key.get_ref() == "io")?;
    let entries = list.get_ref().as_array()?.iter();
    entries
        .filter_map(|entry| naming(entry.get_ref(), path))
        .next_back()
}

/// The first text that holds a NUL.
fn with_nul(value: &DeValue<'_>) -> Option<Range<usize>> {
    let look = |value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => Some(value.span()),
        inner => with_nul(inner),
    };
    match value {
        DeValue::Array(array) => array.iter().find_map(look),
        DeValue::Table(table) => table.iter().find_map(|(key, value)| {
            let key = key.get_ref().contains('\0').then(|| key.span());
            key.or_else(|| look(value))
        }),
        _ => None,
    }
}

/// What serde says of an unknown name, apart: the problem, and which known
/// name it may be.
fn unknown(message: &str) -> Option<(&str, String)> {
    let (problem, known) = message.split_once(", expected ")?;
    let (_, rest) = problem
        .strip_prefix("unknown field ")
        .or(problem.strip_prefix("unknown variant "))?
        .split_once('`')?;
    let typed = rest.strip_suffix('`')?;
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "a.toml".into(),
            text: text.to_owned(),
        }
    }

    fn shown(error: Error) -> (String, Option<String>, Option<Range<usize>>) {
        match error {
            Error::File(error) => (error.message, error.help, error.place),
            other => (other.to_string(), None, None),
        }
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
            let place = source.place(&refused).and_then(|place| text.get(place));
            assert_eq!(place, Some(wanted), "{refused}");
        }
        assert_eq!(source.place(&Refused::NoIds), None);
    }

    #[test]
    fn refused_mount_is_pointed_at_itself() {
        let text = "[[mounts]]\nsource = \"/a\"\ntarget = \"/x\"\n\
                    [[mounts]]\nsource = \"/b\"\ntarget = \"/proc\"\n";
        let source = source(text);
        let refused = Refused::MountOnOurs("/proc".into());
        let place = source.place(&refused).and_then(|place| text.get(place));
        assert_eq!(place, Some("\"/proc\""));
    }
}
