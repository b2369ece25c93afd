//! What the output of a test target in a guest says of its cases.

/// How many cases a test target ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that kept their promise.
    pub passed: usize,
    /// Those that did not.
    pub failed: usize,
    /// Those that this kernel cannot run: name and reason.
    pub skipped: Vec<(String, String)>,
}

impl Counts {
    /// Reads the closing line of a target, and the lines that say what was
    /// skipped; `None` if there is no closing line, or not as many skips as it
    /// says.
    #[must_use]
    pub fn of(output: &str) -> Option<Self> {
        let closing = output.lines().rev().find_map(closing)?;
        let [passed, failed, skipped] = closing;
        let reasons: Vec<(String, String)> = output
            .lines()
            .filter_map(|line| line.split_once(": SKIPPED: "))
            // The library has begun the line with what it runs.
            .map(|(before, reason)| (before.rsplit(' ').next().unwrap_or(before), reason))
            .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
            .collect();
        (reasons.len() == skipped).then_some(Self {
            passed,
            failed,
            skipped: reasons,
        })
    }
}

/// The numbers of `N passed, N failed, N skipped`.
fn closing(line: &str) -> Option<[usize; 3]> {
    let mut words = line.split(", ");
    let mut number = |what: &str| words.next()?.strip_suffix(what)?.trim().parse().ok();
    let numbers = [number("passed")?, number("failed")?, number("skipped")?];
    words.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_with_their_reasons() {
        let output =
            "test a ... a: SKIPPED: no disk\ntest a ... ok\n12 passed, 1 failed, 1 skipped\n";
        let counts = Counts {
            passed: 12,
            failed: 1,
            skipped: vec![("a".to_owned(), "no disk".to_owned())],
        };
        assert_eq!(Counts::of(output), Some(counts));
    }

    #[test]
    fn a_skip_without_a_reason_is_no_count() {
        assert_eq!(Counts::of("1 passed, 0 failed, 1 skipped\n"), None);
        assert_eq!(Counts::of("a: SKIPPED: no disk\n"), None);
    }
}
