//! Whose a symbol is, by its mangled name.

use rustc_demangle::try_demangle;

/// The routines that the compiler may call on its own account.
pub(super) const MEMORY_ROUTINES: [&str; 2] = ["memcpy", "memset"];

/// The crate that holds the memory routines of a program without a C library.
pub(super) const MEMORY_CRATE: &str = "compiler_builtins";

/// A symbol as a reader wants to see it.
pub(super) fn readable(name: &str) -> String {
    match try_demangle(name) {
        Ok(path) => format!("{path:#}"),
        Err(_) => name.to_owned(),
    }
}

/// The crate of a mangled path; nothing for a name that is not mangled.
///
/// A method is its type's, whatever the trait: a blanket implementation on a
/// parameter (`<T as core::convert::Into>`) is nobody's and so nobody's crate.
pub(super) fn owner(name: &str) -> Option<String> {
    let path = format!("{:#}", try_demangle(name).ok()?);
    let mut rest = path.as_str();
    loop {
        let before = rest;
        rest = rest.trim_start_matches(['<', '&', '*', '[', '(', ' ']);
        for word in ["mut ", "const ", "dyn ", "impl "] {
            rest = rest.strip_prefix(word).unwrap_or(rest);
        }
        if rest == before {
            break;
        }
    }
    let (head, _) = rest.split_once("::")?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    head.chars().all(is_name).then(|| head.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_the_crate_of_the_type_in_both_manglings() {
        let cases = [
            (
                "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE",
                Some("core"),
            ),
            (
                "_ZN13cloison_linux5child3run17h0123456789abcdefE",
                Some("cloison_linux"),
            ),
            (
                "_ZN65_$LT$cloison_linux..child..Step$u20$as$u20$core..clone..Clone$GT$5clone17h0123456789abcdefE",
                Some("cloison_linux"),
            ),
            (
                "_ZN50_$LT$T$u20$as$u20$core..convert..Into$LT$U$GT$$GT$4into17h0123456789abcdefE",
                None,
            ),
            ("_RNvCs1234_7mycrate3foo", Some("mycrate")),
            (
                "_RNvNtCs1234_4core9panicking18panic_bounds_check",
                Some("core"),
            ),
            (
                "_RNvXCs1234_13cloison_linuxNtB2_4StepNtNtCs5678_4core5clone5Clone5clone",
                Some("cloison_linux"),
            ),
            ("malloc", None),
            ("cloison_linux", None),
        ];
        for (name, expected) in cases {
            assert_eq!(owner(name).as_deref(), expected, "{name}");
        }
    }
}
