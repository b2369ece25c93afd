//! What a look at the library alone would find. It is kept to show what such
//! a look misses.

use std::collections::BTreeSet;

use object::read::archive::ArchiveFile;
use object::{File, Object, ObjectSymbol};

use super::{Refusal, owner};

/// The symbols that a library's objects refer to and that neither they nor
/// the compiler's memory routines define.
///
/// # Errors
/// [`Refusal::Unreadable`] when the archive or a member of it cannot be read.
pub fn outside_references(archive: &[u8]) -> Result<BTreeSet<String>, Refusal> {
    let mut wanted = BTreeSet::new();
    let mut defined = BTreeSet::new();
    for member in ArchiveFile::parse(archive)?.members() {
        let member = member?;
        if !member.name().ends_with(b".o") {
            continue;
        }
        for symbol in File::parse(member.data(archive)?)?.symbols() {
            let name = symbol.name()?;
            if name.is_empty() {
                continue;
            }
            let names = if symbol.is_undefined() {
                &mut wanted
            } else {
                &mut defined
            };
            names.insert(name.to_owned());
        }
    }
    let outside = wanted.difference(&defined);
    let outside = outside.filter(|name| !owner::MEMORY_ROUTINES.contains(&name.as_str()));
    Ok(outside.map(|name| owner::readable(name)).collect())
}
