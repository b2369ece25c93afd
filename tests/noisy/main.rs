//! No server starves its neighbour: each attack in one, a small service in
//! another. What the neighbour's requests cost is for the benchmark.

use std::process::ExitCode;
use std::time::Duration;

use cloison_tests::noisy::{ATTACKS, Attack, Host, Measured, enclosure};
use cloison_tests::{Case, Outcome, REPORT, quick};

macro_rules! cases {
    ($($at:literal: $name:ident,)*) => {
        const CASES: &[Case] = &[$(Case::new(stringify!($name), || check($at)),)*];
    };
}

cases! {
    0: fork_bomb_starves_no_neighbour,
    1: thread_bomb_starves_no_neighbour,
    2: memory_hog_starves_no_neighbour,
    3: kernel_memory_hog_starves_no_neighbour,
    4: full_tmpfs_starves_no_neighbour,
    5: inode_hog_starves_no_neighbour,
    6: processor_hog_starves_no_neighbour,
    7: descriptor_hog_starves_no_neighbour,
    8: terminal_hog_starves_no_neighbour,
    9: inotify_hog_starves_no_neighbour,
    10: crash_loop_starves_no_neighbour,
    11: socket_hog_starves_no_neighbour,
    12: swap_hog_starves_no_neighbour,
    13: timer_hog_starves_no_neighbour,
    14: disk_hog_starves_no_neighbour,
    15: filter_hog_starves_no_neighbour,
}

fn main() -> ExitCode {
    cloison_tests::main_within(&enclosure(), CASES)
}

fn lasting() -> Duration {
    Duration::from_millis(if quick() { 1500 } else { 3000 })
}

fn check(at: usize) -> Outcome {
    let Some(attack) = ATTACKS.get(at) else {
        return Outcome::Failed(format!("there is no attack {at}"));
    };
    match play(attack) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(format!("{}: {error}", attack.name)),
    }
}

fn play(attack: &Attack) -> Result<Outcome, Box<dyn std::error::Error>> {
    if let Some(lacking) = (attack.lacks)() {
        return Ok(Outcome::Skipped(lacking));
    }
    let host = Host::new()?;
    let whole = host.under(attack, lasting())?;
    let control = host.control(attack, lasting() / 2)?;
    println!(
        "{REPORT}{}: {} requests, {} failed; without the limit {} of {} failed, {}",
        attack.name,
        whole.requests.times.len(),
        whole.requests.failed,
        control.requests.failed,
        control.requests.failed + control.requests.times.len(),
        if control.launches {
            "launches go on"
        } else {
            "no launch"
        },
    );
    let mut faults = Vec::new();
    if whole.requests.failed > 0 || whole.requests.times.is_empty() {
        faults.push("the neighbour was not answered");
    }
    if !whole.launches {
        faults.push("no other server could be launched");
    }
    if !(attack.held)(&whole) {
        faults.push("the limit's own counter did not move");
    }
    if !(attack.beyond)(&control) {
        faults.push("the control got no further than the limit");
    }
    if faults.is_empty() {
        return Ok(Outcome::Passed);
    }
    let told = |measured: &Measured| {
        let Measured {
            usage,
            tasks_peak,
            memory_peak,
            swap_peak,
            said,
            ..
        } = measured;
        format!(
            "tasks {tasks_peak}, memory {memory_peak}, swap {swap_peak}, said {said}, {usage:?}"
        )
    };
    Ok(Outcome::Failed(format!(
        "{}\nwhole: {}\ncontrol: {}",
        faults.join("; "),
        told(&whole),
        told(&control)
    )))
}
