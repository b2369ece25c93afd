//! One function: every instruction decoded, every way out of it named.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind,
};

use super::Fault;
use super::image::{Image, Target};
use super::registers::{Form, Registers, Table, Value};

/// What was found in one function.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) instructions: usize,
    pub(super) system_calls: usize,
    /// Addresses of the jump tables it uses.
    pub(super) tables: BTreeSet<u64>,
    /// Calls and jumps that leave it: from where, to where.
    pub(super) exits: Vec<(u64, Target)>,
    pub(super) faults: Vec<(u64, Fault)>,
    /// It may come back to its caller.
    pub(super) returns: bool,
    /// It ends with this call, which must therefore never come back.
    pub(super) ends_with: Option<(u64, Target)>,
}

/// Reads the function whose code is `bytes`.
pub(super) fn read(image: &Image<'_>, start: u64, bytes: &[u8]) -> Body {
    let code = Code::decode(image, start, bytes);
    let states = code.states();
    let mut body = Body {
        instructions: code.instructions.len(),
        ..Body::default()
    };
    for (instruction, state) in code.instructions.iter().zip(&states) {
        // Code that no path was seen to reach is read all the same.
        let unknown = Registers::unknown();
        let registers = state.as_ref().unwrap_or(&unknown);
        if let Err(fault) = code.classify(instruction, registers, &mut body) {
            body.faults.push((instruction.ip(), fault));
        }
    }
    code.close(&mut body);
    body
}

struct Code<'i, 'a> {
    image: &'i Image<'a>,
    start: u64,
    end: u64,
    instructions: Vec<Instruction>,
    places: BTreeMap<u64, usize>,
}

impl<'i, 'a> Code<'i, 'a> {
    fn decode(image: &'i Image<'a>, start: u64, bytes: &[u8]) -> Self {
        let decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let instructions: Vec<_> = decoder.into_iter().collect();
        let places = instructions.iter().enumerate();
        Code {
            image,
            start,
            end: start.saturating_add(bytes.len() as u64),
            places: places.map(|(place, found)| (found.ip(), place)).collect(),
            instructions,
        }
    }

    /// The registers before each instruction, joined over all paths to it;
    /// nothing for an instruction that no path reaches.
    fn states(&self) -> Vec<Option<Registers>> {
        let mut factory = InstructionInfoFactory::new();
        let mut states = vec![None; self.instructions.len()];
        let mut open = Vec::new();
        if let Some(first) = states.first_mut() {
            *first = Some(Registers::unknown());
            open.push(0);
        }
        while let Some(place) = open.pop() {
            let Some(instruction) = self.instructions.get(place) else {
                continue;
            };
            let Some(before) = states.get(place).cloned().flatten() else {
                continue;
            };
            let after = before.after(instruction, &mut factory);
            for next in self.followers(place, instruction, &before) {
                let changed = match states.get_mut(next) {
                    Some(Some(known)) => known.join(&after),
                    Some(unseen) => {
                        *unseen = Some(after.clone());
                        true
                    }
                    None => false,
                };
                if changed {
                    open.push(next);
                }
            }
        }
        states
    }

    fn followers(
        &self,
        place: usize,
        instruction: &Instruction,
        registers: &Registers,
    ) -> Vec<usize> {
        let branch = || self.places.get(&instruction.near_branch_target()).copied();
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => vec![place + 1],
            FlowControl::ConditionalBranch => branch().into_iter().chain([place + 1]).collect(),
            FlowControl::UnconditionalBranch => branch().into_iter().collect(),
            FlowControl::IndirectBranch => jump_table(instruction, registers)
                .map(|table| self.cases(table))
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The entries of a table for as long as they are instructions of this
    /// function. Reading past its end only adds paths.
    fn cases(&self, table: Table) -> Vec<usize> {
        let case = |number: u64| -> Option<usize> {
            let target = match table.form {
                Form::Relative => {
                    let entry = table.address.checked_add(number.checked_mul(4)?)?;
                    let distance = i64::from(self.image.constant_i32(entry)?);
                    table.address.checked_add_signed(distance)?
                }
                Form::Absolute => {
                    let entry = table.address.checked_add(number.checked_mul(8)?)?;
                    match self.image.slot(entry)? {
                        Target::Address(address) => address,
                        Target::Import(_) => return None,
                    }
                }
            };
            self.places.get(&target).copied()
        };
        (0..).map_while(case).collect()
    }

    fn classify(
        &self,
        instruction: &Instruction,
        registers: &Registers,
        body: &mut Body,
    ) -> Result<(), Fault> {
        if instruction.is_invalid() {
            return Err(Fault::Undecodable);
        }
        let swaps_memory = instruction.mnemonic() == Mnemonic::Xchg
            && (instruction.op0_kind() == OpKind::Memory
                || instruction.op1_kind() == OpKind::Memory);
        if instruction.has_lock_prefix() || swaps_memory {
            return Err(Fault::Lock);
        }
        let at = instruction.ip();
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call if instruction.mnemonic() == Mnemonic::Syscall => {
                body.system_calls += 1;
            }
            FlowControl::Call if near(instruction) => {
                let target = Target::Address(instruction.near_branch_target());
                body.exits.push((at, target));
            }
            FlowControl::IndirectCall => {
                let target = self.resolve(instruction, registers);
                body.exits.push((at, target.ok_or(Fault::IndirectCall)?));
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if near(instruction) =>
            {
                self.branch(instruction, body)?;
            }
            FlowControl::IndirectBranch => self.indirect_jump(instruction, registers, body)?,
            FlowControl::Return if instruction.mnemonic() == Mnemonic::Ret => body.returns = true,
            FlowControl::Exception => return Err(Fault::Abort),
            _ => return Err(Fault::Foreign),
        }
        Ok(())
    }

    fn branch(&self, instruction: &Instruction, body: &mut Body) -> Result<(), Fault> {
        let target = instruction.near_branch_target();
        if !(self.start..self.end).contains(&target) {
            body.returns = true;
            body.exits.push((instruction.ip(), Target::Address(target)));
        } else if !self.places.contains_key(&target) {
            return Err(Fault::Astray { target });
        }
        Ok(())
    }

    fn indirect_jump(
        &self,
        instruction: &Instruction,
        registers: &Registers,
        body: &mut Body,
    ) -> Result<(), Fault> {
        if let Some(target) = self.resolve(instruction, registers) {
            body.returns = true;
            body.exits.push((instruction.ip(), target));
            return Ok(());
        }
        let table = jump_table(instruction, registers).ok_or(Fault::IndirectJump)?;
        // One entry is no table: a compiler would have made a plain jump.
        if self.cases(table).len() < 2 {
            return Err(Fault::IndirectJump);
        }
        body.tables.insert(table.address);
        Ok(())
    }

    /// The one place an indirect call or jump can lead to.
    fn resolve(&self, instruction: &Instruction, registers: &Registers) -> Option<Target> {
        if instruction.op0_kind() == OpKind::Memory {
            return self.image.slot(registers.fixed_address(instruction)?);
        }
        match registers.value(instruction.op0_register()) {
            Value::Constant(address) => Some(Target::Address(address)),
            Value::Loaded(slot) => self.image.slot(slot),
            _ => None,
        }
    }

    /// Whether the code can run on past its own end.
    fn close(&self, body: &mut Body) {
        let Some(last) = self.instructions.last() else {
            body.faults.push((self.start, Fault::Undecodable));
            return;
        };
        let calls = matches!(
            last.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        let runs_on = matches!(
            last.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        );
        if runs_on || last.mnemonic() == Mnemonic::Syscall {
            body.faults.push((last.ip(), Fault::RunsOn));
        } else if calls {
            let at = last.ip();
            body.ends_with = body.exits.last().filter(|exit| exit.0 == at).cloned();
        }
    }
}

/// The table that an indirect jump goes through.
fn jump_table(instruction: &Instruction, registers: &Registers) -> Option<Table> {
    if instruction.op0_kind() == OpKind::Memory {
        return registers.picked_table(instruction, Form::Absolute);
    }
    match registers.value(instruction.op0_register()) {
        Value::Case(table) => Some(table),
        _ => None,
    }
}

fn near(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::NearBranch64
}
