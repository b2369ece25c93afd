//! What the program said of its attempts.

/// What came of the ways of one probe in one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Each way in the order tried.
    pub ways: Vec<Way>,
}

/// One way of trying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name, unique in its probe.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// The evidence, or the call and the error that stopped it.
    pub text: String,
}

/// How one way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reached the canary.
    Through,
    /// It was refused.
    Stopped,
    /// This kernel has no such thing for anybody.
    Absent,
    /// It could not be tried fairly: an error.
    Untried,
}

/// Why an output is not one of the program's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The exit code is none that the program gives, or not the one that its
    /// lines amount to: it did not end by itself, or was cut off.
    #[error("the attempt exited with {code:?}, which does not fit its output:\n{output}")]
    Code {
        /// The exit code, if it exited.
        code: Option<i32>,
        /// Its whole output, escaped.
        output: String,
    },
}

const EXIT_STOPPED: i32 = 0;
const EXIT_THROUGH: i32 = 10;
const EXIT_UNTRIED: i32 = 20;

impl Attempted {
    /// Reads the program's output. Lines that are no verdicts are notes.
    ///
    /// # Errors
    /// [`Malformed`] if exit code and lines contradict each other.
    pub fn parse(output: &str, code: Option<i32>) -> Result<Self, Malformed> {
        let ways: Vec<Way> = output.lines().filter_map(Way::parse).collect();
        let has = |verdict| ways.iter().any(|way| way.verdict == verdict);
        let expected = if has(Verdict::Through) {
            EXIT_THROUGH
        } else if has(Verdict::Untried) || !has(Verdict::Stopped) {
            EXIT_UNTRIED
        } else {
            EXIT_STOPPED
        };
        if code != Some(expected) || ways.is_empty() {
            return Err(Malformed::Code {
                code,
                output: output.escape_default().to_string(),
            });
        }
        Ok(Self { ways })
    }

    /// The ways that ended so.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(move |way| way.verdict == verdict)
    }

    /// The way of that name.
    #[must_use]
    pub fn way(&self, name: &str) -> Option<&Way> {
        self.ways.iter().find(|way| way.name == name)
    }
}

impl Way {
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let verdict = match word {
            "through" => Verdict::Through,
            "stopped" => Verdict::Stopped,
            "absent" => Verdict::Absent,
            "untried" => Verdict::Untried,
            _ => return None,
        };
        let (name, text) = rest.split_once(": ")?;
        Some(Self {
            name: name.to_owned(),
            verdict,
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Attempted, Verdict};

    const MIXED: &str = "open descriptors: [0]\nstopped a: open EPERM\nthrough b: read it\n";

    #[test]
    fn one_way_through_is_through() {
        let attempted = Attempted::parse(MIXED, Some(10)).unwrap();
        assert_eq!(attempted.ways.len(), 2);
        let through: Vec<_> = attempted.with(Verdict::Through).collect();
        assert_eq!(through[0].name, "b");
        assert_eq!(through[0].text, "read it");
    }

    #[test]
    fn an_exit_code_that_contradicts_the_lines_is_an_error() {
        for code in [None, Some(0), Some(1), Some(20), Some(139)] {
            assert!(Attempted::parse(MIXED, code).is_err(), "{code:?}");
        }
    }

    #[test]
    fn silence_is_never_a_pass() {
        for (output, code) in [
            ("", 0),
            ("", 20),
            ("absent x: none here\n", 0),
            ("stopped a: EPERM\nuntried b: no canary\n", 0),
        ] {
            assert!(Attempted::parse(output, Some(code)).is_err(), "{output:?}");
        }
        assert!(Attempted::parse("untried all: no canary\n", Some(20)).is_ok());
    }
}
