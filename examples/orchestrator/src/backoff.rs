//! How long to wait before a server that died is started again.

use std::time::Duration;

/// Doubled each time a server dies soon.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// One that ran as long as this was well.
const WELL: Duration = Duration::from_secs(60);

/// The next pause.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// How long to wait after a server that ran for `lasted`.
    pub(crate) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= WELL {
            self.0 = FIRST;
        }
        let pause = self.0;
        self.0 = LONGEST.min(self.0 * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_server_was_well() {
        let mut backoff = Backoff::new();
        let brief = Duration::from_millis(1);
        let pauses: Vec<_> = (0..12).map(|_| backoff.after(brief)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.first(), Some(&FIRST));
        assert_eq!(pauses.last(), Some(&LONGEST));
        assert_eq!(backoff.after(WELL), FIRST);
    }
}
