//! What installing the seccomp programs costs: a child that installs them
//! between two reports, against one that does not.

use std::error::Error;
use std::time::Instant;

use cloison_linux::steps::Op;
use cloison_sandbox::seccomp::{Filters, Profile};

use crate::block::{Block, Running};
use crate::measure::Timed;

/// A child that reports, waits, installs, reports.
pub(crate) struct Install {
    block: Vec<u64>,
}

impl Install {
    pub(crate) fn of(filters: &Filters) -> Self {
        let mut block = Block::default();
        block.push(Op::SetNoNewPrivs, []);
        block.push(Op::Report, []);
        block.push(Op::Wait, []);
        for program in &filters.programs {
            let words = block.words(program.iter().map(|instruction| {
                u64::from(instruction.code)
                    | u64::from(instruction.jt) << 16
                    | u64::from(instruction.jf) << 24
                    | u64::from(instruction.k) << 32
            }));
            let count = program.len() as u64;
            block.push(Op::InstallFilter, [words, count.into()]);
        }
        block.push(Op::Report, []);
        block.push(Op::Exit, []);
        Self {
            block: block.finish(0, None, 0),
        }
    }

    pub(crate) fn app() -> Result<Self, Box<dyn Error>> {
        Ok(Self::of(&Profile::app().compile()?))
    }

    pub(crate) fn nothing() -> Self {
        Self::of(&Filters {
            programs: Vec::new(),
        })
    }

    pub(crate) fn launch(&self) -> Timed {
        let running = Running::start(&self.block, &[])?;
        running.reported()?;
        let begun = Instant::now();
        running.go_on()?;
        running.reported()?;
        let time = begun.elapsed();
        running.ended()?;
        Ok(time)
    }
}
