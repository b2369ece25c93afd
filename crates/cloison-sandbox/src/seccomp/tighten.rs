//! Makes seccompiler's output shorter without changing what it answers.
//!
//! The kernel checks, converts and compiles each instruction at every launch:
//! that is most of what installing a filter costs. seccompiler puts two jumps
//! before each rule, loads an argument anew for each comparison and ends each
//! rule with an answer of its own. Here jumps to jumps are threaded, equal
//! answers shared, repeated loads and unreachable instructions dropped. A test
//! compares with the program as it came.

use super::tree::{JUMP, JUMP_AT_LEAST, JUMP_EQUAL, LOAD, RETURN};
use super::{Instruction, Program};

const AND: u16 = 0x54;
const JUMP_GREATER: u16 = 0x25;
/// What a branch can skip.
const REACH: usize = u8::MAX as usize;

/// The same program, shorter; as it is if it holds an instruction or a jump
/// that is not understood.
pub(super) fn tighten(program: Program) -> Program {
    shorter(&program).unwrap_or(program)
}

fn shorter(program: &[Instruction]) -> Option<Program> {
    let mut steps = decode(program)?;
    drop_repeated_loads(&mut steps)?;
    thread(&mut steps)?;
    encode(&steps)
}

/// An instruction whose targets are places in the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Load(u32),
    And(u32),
    Jump(usize),
    Branch(Branch),
    Return(u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Branch {
    code: u16,
    k: u32,
    holds: usize,
    fails: usize,
}

impl Step {
    fn successors(self, place: usize) -> [Option<usize>; 2] {
        match self {
            Self::Load(_) | Self::And(_) => [Some(place + 1), None],
            Self::Jump(target) => [Some(target), None],
            Self::Branch(branch) => [Some(branch.holds), Some(branch.fails)],
            Self::Return(_) => [None, None],
        }
    }
}

fn decode(program: &[Instruction]) -> Option<Vec<Step>> {
    program
        .iter()
        .enumerate()
        .map(|(place, one)| match one.code {
            LOAD => Some(Step::Load(one.k)),
            AND => Some(Step::And(one.k)),
            RETURN => Some(Step::Return(one.k)),
            JUMP => Some(Step::Jump(place + 1 + one.k as usize)),
            JUMP_EQUAL | JUMP_AT_LEAST | JUMP_GREATER => Some(Step::Branch(Branch {
                code: one.code,
                k: one.k,
                holds: place + 1 + usize::from(one.jt),
                fails: place + 1 + usize::from(one.jf),
            })),
            _ => None,
        })
        .collect()
}

/// What the accumulator holds before a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// No step leads here.
    Unreached,
    /// The word at this offset, on every way that leads here.
    Word(u32),
    Unknown,
}

/// Replaces a load of what is already held by a jump to the next step.
fn drop_repeated_loads(steps: &mut [Step]) -> Option<()> {
    let mut before = vec![Held::Unreached; steps.len()];
    *before.first_mut()? = Held::Unknown;
    // Jumps only go forward: one pass sees all that leads to a step before it.
    for (place, step) in steps.iter_mut().enumerate() {
        let held = *before.get(place)?;
        if held == Held::Unreached {
            continue;
        }
        let after = match *step {
            Step::Load(offset) => {
                if held == Held::Word(offset) {
                    *step = Step::Jump(place + 1);
                }
                Held::Word(offset)
            }
            Step::And(_) => Held::Unknown,
            _ => held,
        };
        for successor in step.successors(place).into_iter().flatten() {
            let joined = before.get_mut(successor)?;
            *joined = match *joined {
                Held::Unreached => after,
                known if known == after => after,
                _ => Held::Unknown,
            };
        }
    }
    Some(())
}

/// Leads each branch past jumps, and to the last equal answer in its reach, so
/// that earlier ones are no longer reached.
fn thread(steps: &mut [Step]) -> Option<()> {
    for place in 0..steps.len() {
        let threaded = match *steps.get(place)? {
            Step::Jump(target) => match end_of(steps, target)? {
                (_, Step::Return(answer)) => Step::Return(answer),
                (end, _) => Step::Jump(end),
            },
            Step::Branch(branch) => Step::Branch(Branch {
                holds: in_reach(steps, place, branch.holds)?,
                fails: in_reach(steps, place, branch.fails)?,
                ..branch
            }),
            other => other,
        };
        *steps.get_mut(place)? = threaded;
    }
    Some(())
}

/// The first step from `target` on that is no jump.
fn end_of(steps: &[Step], mut target: usize) -> Option<(usize, Step)> {
    loop {
        match *steps.get(target)? {
            Step::Jump(next) if next > target => target = next,
            Step::Jump(_) => return None,
            step => return Some((target, step)),
        }
    }
}

fn in_reach(steps: &[Step], place: usize, target: usize) -> Option<usize> {
    let (end, step) = end_of(steps, target)?;
    let last = (place + 1 + REACH).min(steps.len().checked_sub(1)?);
    if let Step::Return(_) = step {
        let shared = (place + 1..=last)
            .rev()
            .find(|at| steps.get(*at) == Some(&step));
        return Some(shared.unwrap_or(target));
    }
    Some(if end <= last { end } else { target })
}

/// Writes the steps that are reached; distances can only have become shorter.
fn encode(steps: &[Step]) -> Option<Program> {
    let mut reached = vec![false; steps.len()];
    *reached.first_mut()? = true;
    for (place, step) in steps.iter().enumerate() {
        if *reached.get(place)? {
            for successor in step.successors(place).into_iter().flatten() {
                *reached.get_mut(successor)? = true;
            }
        }
    }
    let kept = |place: &usize| {
        let falls_through = steps.get(*place) == Some(&Step::Jump(*place + 1));
        reached.get(*place) == Some(&true) && !falls_through
    };
    let mut new_place = Vec::with_capacity(steps.len());
    let mut length = 0_usize;
    for place in 0..steps.len() {
        new_place.push(length);
        length += usize::from(kept(&place));
    }
    (0..steps.len())
        .filter(kept)
        .map(|place| {
            let skip = |target: usize| {
                let from = new_place.get(place)? + 1;
                new_place.get(target)?.checked_sub(from)
            };
            let plain = |code, k| Instruction {
                code,
                jt: 0,
                jf: 0,
                k,
            };
            Some(match *steps.get(place)? {
                Step::Load(offset) => plain(LOAD, offset),
                Step::And(mask) => plain(AND, mask),
                Step::Return(answer) => plain(RETURN, answer),
                Step::Jump(target) => plain(JUMP, u32::try_from(skip(target)?).ok()?),
                Step::Branch(branch) => Instruction {
                    code: branch.code,
                    jt: u8::try_from(skip(branch.holds)?).ok()?,
                    jf: u8::try_from(skip(branch.fails)?).ok()?,
                    k: branch.k,
                },
            })
        })
        .collect()
}
