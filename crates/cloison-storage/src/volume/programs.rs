//! The programs of e2fsprogs that make and grow an ext4. Each finds the image
//! as its input, never by a name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::error::{Lacking, VolumeError, step};
use super::geometry::{Geometry, INODE_BYTES};

const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The image, for a program that has it as its input.
const IMAGE: &str = "/proc/self/fd/0";
/// What is kept of what a program says.
const SAID_BYTES_MAX: u64 = 1024;
/// Not what a host's configuration would add or take away. Nothing is
/// initialized later: what is set apart stays so.
const FEATURES: &str = "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,\
                        extra_isize,filetype,dir_index,sparse_super,large_file,ext_attr,\
                        resize_inode";

/// Makes an ext4 of that size in an empty image.
pub(crate) fn make(image: &File, geometry: Geometry, inodes: u64) -> Result<(), VolumeError> {
    let (inodes, blocks) = (inodes.to_string(), geometry.blocks.to_string());
    let inode_bytes = INODE_BYTES.to_string();
    // Discarding would give back what was set apart.
    let late = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
    let arguments = [
        "-q",
        "-F",
        "-b",
        "4096",
        "-g",
        "32768",
        "-m",
        "0",
        "-I",
        &inode_bytes,
        "-N",
        &inodes,
        "-O",
        FEATURES,
        "-E",
        late,
        IMAGE,
        &blocks,
    ];
    run("mke2fs", &arguments, image, 0)
}

/// Grows an ext4 that is not mounted.
pub(crate) fn grow(image: &File, geometry: Geometry) -> Result<(), VolumeError> {
    let blocks = geometry.blocks.to_string();
    // 1: what was amiss has been put right.
    run("e2fsck", &["-p", "-f", IMAGE], image, 1)?;
    run("resize2fs", &[IMAGE, &blocks], image, 0)
}

fn find(program: &'static str) -> Result<PathBuf, Lacking> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
        .ok_or(Lacking::Program(program))
}

/// Runs one to its end; an exit code up to `worst` is good.
fn run(
    program: &'static str,
    arguments: &[&str],
    image: &File,
    worst: i32,
) -> Result<(), VolumeError> {
    let input = image
        .try_clone()
        .map_err(step("duplicating a descriptor"))?;
    let mut child = Command::new(find(program)?)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("MKE2FS_CONFIG", "/dev/null")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(step("starting a program of e2fsprogs"))?;
    let mut said = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        let read = (&mut errors).take(SAID_BYTES_MAX).read_to_end(&mut said);
        read.and_then(|_| std::io::copy(&mut errors, &mut std::io::sink()))
            .map_err(step("reading what a program says"))?;
    }
    match child.wait() {
        Ok(status) if status.code().is_some_and(|code| code <= worst) => Ok(()),
        // Somebody in this process reaps what is not his; it has ended, and
        // whoever called looks at what it made.
        Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => Ok(()),
        Ok(_) => Err(VolumeError::Program {
            program,
            said: harmless(&said),
        }),
        Err(error) => Err(step("waiting for a program of e2fsprogs")(error)),
    }
}

fn harmless(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}
