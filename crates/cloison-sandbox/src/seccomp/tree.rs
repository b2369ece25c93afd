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

/// Where a number leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// To an answer.
    Answer(Verdict),
    /// To the instruction behind the program.
    Behind,
}

/// The program that answers by architecture and number.
///
/// `ranges` holds the first number of each range, ascending from 0.
pub(super) fn compile(ranges: &[(u32, Leaf)], foreign: Verdict) -> Program {
    let mut assembler = Assembler::starting_behind();
    let native = assembler.tree(ranges);
    assembler.fall_into(native);
    let native = assembler.load(NUMBER_OFFSET);
    let foreign = assembler.leaf(Leaf::Answer(foreign));
    let start = assembler.branch(JUMP_EQUAL, AUDIT_ARCH_X86_64, native, foreign);
    assembler.fall_into(start);
    assembler.load(ARCHITECTURE_OFFSET);
    assembler.finish()
}

/// The shortest list of ranges: neighbours with the same leaf become one.
pub(super) fn merge(leaves: impl Iterator<Item = (u32, Leaf)>) -> Vec<(u32, Leaf)> {
    let mut ranges: Vec<(u32, Leaf)> = Vec::with_capacity(128);
    for (first, leaf) in leaves {
        if ranges.last().is_none_or(|(_, last)| *last != leaf) {
            ranges.push((first, leaf));
        }
    }
    ranges
}

/// An instruction's distance from the end of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(usize);

/// The instruction behind the program, while it is written.
const BEHIND: Place = Place(0);

struct Assembler {
    reversed: Program,
    leaves: Vec<(Leaf, Place)>,
}

impl Assembler {
    fn starting_behind() -> Self {
        let stand_in = Instruction {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: 0,
        };
        Self {
            reversed: vec![stand_in],
            leaves: vec![(Leaf::Behind, BEHIND)],
        }
    }

    fn finish(mut self) -> Program {
        self.reversed.reverse();
        self.reversed.pop();
        self.reversed
    }

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

    /// The leaf's instruction, one in reach if there is one.
    fn leaf(&mut self, leaf: Leaf) -> Place {
        let last = self.leaves.iter().rev().find(|(known, _)| *known == leaf);
        if let Some((_, place)) = last
            && self.distance(*place) < usize::from(u8::MAX)
        {
            return *place;
        }
        let place = match leaf {
            Leaf::Answer(verdict) => self.push(RETURN, 0, 0, return_value(verdict)),
            Leaf::Behind => self.push(JUMP, 0, 0, self.distance(BEHIND) as u32),
        };
        self.leaves.push((leaf, place));
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

    fn tree(&mut self, ranges: &[(u32, Leaf)]) -> Place {
        match ranges {
            [] => self.leaf(Leaf::Answer(Verdict::Kill)),
            [(_, leaf)] => self.leaf(*leaf),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let pivot = above.first().map_or(0, |(first, _)| *first);
                let above = self.tree(above);
                let below = self.tree(below);
                self.branch(JUMP_AT_LEAST, pivot, above, below)
            }
        }
    }
}
