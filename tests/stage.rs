//! s
use cloison_tests::{Case, Outcome};
const CASES: &[Case] = &[Case::new("a", || {
    for p in ["/proc/self/mountinfo", "/proc/self/cgroup"] {
        println!("{}", std::fs::read_to_string(p).unwrap());
    }
    Outcome::Failed("x".into())
})];
fn main() -> std::process::ExitCode {
    cloison_tests::main(CASES)
}
