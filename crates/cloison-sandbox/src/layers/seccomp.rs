//! The seccomp programs: last, because the child needs only to report, wait
//! and execute after them.

use std::borrow::Cow;
use std::sync::LazyLock;

use cloison_linux::steps::Op;

use crate::Layer;
use crate::error::Error;
use crate::plan::Composition;
use crate::seccomp::{Filters, Instruction, Profile};

/// Adds the programs, in the order in which they must be installed; gives
/// how many there are.
pub(crate) fn steps(
    composition: &mut Composition<'_>,
    other: Option<Filters>,
) -> Result<usize, Error> {
    if !composition.applies(Layer::Seccomp) {
        return Ok(0);
    }
    let filters = match (other, &*APP) {
        (Some(filters), _) => Cow::Owned(filters),
        (None, Some(filters)) => Cow::Borrowed(filters),
        (None, None) => Cow::Owned(Profile::app().compile()?),
    };
    for program in &filters.programs {
        let count = program.len() as u64;
        let words = composition.list.words(program.iter().map(word));
        composition.list.push(
            Layer::Seccomp,
            Op::InstallFilter,
            [words.into(), count.into()],
        );
    }
    Ok(filters.programs.len())
}

/// What `app` compiles to: always the same, and more work than all other
/// thinking of a plan. A constant, but for what a const function may call.
static APP: LazyLock<Option<Filters>> = LazyLock::new(|| Profile::app().compile().ok());

/// One instruction as struct sock_filter lays it out.
fn word(instruction: &Instruction) -> u64 {
    u64::from(instruction.code)
        | u64::from(instruction.jt) << 16
        | u64::from(instruction.jf) << 24
        | u64::from(instruction.k) << 32
}
