//! What the operator sees of us: output, errors, and text that is not ours.

use std::error::Error as _;
use std::io::{self, IsTerminal, Write};

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::error::Error;

/// `text` fit for a terminal: what moves the cursor, or the direction of
/// reading, becomes `\u{..}`.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_bidirectional(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `text` with the same, each in as many bytes: for a file whose places are
/// shown.
pub(crate) fn covered(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n') || is_bidirectional(c) {
            shown.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn is_bidirectional(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}')
}

/// A time in seconds since 1970 as `2026-01-31T12:00:00Z`.
///
/// # Source
/// Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*, for the days.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, eras of 400 of them.
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Writes `text` to standard output. A reader who has gone wants no more, and
/// that is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

/// Writes `value` to standard output as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Error::Output(error.into()))?;
    text.push('\n');
    print(&text)
}

/// Says one line on standard error.
pub(crate) fn notice(text: &str) {
    say(&format!("cloison: {}\n", escaped(text)));
}

/// What caused it, the nearest first.
fn causes(error: &Error) -> impl Iterator<Item = String> {
    let all = std::iter::successors(error.source(), |&cause| cause.source());
    all.map(ToString::to_string)
}

/// What went wrong, what caused it and what to do: a line each.
pub(crate) fn reasons(error: &Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    lines.extend(causes(error).map(|cause| format!("because {cause}")));
    lines.extend(error.remedy().map(|remedy| format!("remedy: {remedy}")));
    lines
}

/// Says what went wrong on standard error: the message, what caused it, and
/// what to do, a line each; an error in a file with its place.
pub(crate) fn explain(error: &Error) {
    if let Error::File(error) = error {
        let theme = match (io::stderr().is_terminal(), std::env::var_os("NO_COLOR")) {
            (true, None) => GraphicalTheme::unicode(),
            (true, Some(_)) => GraphicalTheme::unicode_nocolor(),
            (false, _) => GraphicalTheme::none(),
        };
        let mut text = String::new();
        let rendered = GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .render_report(&mut text, error.as_ref());
        if rendered.is_ok() {
            say(&text);
            return;
        }
    }
    let mut text = format!("cloison: {}\n", escaped(&error.to_string()));
    for cause in causes(error) {
        text.push_str(&format!("  because {}\n", escaped(&cause)));
    }
    if let Some(remedy) = error.remedy() {
        text.push_str(&format!("  remedy: {}\n", escaped(&remedy)));
    }
    say(&text);
}

/// Says `value` as one line of JSON on standard error.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string(value).map_err(|error| Error::Output(error.into()))?;
    text.push('\n');
    say(&text);
    Ok(())
}

/// An error of ours, as a program reads it.
#[derive(serde::Serialize)]
struct Explained {
    error: String,
    because: Vec<String>,
    remedy: Option<String>,
    exit_code: u8,
}

/// Says the same as [`explain`] in one line of JSON.
pub(crate) fn explain_as_json(error: &Error) {
    let because = causes(error).collect();
    let explained = Explained {
        error: error.to_string(),
        because,
        remedy: error.remedy(),
        exit_code: error.exit_code(),
    };
    if say_json(&explained).is_err() {
        explain(error);
    }
}

fn say(text: &str) {
    // Nobody is left to tell that nobody listens.
    match io::stderr().lock().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(escaped("a\x1b[2J\n"), "a\\u{1b}[2J\\u{a}");
        assert_eq!(escaped("\u{202e}x"), "\\u{202e}x");
        assert_eq!(escaped("é λ"), "é λ");
    }

    #[test]
    fn time_is_told_as_a_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn covered_text_keeps_its_places() {
        let text = "a\x1b[2J\u{9b}\u{202e}é\n";
        let shown = covered(text);
        assert_eq!(shown, "a?[2J?????é\n");
        assert_eq!(shown.len(), text.len());
    }
}
