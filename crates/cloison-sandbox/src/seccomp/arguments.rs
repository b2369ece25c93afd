//! The program over arguments, made by seccompiler.
//!
//! It stands behind the tree, which leads only calls that have rules to it:
//! seccompiler compares a number with each of them in turn, and the kernel
//! would walk that chain for every number when the filter is installed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::tighten::tighten;
use super::{Comparison, Condition, Instruction, ProfileError, Program, Rule};

/// seccompiler's form of the rules over each call.
pub(super) type ByCall = BTreeMap<i64, Vec<SeccompRule>>;

/// The rules by the number of the call they look at.
pub(super) fn by_call(rules: &[&Rule]) -> Result<ByCall, ProfileError> {
    let mut by_call = ByCall::new();
    for rule in rules {
        for call in rule.calls {
            let chain = by_call.entry(i64::from(*call)).or_default();
            for conditions in rule.any {
                let all: Result<Vec<_>, _> = conditions.iter().map(condition).collect();
                chain.push(SeccompRule::new(all?)?);
            }
        }
    }
    Ok(by_call)
}

/// The program that denies what matches a rule and allows all else.
pub(super) fn compile(rules: ByCall) -> Result<Program, ProfileError> {
    Ok(tighten(as_it_comes(rules)?))
}

/// The program as seccompiler writes it.
pub(super) fn as_it_comes(rules: ByCall) -> Result<Program, ProfileError> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(nix::libc::EPERM as u32),
        TargetArch::x86_64,
    )?;
    let program = BpfProgram::try_from(filter)?;
    Ok(program.iter().map(Instruction::from).collect())
}

impl From<&seccompiler::sock_filter> for Instruction {
    fn from(instruction: &seccompiler::sock_filter) -> Self {
        Self {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: instruction.k,
        }
    }
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
