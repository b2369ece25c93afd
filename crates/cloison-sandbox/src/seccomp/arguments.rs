//! The program over arguments, made by seccompiler.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::tree::{ARCHITECTURE_OFFSET, AUDIT_ARCH_X86_64, JUMP_EQUAL, LOAD, RETURN, return_value};
use super::{Comparison, Condition, Instruction, ProfileError, Program, Rule, Verdict};

/// The program that denies what matches a rule and allows all else.
pub(super) fn compile(rules: &[&Rule], foreign: Verdict) -> Result<Program, ProfileError> {
    let mut by_call: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        for call in rule.calls {
            let chain = by_call.entry(i64::from(*call)).or_default();
            for conditions in rule.any {
                let all: Result<Vec<_>, _> = conditions.iter().map(condition).collect();
                chain.push(SeccompRule::new(all?)?);
            }
        }
    }
    let filter = SeccompFilter::new(
        by_call,
        SeccompAction::Allow,
        SeccompAction::Errno(nix::libc::EPERM as u32),
        TargetArch::x86_64,
    )?;
    let compiled = BpfProgram::try_from(filter)?;
    let mut program = Program::with_capacity(compiled.len() + 3);
    if foreign != Verdict::Kill {
        // seccompiler's program kills foreign architectures: answer before it.
        program.extend(before_architecture_check(foreign));
    }
    program.extend(compiled.iter().map(|instruction| Instruction {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: instruction.k,
    }));
    Ok(program)
}

fn before_architecture_check(foreign: Verdict) -> [Instruction; 3] {
    let plain = |code, jt, k| Instruction { code, jt, jf: 0, k };
    [
        plain(LOAD, 0, ARCHITECTURE_OFFSET),
        plain(JUMP_EQUAL, 1, AUDIT_ARCH_X86_64),
        plain(RETURN, 0, return_value(foreign)),
    ]
}

fn condition(condition: &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = match condition.comparison {
        Comparison::Equal => SeccompCmpOp::Eq,
        Comparison::NotEqual => SeccompCmpOp::Ne,
        Comparison::AtLeast => SeccompCmpOp::Ge,
        Comparison::AtMost => SeccompCmpOp::Le,
        Comparison::Masked(mask) => SeccompCmpOp::MaskedEq(u64::from(mask)),
    };
    SeccompCondition::new(
        condition.argument,
        SeccompCmpArgLen::Dword,
        operator,
        u64::from(condition.value),
    )
}
