//! The program as it is called.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory of its own, gone with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::create_dir_all(path.join("tree")).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// One file, as tar writes it.
fn archive(place: &Place) -> Vec<u8> {
    fs::write(place.0.join("file"), "content").unwrap();
    let tar = ["--create", "--gzip", "--format=gnu", "file"];
    let output = Command::new("tar")
        .args(tar)
        .current_dir(&place.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Its exit code, and what it said.
fn run(arguments: &[&str], archive: &[u8]) -> (i32, serde_json::Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison-unpack"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading all.
    drop(child.stdin.take().unwrap().write_all(archive));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = serde_json::from_str(&said).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn what_became_of_an_archive_is_one_line_and_a_code() {
    const OWN: &str = r#"{"owners":"caller"}"#;
    let place = Place::new("program");
    let tree = place.0.join("tree");
    let directory = tree.to_str().unwrap();
    let archive = archive(&place);
    let (code, said) = run(&[directory, OWN], &archive);
    assert_eq!((code, &said["unpacked"]["files"]), (0, &1.into()), "{said}");
    assert_eq!(fs::read(tree.join("file")).unwrap(), b"content");
    // It is not empty any more.
    let (code, said) = run(&[directory, OWN], &archive);
    assert_eq!(code, 1, "{said}");
    fs::remove_file(tree.join("file")).unwrap();
    let (code, said) = run(&[directory, OWN], &archive[..archive.len() - 5]);
    assert!(code == 1 && said["refused"].is_string(), "{said}");
    fs::remove_file(tree.join("file")).unwrap();
    let limited = r#"{"owners":"caller","limits":{"bytes_max":6}}"#;
    let (code, said) = run(&[directory, limited], &archive);
    assert!(code == 1 && said["refused"].is_string(), "{said}");
    let (code, said) = run(&["/nowhere", OWN], &archive);
    assert!(code == 2 && said["failed"].is_string(), "{said}");
    for wrong in [
        &[][..],
        &[directory, "{\"owner\":1}"],
        &[directory, OWN, "more"],
    ] {
        let (code, said) = run(wrong, &archive);
        assert!(code == 64 && said["usage"].is_string(), "{said}");
    }
}
