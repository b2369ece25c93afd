//! A small interpreter of filter programs, for tests.

use super::{Filters, Instruction};

/// What the kernel shows to a filter.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0x1234_5678,
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                }
            }
        }
    }
}

/// Runs one program; the second value tells whether it only used what the
/// kernel evaluates when a filter is installed.
pub(super) fn run(program: &[Instruction], call: Call) -> (u32, bool) {
    let (mut accumulator, mut at, mut constant) = (0_u32, 0_usize, true);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let skip = |holds| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => {
                constant &= k == 0 || k == 4;
                accumulator = call.word(k);
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += skip(accumulator == k),
            0x25 => at += skip(accumulator > k),
            0x35 => at += skip(accumulator >= k),
            0x45 => at += skip(accumulator & k != 0),
            0x06 => return (k, constant),
            other => panic!("instruction {other:#x} at {}", at - 1),
        }
    }
}

/// The kernel's answer over all programs: the strictest, and between equals
/// the one installed last.
pub(super) fn answer(filters: &Filters, call: Call) -> u32 {
    let action = |answer: u32| (answer & 0xffff_0000) as i32;
    let mut strictest = 0x7fff_0000;
    for program in filters.programs.iter().rev() {
        let (found, _) = run(program, call);
        if action(found) < action(strictest) {
            strictest = found;
        }
    }
    strictest
}
