//! What a kernel is expected to skip.

use std::collections::BTreeMap;

use cloison_tests::guest::GuestKernel;

const FILE: &str = include_str!("../../.ci/expected-skips-in-guests");

/// The cases that this kernel cannot run, as the runner in the guest takes
/// them.
pub(crate) fn skips(kernel: GuestKernel) -> String {
    by_kernel(FILE).remove(kernel.name()).unwrap_or_default()
}

fn by_kernel(text: &str) -> BTreeMap<&str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        if let (Some(kernel), Some(case)) = (words.next(), words.next()) {
            let cases = found.entry(kernel).or_default();
            cases.push_str(case);
            cases.push(' ');
        }
    }
    found
}
