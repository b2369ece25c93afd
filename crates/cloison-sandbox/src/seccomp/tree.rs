//! An assembler for one shape of program: a binary tree over ranges of numbers.
//!
//! Written back to front, so that each jump's target is known when the jump is
//! written. A jump reaches 255 instructions; further ones go over `JA`.

use super::{Instruction, Program, Verdict};

pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

pub(super) const NUMBER_OFFSET: u32 = 0;
pub(super) const ARCHITECTURE_OFFSET: u32 = 4;
pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// What the kernel reads as this verdict.
pub(super) fn return_value(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => RETURN_ALLOW,
        Verdict::Deny => RETURN_ERRNO | nix::libc::EPERM as u32,
        Verdict::Absent => RETURN_ERRNO | nix::libc::ENOSYS as u32,
        Verdict::Kill => RETURN_KILL_PROCESS,
    }
}

/// The program that answers by architecture and number.
///
/// `ranges` holds the first number of each range, ascending from 0.
pub(super) fn compile(ranges: &[(u32, Verdict)], foreign: Verdict) -> Program {
    let mut assembler = Assembler::default();
    let native = assembler.tree(ranges);
    assembler.fall_into(native);
    let native = assembler.load(NUMBER_OFFSET);
    let foreign = assembler.answer(foreign);
    let start = assembler.branch(JUMP_EQUAL, AUDIT_ARCH_X86_64, native, foreign);
    assembler.fall_into(start);
    assembler.load(ARCHITECTURE_OFFSET);
    assembler.reversed.reverse();
    assembler.reversed
}

/// An instruction's distance from the end of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(usize);

#[derive(Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    answers: Vec<(Verdict, Place)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.reversed.push(Instruction { code, jt, jf, k });
        Place(self.reversed.len() - 1)
    }

    /// Instructions that the next one skips to reach `target`.
    fn distance(&self, target: Place) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn load(&mut self, offset: u32) -> Place {
        self.push(LOAD, 0, 0, offset)
    }

    /// Makes the next instruction continue at `target`.
    fn fall_into(&mut self, target: Place) {
        let distance = self.distance(target);
        if distance > 0 {
            self.push(JUMP, 0, 0, distance as u32);
        }
    }

    /// The answer's instruction, one in reach if there is one.
    fn answer(&mut self, verdict: Verdict) -> Place {
        // Two less than a jump's reach: the branch and a detour come between.
        let near = self
            .answers
            .iter()
            .rev()
            .find(|(known, place)| *known == verdict && self.distance(*place) <= 250);
        if let Some((_, place)) = near {
            return *place;
        }
        let place = self.push(RETURN, 0, 0, return_value(verdict));
        self.answers.push((verdict, place));
        place
    }

    /// A place that a branch written next, or one later, reaches with 8 bits.
    fn near(&mut self, target: Place) -> Place {
        let distance = self.distance(target);
        if distance < usize::from(u8::MAX) {
            return target;
        }
        self.push(JUMP, 0, 0, distance as u32)
    }

    fn branch(&mut self, code: u16, k: u32, holds: Place, fails: Place) -> Place {
        let holds = self.near(holds);
        let fails = self.near(fails);
        let jt = self.distance(holds) as u8;
        let jf = self.distance(fails) as u8;
        self.push(code, jt, jf, k)
    }

    fn tree(&mut self, ranges: &[(u32, Verdict)]) -> Place {
        let middle = ranges.len() / 2;
        match ranges {
            [] => self.answer(Verdict::Kill),
            [(_, verdict)] => self.answer(*verdict),
            _ => {
                let (below, above) = ranges.split_at(middle);
                let pivot = above.first().map_or(0, |(first, _)| *first);
                let above = self.tree(above);
                let below = self.tree(below);
                self.branch(JUMP_AT_LEAST, pivot, above, below)
            }
        }
    }
}
