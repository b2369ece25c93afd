//! The re-enactment says what it claims: with walls one is hit and twenty are
//! not; without, the same program hits them all.
//!
//! The re-enactment goes on a stage by itself, so this target does not.

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("with_walls_one_of_21_is_hit", || compare(&[], 1)),
        Trial::test("without_walls_the_same_program_hits_all", || {
            compare(&["--without-walls"], 21)
        }),
        Trial::test("both_ways_run_the_same_attacker", same_attacker),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn play(options: &[&str]) -> Result<serde_json::Value, String> {
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--offline", "--locked"])
        .args(["--package", "cloison-reenact", "--", "--json"])
        .args(options)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {told}{errors}", output.status));
    }
    serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))
}

/// The program judges its own table and exits with 1 where it falls short;
/// here, that the table counts what the test is named for.
fn compare(options: &[&str], hit: u64) -> Result<(), Failed> {
    let told = play(options)?;
    let tenants = told["rows"].as_array().map_or(0, Vec::len);
    let (found, untouched) = (told["hit"].as_u64(), told["untouched"].as_u64());
    if tenants == 21 && found == Some(hit) && untouched == Some(21 - hit) {
        Ok(())
    } else {
        Err(format!("{tenants} tenants, {found:?} hit, {untouched:?} untouched").into())
    }
}

fn same_attacker() -> Result<(), Failed> {
    let hash = |options| Ok::<_, String>(play(options)?["attacker_sha256"].to_string());
    let (with, without) = (hash(&[])?, hash(&["--without-walls"])?);
    if with == without && with.len() == 66 {
        Ok(())
    } else {
        Err(format!("{with} and {without}").into())
    }
}
