//! Archives that tar wrote, unpacked by us and by tar.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use cloison_storage::unpack::{Compression, Options, unpack};
use cloison_tests::{Outcome, REPORT};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::copies::describe;

const SOURCE: &str = "/tmp/written/source";

/// What a tree may well have.
fn source() {
    let source = Path::new(SOURCE);
    let long = source.join("l".repeat(150)).join("m".repeat(150));
    fs::create_dir_all(&long).unwrap();
    fs::create_dir_all(source.join("closed")).unwrap();
    fs::write(long.join("n".repeat(200)), "long").unwrap();
    fs::write(source.join("closed/file"), "closed").unwrap();
    fs::write(source.join("umlaut-\u{fc}-\n"), "odd").unwrap();
    fs::write(source.join("large"), vec![b'x'; 3_000_000]).unwrap();
    fs::hard_link(source.join("large"), source.join("closed/large-too")).unwrap();
    symlink("/etc/shadow", source.join("link")).unwrap();
    symlink("t".repeat(300), source.join("long-link")).unwrap();
    mkfifo(&source.join("fifo"), Mode::S_IRWXU).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    for part in 0..10 {
        sparse.write_all_at(b"data", part * 1_000_000).unwrap();
    }
    sparse.set_len(12_000_000).unwrap();
    fs::write(source.join("setuid"), "setuid").unwrap();
    chown(source.join("setuid"), Some(1000), Some(65535)).unwrap();
    fs::set_permissions(source.join("setuid"), Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o1500)).unwrap();
}

fn run(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

pub(crate) fn by_tar() -> Outcome {
    source();
    let mut faults = Vec::new();
    let mut archives = 0;
    for format in ["gnu", "pax", "ustar", "oldgnu"] {
        for (sparse, version) in [(false, "1.0"), (true, "0.0"), (true, "0.1"), (true, "1.0")] {
            for (option, compression) in [
                ("", Compression::None),
                ("--gzip", Compression::Gzip),
                ("--xz", Compression::Xz),
                ("--zstd", Compression::Zstd),
            ] {
                // Only pax has versions of sparse files, and ustar has none.
                let is_other = version != "1.0" && format != "pax";
                if is_other || sparse && (format == "ustar" || !option.is_empty()) {
                    continue;
                }
                if let Err(fault) = one(format, sparse.then_some(version), option, compression) {
                    faults.push(format!(
                        "{format} sparse {sparse} {version} {option}: {fault}"
                    ));
                }
                archives += 1;
            }
        }
    }
    println!("{REPORT}{archives} archives of tar's, each unpacked as tar unpacks it");
    fs::remove_dir_all("/tmp/written").unwrap();
    faults.into()
}

fn one(
    format: &str,
    sparse: Option<&str>,
    option: &str,
    compression: Compression,
) -> Result<(), String> {
    let archive = Path::new("/tmp/written/archive");
    let format_option = format!("--format={format}");
    let mut arguments = vec![
        "--create",
        "--file=/tmp/written/archive",
        "--directory",
        SOURCE,
    ];
    let sparse_option = sparse.map(|version| format!("--sparse-version={version}"));
    if let Some(option) = &sparse_option {
        arguments.push("--sparse");
        if format == "pax" {
            arguments.push(option);
        }
    }
    if format == "ustar" {
        // It cannot say these.
        arguments.extend(["--exclude=lll*", "--exclude=long-link"]);
    }
    if !option.is_empty() {
        arguments.push(option);
    }
    arguments.extend([format_option.as_str(), "."]);
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    run("tar", &arguments);
    for tree in ["ours", "tars"] {
        let tree = Path::new("/tmp/written").join(tree);
        if tree.exists() {
            fs::remove_dir_all(&tree).unwrap();
        }
        fs::create_dir(tree).unwrap();
    }
    let file = File::open(archive).unwrap();
    let ours = File::open("/tmp/written/ours").unwrap();
    let unpacked =
        unpack(file, ours.as_fd(), &Options::default()).map_err(|error| format!("{error:?}"))?;
    if unpacked.compression != compression {
        return Err(format!("{:?}", unpacked.compression));
    }
    let extract = ["--extract", "--preserve-permissions", "--numeric-owner"];
    let places = [
        "--file=/tmp/written/archive",
        "--directory=/tmp/written/tars",
    ];
    let arguments: Vec<&OsStr> = extract.iter().chain(&places).map(OsStr::new).collect();
    run("tar", &arguments);
    let ours = describe(Path::new("/tmp/written/ours"), 0);
    let tars = describe(Path::new("/tmp/written/tars"), 0);
    if ours.len() < 10 {
        return Err(format!("only {} things", ours.len()));
    }
    let differing = ours.iter().zip(&tars).find(|(ours, tars)| ours != tars);
    match differing {
        Some((ours, tars)) => Err(format!("{ours:?}, by tar {tars:?}")),
        None if ours.len() != tars.len() => Err("another number of things".to_owned()),
        None => Ok(()),
    }
}
