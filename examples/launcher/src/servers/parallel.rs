//! The same for many, some at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

/// Does `act` for each of `all`, `at_once` of them at a time; gives what came of
/// each, in order. On a terminal a bar shows how far it is.
pub(super) fn each<T: Sync, R: Send>(
    doing: &'static str,
    all: Vec<T>,
    at_once: usize,
    act: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let bar = bar(doing, all.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else {
                return done;
            };
            done.push((at, act(one)));
            bar.inc(1);
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers = at_once.min(all.len());
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for thread in threads {
            match thread.join() {
                Ok(theirs) => done.extend(theirs),
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        }
        done
    });
    bar.finish_and_clear();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, became)| became).collect()
}

/// Hidden where standard error is no terminal.
fn bar(doing: &'static str, count: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.with_message(doing)
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn each_is_done_once_and_told_in_order() {
        for at_once in [1, 3, 64] {
            let all: Vec<u32> = (0..100).collect();
            let done = each("testing", all.clone(), at_once, |one| one * 2);
            let wanted: Vec<u32> = all.iter().map(|one| one * 2).collect();
            assert_eq!(done, wanted);
        }
        assert_eq!(each("testing", Vec::<u32>::new(), 4, |one| *one), [0; 0]);
    }
}
