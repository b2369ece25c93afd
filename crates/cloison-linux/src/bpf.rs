//! bpf(2): a program that says which devices the processes of a cgroup may
//! open, and which programs say so now.

extern crate std;

use core::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::vec::Vec;

use crate::sys::{Errno, Result, check, nr, raw};

/// May be made (`BPF_DEVCG_ACC_MKNOD`).
pub const MAKE: u32 = 1;
/// May be opened for reading (`BPF_DEVCG_ACC_READ`).
pub const READ: u32 = 2;
/// May be opened for writing (`BPF_DEVCG_ACC_WRITE`).
pub const WRITE: u32 = 4;

/// Character devices that may be used. There is no rule for block devices:
/// none may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// The major number.
    pub major: u32,
    /// The minor number; `None`: any.
    pub minor: Option<u32>,
    /// What may be done: [`MAKE`], [`READ`], [`WRITE`].
    pub access: u32,
}

/// How many programs of one cgroup are told of.
const PROGRAMS_MAX: usize = 64;

const PROG_LOAD: u64 = 5;
const PROG_ATTACH: u64 = 8;
const PROG_DETACH: u64 = 9;
const PROG_GET_FD_BY_ID: u64 = 13;
const OBJ_GET_INFO_BY_FD: u64 = 15;
const PROG_QUERY: u64 = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const PROGRAM_TYPE: u64 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_TYPE: u64 = 6;
/// `BPF_F_ALLOW_MULTI`: those of the cgroups above count as well.
const ALLOW_MULTI: u64 = 2;

/// Loads a program that allows what one of `rules` allows, and nothing else.
///
/// # Errors
/// bpf(2): `EINVAL` where the kernel knows no such programs, `EPERM` without
/// the capability.
///
/// # Kernel
/// 4.15, `CONFIG_CGROUP_BPF`; `CAP_SYS_ADMIN`, or `CAP_BPF` with
/// `CAP_NET_ADMIN` from 5.8 on.
pub fn load_device_program(rules: &[DeviceRule]) -> Result<OwnedFd> {
    let program = assemble(rules);
    // It uses no function of the kernel that asks for another licence.
    let licence = c"Apache-2.0";
    // union bpf_attr: type, count; instructions; licence; log level and size;
    // log; version and flags.
    let count = program.len() as u64;
    let attributes: [u64; 6] = [
        PROGRAM_TYPE | count << 32,
        program.as_ptr() as u64,
        licence.as_ptr() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the attributes name a live program of that many instructions and
    // a live C string; both outlive the call, which only reads them.
    let loaded = check(unsafe {
        bpf(
            PROG_LOAD,
            &raw const attributes as u64,
            size_of_val(&attributes),
        )
    })?;
    // SAFETY: the call just made returned a new descriptor, which nothing
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded as RawFd) })
}

/// Attaches a program to a cgroup of version 2, beside those that are there.
///
/// # Errors
/// bpf(2).
///
/// # Kernel
/// 4.15, `CONFIG_CGROUP_BPF`.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    attachment(PROG_ATTACH, cgroup, program, ALLOW_MULTI)
}

/// Takes all programs about devices from a cgroup of version 2.
///
/// # Errors
/// bpf(2).
pub fn detach_device_programs(cgroup: BorrowedFd<'_>) -> Result<()> {
    for id in ids(cgroup)? {
        attachment(
            PROG_DETACH,
            cgroup,
            std::os::fd::AsFd::as_fd(&by_id(id)?),
            0,
        )?;
    }
    Ok(())
}

/// The tag of each program about devices that is attached to this very cgroup:
/// a hash of its instructions, by which the kernel names it.
///
/// # Errors
/// bpf(2); `E2BIG` where there are more than 64.
///
/// # Kernel
/// 4.15, `CONFIG_CGROUP_BPF`.
pub fn device_program_tags(cgroup: BorrowedFd<'_>) -> Result<Vec<[u8; 8]>> {
    let mut tags = Vec::new();
    for id in ids(cgroup)? {
        tags.push(program_tag(std::os::fd::AsFd::as_fd(&by_id(id)?))?);
    }
    Ok(tags)
}

/// The tag of a program.
///
/// # Errors
/// bpf(2).
///
/// # Kernel
/// 4.13.
pub fn program_tag(program: BorrowedFd<'_>) -> Result<[u8; 8]> {
    // struct bpf_prog_info begins with type and id, then the tag.
    let mut info = [0_u64; 2];
    let attributes: [u64; 2] = [
        program.as_raw_fd() as u64 | (size_of_val(&info) as u64) << 32,
        &raw mut info as u64,
    ];
    // SAFETY: the attributes name a live local and its own size, which is all
    // that the kernel writes.
    check(unsafe {
        bpf(
            OBJ_GET_INFO_BY_FD,
            &raw const attributes as u64,
            size_of_val(&attributes),
        )
    })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let [_, tag] = unsafe { core::ptr::read_volatile(&raw const info) };
    Ok(tag.to_ne_bytes())
}

fn ids(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut found = [0_u32; PROGRAMS_MAX];
    // Target and type; query flags and attach flags; where ids go; their
    // count, which comes back.
    let mut attributes: [u64; 4] = [
        cgroup.as_raw_fd() as u64 | ATTACH_TYPE << 32,
        0,
        &raw mut found as u64,
        PROGRAMS_MAX as u64,
    ];
    let asked = &raw mut attributes as u64;
    // SAFETY: the attributes name a live array and its own length, and are
    // themselves live and written to.
    let answer = check(unsafe { bpf(PROG_QUERY, asked, size_of_val(&attributes)) });
    answer.map_err(|errno| match errno {
        // ENOSPC: the array was too short.
        Errno(28) => Errno(7),
        errno => errno,
    })?;
    // SAFETY: a live local, which the kernel wrote through its address.
    let [.., count] = unsafe { core::ptr::read_volatile(&raw const attributes) };
    // SAFETY: the same.
    let found = unsafe { core::ptr::read_volatile(&raw const found) };
    Ok(found.into_iter().take(count as u32 as usize).collect())
}

fn by_id(id: u32) -> Result<OwnedFd> {
    let attributes: [u64; 2] = [u64::from(id), 0];
    // SAFETY: the attributes hold numbers only.
    let found = check(unsafe { bpf(PROG_GET_FD_BY_ID, &raw const attributes as u64, 12) })?;
    // SAFETY: the call just made returned a new descriptor, which nothing
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(found as RawFd) })
}

fn attachment(
    command: u64,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u64,
) -> Result<()> {
    let attributes: [u64; 2] = [
        cgroup.as_raw_fd() as u64 | (program.as_raw_fd() as u64) << 32,
        ATTACH_TYPE | flags << 32,
    ];
    // SAFETY: the attributes hold numbers only.
    check(unsafe {
        bpf(
            command,
            &raw const attributes as u64,
            size_of_val(&attributes),
        )
    })?;
    Ok(())
}

/// # Safety
/// `attributes` is the address of `size` bytes in the form that `command`
/// wants, and what they name lives as long as the call.
unsafe fn bpf(command: u64, attributes: u64, size: usize) -> i64 {
    // SAFETY: the caller's promise is the one that the call needs.
    unsafe { raw(nr::BPF, [command, attributes, size as u64, 0, 0, 0]) }
}

/// One instruction: code, destination and source register, offset, immediate.
///
/// # Source
/// The kernel's `include/uapi/linux/bpf.h`, `struct bpf_insn`
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (destination as u64) << 8
        | (source as u64) << 12
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

/// `rD = *(u32 *)(r1 + offset)`.
const fn load(destination: u8, offset: i16) -> u64 {
    instruction(0x61, destination, 1, offset, 0)
}

/// `if rD != immediate goto offset`.
const fn unless(destination: u8, immediate: u32, offset: i16) -> u64 {
    instruction(0x55, destination, 0, offset, immediate as i32)
}

const RETURN: u64 = instruction(0x95, 0, 0, 0, 0);

const fn set(destination: u8, immediate: i32) -> u64 {
    instruction(0xb7, destination, 0, 0, immediate)
}

/// The program. `struct bpf_cgroup_dev_ctx` holds the access above the kind
/// of device, major and minor.
fn assemble(rules: &[DeviceRule]) -> Vec<u64> {
    const CHARACTER: u32 = 2;
    const KIND: u8 = 2;
    const ACCESS: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    const DENIED: u8 = 6;
    let mut program = std::vec![
        load(KIND, 0),
        // r3 = r2; r3 >>= 16; r2 &= 0xffff
        instruction(0xbf, ACCESS, KIND, 0, 0),
        instruction(0x77, ACCESS, 0, 0, 16),
        instruction(0x57, KIND, 0, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
        // A character device: past the two instructions that deny.
        instruction(0x15, KIND, 0, 2, CHARACTER as i32),
        set(0, 0),
        RETURN,
    ];
    for rule in rules {
        // r6 = r3; r6 &= ~access; if r6 != 0 the next; allow.
        let allow = [
            instruction(0xbf, DENIED, ACCESS, 0, 0),
            instruction(0x57, DENIED, 0, 0, !(rule.access as i32)),
            unless(DENIED, 0, 2),
            set(0, 1),
            RETURN,
        ];
        let length = allow.len() as i16;
        let with_minor = i16::from(rule.minor.is_some());
        program.push(unless(MAJOR, rule.major, length + with_minor));
        if let Some(minor) = rule.minor {
            program.push(unless(MINOR, minor, length));
        }
        program.extend(allow);
    }
    program.push(set(0, 0));
    program.push(RETURN);
    program
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// Runs the program as the kernel does, on one request.
    fn allows(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let word = program[at];
            let (code, destination) = (word as u8, (word >> 8 & 0xf) as usize);
            let source = (word >> 12 & 0xf) as usize;
            let offset = (word >> 16) as u16 as i16;
            let immediate = (word >> 32) as u32 as i32;
            at += 1;
            let jump = |taken: bool| if taken { offset as usize } else { 0 };
            match code {
                0x61 => registers[destination] = u64::from(context[offset as usize / 4]),
                0xbf => registers[destination] = registers[source],
                0x77 => registers[destination] >>= immediate as u32,
                0x57 => registers[destination] &= i64::from(immediate) as u64,
                0xb7 => registers[destination] = i64::from(immediate) as u64,
                0x15 => at += jump(registers[destination] == i64::from(immediate) as u64),
                0x55 => at += jump(registers[destination] != i64::from(immediate) as u64),
                0x95 => return registers[0] == 1,
                other => unreachable!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_a_rule_allows_is_allowed() {
        let rules = [
            DeviceRule {
                major: 1,
                minor: Some(3),
                access: READ | WRITE,
            },
            DeviceRule {
                major: 1,
                minor: Some(3),
                access: MAKE,
            },
            DeviceRule {
                major: 136,
                minor: None,
                access: READ | WRITE,
            },
        ];
        let program = assemble(&rules);
        for kind in [1, 2] {
            for access in 0..8 {
                for major in [0, 1, 2, 136, u32::MAX] {
                    for minor in [0, 3, 4, u32::MAX] {
                        let by_rule = rules.iter().any(|rule| {
                            rule.major == major
                                && rule.minor.is_none_or(|own| own == minor)
                                && access & !rule.access == 0
                        });
                        let wanted = kind == 2 && by_rule;
                        let found = allows(&program, kind, access, major, minor);
                        assert_eq!(found, wanted, "{kind} {access} {major}:{minor}");
                    }
                }
            }
        }
        assert!(!allows(&assemble(&[]), 2, 0, 1, 3));
    }
}
