//! Names of entries, before anything is opened.

use std::ffi::{CStr, CString};

use super::error::Rule;

/// The most bytes of a component.
const COMPONENT_BYTES_MAX: usize = 255;

/// Where an entry goes, beneath the tree: components without `.`, `..` and empty
/// ones.
///
/// Holding one tells you nothing of what stands there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// With slashes between the components; empty: the tree itself.
    path: CString,
    /// Where the last component begins.
    last: usize,
}

impl Place {
    /// Reads a name. A slash at its end and components `.` mean nothing.
    pub(super) fn new(name: &[u8]) -> Result<Self, Rule> {
        match name {
            [] => return Err(Rule::NoName),
            [b'/', ..] => return Err(Rule::Absolute),
            _ => {}
        }
        let mut path = Vec::with_capacity(name.len());
        let mut last = 0;
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(Rule::DotDot),
                long if long.len() > COMPONENT_BYTES_MAX => return Err(Rule::LongComponent),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            last = path.len();
            path.extend(component);
        }
        let path = CString::new(path).map_err(|_| Rule::Nul)?;
        Ok(Self { path, last })
    }

    /// Whether it is the tree itself.
    pub(super) fn is_top(&self) -> bool {
        self.path.is_empty()
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.path.to_bytes()
    }

    /// How many components it has.
    pub(super) fn depth(&self) -> usize {
        match self.bytes() {
            [] => 0,
            path => 1 + path.iter().filter(|byte| **byte == b'/').count(),
        }
    }

    /// The last component.
    pub(super) fn name(&self) -> &CStr {
        let bytes = self.path.to_bytes_with_nul();
        let name = bytes.get(self.last..).unwrap_or_default();
        CStr::from_bytes_with_nul(name).unwrap_or_default()
    }

    /// The directory that it is in; `None` for the tree itself.
    pub(super) fn parent(&self) -> Option<Self> {
        if self.is_top() {
            return None;
        }
        let path = self.bytes().get(..self.last.saturating_sub(1))?;
        let last = path.iter().rposition(|byte| *byte == b'/');
        Some(Self {
            path: CString::new(path).ok()?,
            last: last.map_or(0, |slash| slash + 1),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_are_brought_to_one_form() {
        for (name, path, last, depth) in [
            (&b"a"[..], c"a", c"a", 1),
            (b"./a//b/./c/", c"a/b/c", c"c", 3),
            (b".", c"", c"", 0),
            (b"./", c"", c"", 0),
            (b"...", c"...", c"...", 1),
            (b"a\x1b\n/..b", c"a\x1b\n/..b", c"..b", 2),
        ] {
            let place = Place::new(name).unwrap();
            let found = (place.path(), place.name(), place.depth());
            assert_eq!(found, (path, last, depth));
        }
        let place = Place::new(b"a/bc/d").unwrap().parent().unwrap();
        assert_eq!((place.path(), place.name()), (c"a/bc", c"bc"));
        let top = place.parent().unwrap().parent().unwrap();
        assert!(top.is_top() && top.parent().is_none());
    }

    #[test]
    fn hostile_names_are_refused_each_for_its_reason() {
        for (name, rule) in [
            (&b""[..], Rule::NoName),
            (b"/", Rule::Absolute),
            (b"//a", Rule::Absolute),
            (b"..", Rule::DotDot),
            (b"a/../b", Rule::DotDot),
            (b"a/..", Rule::DotDot),
            (b"./../a", Rule::DotDot),
            (b"a\0b", Rule::Nul),
            (&[b'a'; 256], Rule::LongComponent),
        ] {
            assert_eq!(Place::new(name), Err(rule), "{}", name.escape_ascii());
        }
        assert!(Place::new(&[b'a'; 255]).is_ok());
    }
}
