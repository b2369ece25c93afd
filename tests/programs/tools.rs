//! Tools that read proc: what they show, if they show anything.

use crate::ground::Place;

fn says(place: &Place, name: &str, script: &str, wanted: &str) -> Result<(), String> {
    let said = place.run(name, &["/bin/sh", "-c", script])?;
    if said.contains(wanted) {
        Ok(())
    } else {
        Err(said)
    }
}

pub(crate) fn ps(place: &Place) -> Result<(), String> {
    says(place, "ps", "ps -eo pid,comm", " ps\n")
}

pub(crate) fn free(place: &Place) -> Result<(), String> {
    says(place, "free", "free -m", "Mem:")
}

pub(crate) fn uptime(place: &Place) -> Result<(), String> {
    says(place, "uptime", "uptime", "load average: 0.00, 0.00, 0.00")
}

pub(crate) fn vmstat(place: &Place) -> Result<(), String> {
    says(place, "vmstat", "vmstat 2>&1", "procs")
}

pub(crate) fn sysctl(place: &Place) -> Result<(), String> {
    says(
        place,
        "sysctl",
        "sysctl kernel.ostype",
        "kernel.ostype = Linux",
    )
}
