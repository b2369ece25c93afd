//! What the sixteen registers are known to hold: just enough to follow an
//! address from where it is formed to the call or jump that uses it.

use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// How a jump table names its cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 32-bit distances from the table itself.
    Relative,
    /// 64-bit addresses.
    Absolute,
}

/// A place in constant memory that is read as a jump table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) address: u64,
    pub(super) form: Form,
}

/// What one register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Unknown,
    Constant(u64),
    /// The eight bytes at this address.
    Loaded(u64),
    /// Some entry of the relative table at this address, sign-extended.
    Distance(u64),
    /// The address of some case of this table.
    Case(Table),
}

/// The registers before one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registers([Value; 16]);

const LOST_IN_CALLS: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

impl Registers {
    /// Nothing known, as at the start of a function.
    pub(super) fn unknown() -> Self {
        Registers([Value::Unknown; 16])
    }

    /// Keeps what both agree on. True if that is less than before.
    pub(super) fn join(&mut self, other: &Registers) -> bool {
        let before = self.clone();
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            if mine != theirs {
                *mine = Value::Unknown;
            }
        }
        *self != before
    }

    pub(super) fn value(&self, register: Register) -> Value {
        let wide = register.is_gpr64();
        let known = self.0.get(register.number()).filter(|_| wide);
        known.copied().unwrap_or(Value::Unknown)
    }

    /// The address of a memory operand that is the same each time.
    pub(super) fn fixed_address(&self, instruction: &Instruction) -> Option<u64> {
        if relative_to_thread(instruction) || instruction.memory_index() != Register::None {
            return None;
        }
        if instruction.is_ip_rel_memory_operand() {
            return Some(instruction.ip_rel_memory_address());
        }
        let displacement = instruction.memory_displacement64();
        match (
            instruction.memory_base(),
            self.value(instruction.memory_base()),
        ) {
            (Register::None, _) => Some(displacement),
            (_, Value::Constant(base)) => Some(base.wrapping_add(displacement)),
            _ => None,
        }
    }

    /// The table that a memory operand picks an entry of.
    pub(super) fn picked_table(&self, instruction: &Instruction, form: Form) -> Option<Table> {
        let width = match form {
            Form::Relative => 4,
            Form::Absolute => 8,
        };
        let indexed = instruction.memory_index() != Register::None
            && instruction.memory_index_scale() == width;
        if relative_to_thread(instruction) || !indexed {
            return None;
        }
        let displacement = instruction.memory_displacement64();
        let address = match (
            instruction.memory_base(),
            self.value(instruction.memory_base()),
        ) {
            (Register::None, _) => displacement,
            (_, Value::Constant(base)) => base.wrapping_add(displacement),
            _ => return None,
        };
        Some(Table { address, form })
    }

    /// The registers after an instruction.
    pub(super) fn after(
        &self,
        instruction: &Instruction,
        factory: &mut InstructionInfoFactory,
    ) -> Registers {
        let mut after = self.clone();
        for used in factory.info(instruction).used_registers() {
            let written = !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if written {
                after.set(used.register().full_register(), Value::Unknown);
            }
        }
        let lost: &[Register] = match instruction.mnemonic() {
            Mnemonic::Call => &LOST_IN_CALLS,
            Mnemonic::Syscall => &[Register::RAX, Register::RCX, Register::R11],
            _ => &[],
        };
        for register in lost {
            after.set(*register, Value::Unknown);
        }
        if let Some(known) = self.result(instruction) {
            after.set(instruction.op0_register(), known);
        }
        after
    }

    fn set(&mut self, register: Register, value: Value) {
        if !register.is_gpr64() {
            return;
        }
        if let Some(held) = self.0.get_mut(register.number()) {
            *held = value;
        }
    }

    /// What an instruction leaves in its first operand, where that is one of
    /// the few ways in which addresses are formed.
    fn result(&self, instruction: &Instruction) -> Option<Value> {
        if instruction.op0_kind() != OpKind::Register {
            return None;
        }
        let source = instruction.op1_register();
        match (instruction.code(), instruction.op1_kind()) {
            (Code::Lea_r64_m, _) => self.formed_address(instruction),
            (Code::Mov_r64_rm64 | Code::Mov_rm64_r64, OpKind::Register) => Some(self.value(source)),
            (Code::Mov_r64_rm64, OpKind::Memory) => self.loaded(instruction),
            (Code::Movsxd_r64_rm32, OpKind::Memory) => {
                let table = self.picked_table(instruction, Form::Relative)?;
                Some(Value::Distance(table.address))
            }
            (Code::Add_r64_rm64 | Code::Add_rm64_r64, OpKind::Register) => {
                sum(self.value(instruction.op0_register()), self.value(source))
            }
            (Code::Mov_r64_imm64 | Code::Mov_rm64_imm32, _) => {
                Some(Value::Constant(instruction.immediate(1)))
            }
            _ => None,
        }
    }

    fn formed_address(&self, instruction: &Instruction) -> Option<Value> {
        if let Some(address) = self.fixed_address(instruction) {
            return Some(Value::Constant(address));
        }
        let bare_sum =
            instruction.memory_index_scale() == 1 && instruction.memory_displacement64() == 0;
        let base = self.value(instruction.memory_base());
        let index = self.value(instruction.memory_index());
        bare_sum.then(|| sum(base, index)).flatten()
    }

    fn loaded(&self, instruction: &Instruction) -> Option<Value> {
        if let Some(address) = self.fixed_address(instruction) {
            return Some(Value::Loaded(address));
        }
        self.picked_table(instruction, Form::Absolute)
            .map(Value::Case)
    }
}

fn sum(left: Value, right: Value) -> Option<Value> {
    match (left, right) {
        (Value::Distance(table), Value::Constant(base))
        | (Value::Constant(base), Value::Distance(table))
            if table == base =>
        {
            Some(Value::Case(Table {
                address: table,
                form: Form::Relative,
            }))
        }
        _ => None,
    }
}

/// FS and GS address the thread's own memory, never a table of the file.
fn relative_to_thread(instruction: &Instruction) -> bool {
    matches!(instruction.segment_prefix(), Register::FS | Register::GS)
}
