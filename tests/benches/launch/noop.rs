//! The static no-op: an ELF of 132 bytes that calls `exit_group(0)`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Its path in every root.
pub(crate) const PATH: &str = "/noop";

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;
/// `xor edi, edi; mov eax, 231; syscall`
const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05];

/// The bytes of the file.
///
/// # Source
/// elf(5)
fn image() -> Vec<u8> {
    let length = HEADERS + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, n: u16| file.extend_from_slice(&n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend_from_slice(&n.to_le_bytes());
    let long = |file: &mut Vec<u8>, n: u64| file.extend_from_slice(&n.to_le_bytes());
    half(&mut file, 2); // ET_EXEC
    half(&mut file, 62); // EM_X86_64
    word(&mut file, 1);
    long(&mut file, BASE + HEADERS); // where it starts
    long(&mut file, 64); // the program headers
    long(&mut file, 0);
    word(&mut file, 0);
    for number in [64, 56, 1, 64, 0, 0] {
        half(&mut file, number);
    }
    word(&mut file, 1); // PT_LOAD
    word(&mut file, 5); // read, execute
    long(&mut file, 0);
    long(&mut file, BASE);
    long(&mut file, BASE);
    long(&mut file, length);
    long(&mut file, length);
    long(&mut file, 0x1000);
    file.extend_from_slice(&CODE);
    file
}

/// Makes a root that holds nothing but the no-op and the mount points.
pub(crate) fn root(at: &Path) -> io::Result<PathBuf> {
    for point in ["proc", "dev", "tmp", "run"] {
        fs::create_dir_all(at.join(point))?;
    }
    let program = at.join(PATH.trim_start_matches('/'));
    fs::write(&program, image())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(at.to_owned())
}
