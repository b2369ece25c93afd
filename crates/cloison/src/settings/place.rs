//! Where in a file of settings something stands.

use std::ops::Range;
use std::path::Path;

use cloison_sandbox::{CgroupError, Refused};
use toml::de::{DeTable, DeValue};

/// What `refused` names in `text`.
pub(super) fn refused(text: &str, refused: &Refused) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
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

/// What cannot be done with a path of the host, on a target or with a number.
pub(super) fn failed(text: &str, error: &cloison_sandbox::Error) -> Option<Range<usize>> {
    use cloison_sandbox::Error as Failed;
    let document = DeTable::parse(text).ok()?;
    let table = document.get_ref();
    match error {
        Failed::HostPath { path, .. } | Failed::NotMappable { path, .. } => {
            naming(&DeValue::Table(table.clone()), path)
        }
        Failed::MountPoint { target, .. } => mount_on(table, target),
        // It names the setting, where it is one.
        Failed::Step { step, .. } => setting(table, step),
        Failed::Cgroup(why @ CgroupError::Limit { .. }) => setting(table, &why.to_string()),
        _ => None,
    }
}

/// The first text that names `path`.
pub(super) fn of_path(text: &str, path: &Path) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    naming(&DeValue::Table(document.get_ref().clone()), path)
}

/// The value of a setting, its keys parted by dots.
pub(super) fn of_setting(text: &str, name: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let keys: Vec<&str> = name.split('.').collect();
    below(document.get_ref(), &keys)
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
