//! The proof about what runs between clone and exec, from the object code of
//! a final linked binary: everything that the child's entry can reach is
//! decoded, and whatever is not the crate's own is refused.
//!
//! # Holding a [`Walk`] tells you
//! From the entry no symbol outside the crate is reachable but memcpy and
//! memset; no call or jump is left whose target is not known; no instruction
//! on the way aborts, locks memory, enters the kernel by another gate than
//! `syscall`, or runs on past the end of its function.
//!
//! # It does not tell you
//! What memcpy and memset of the C library do (they are taken at their name;
//! a program's own are walked). That the index of a jump table is within its
//! bounds, or that the table ends where its entries leave the function: the
//! compiler is trusted for both. A wait that the crate writes without an
//! atomic instruction looks like any loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

mod embedded;
mod flow;
mod image;
mod library;
mod owner;
mod registers;

pub use embedded::{Embedded, embedded};
pub use library::outside_references;

use flow::Body;
use image::{Image, Symbol, Target};
use registers::Registers;

/// What a walk saw in a binary in which it found no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Address of the entry symbol.
    pub entry: u64,
    /// Functions decoded, the entry included.
    pub functions: usize,
    /// Instructions decoded.
    pub instructions: usize,
    /// `syscall` instructions among them.
    pub system_calls: usize,
    /// Jump tables proven to stay within their function.
    pub jump_tables: usize,
    /// Every symbol that is called or jumped to from the entry on.
    pub calls: BTreeSet<String>,
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {:#x}, {} functions, {} instructions, {} system calls, {} jump tables, {} calls reached",
            self.entry,
            self.functions,
            self.instructions,
            self.system_calls,
            self.jump_tables,
            self.calls.len()
        )?;
        self.calls
            .iter()
            .try_for_each(|call| write!(f, "\n    {call}"))
    }
}

/// Why a binary is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are no file that can be read.
    #[error("cannot be read as an object file")]
    Unreadable(#[from] object::Error),
    /// Another machine's code, or not linked.
    #[error("not a linked x86-64 ELF")]
    Foreign,
    /// A relocation names no symbol where its kind needs one.
    #[error("a relocation names no symbol")]
    Relocation,
    /// No function, or more than one, has the entry's name.
    #[error("{found} functions are named {entry}, not one")]
    Entry {
        /// The name looked for.
        entry: String,
        /// How many there are.
        found: usize,
    },
    /// What the entry reaches is not what it may reach.
    #[error("{}", Listed(.0))]
    Red(Vec<Finding>),
}

/// One fault, and how the entry reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The functions from the entry to the one at fault.
    pub chain: Vec<String>,
    /// Address of the instruction.
    pub at: u64,
    /// What is wrong there.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.chain.join(" -> ");
        match &self.fault {
            Fault::Outside { symbol } => write!(f, "{chain} -> {symbol} (at {:#x})", self.at)?,
            _ => write!(f, "{chain} (at {:#x})", self.at)?,
        }
        write!(f, ": {}", self.fault)
    }
}

/// What is wrong with one instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A symbol that the child must not reach.
    #[error("outside the crate")]
    Outside {
        /// The symbol reached.
        symbol: String,
    },
    /// A call whose target is decided at run time.
    #[error("a call to wherever a register or memory says")]
    IndirectCall,
    /// A jump whose target is decided at run time and by no jump table.
    #[error("a jump to wherever a register or memory says")]
    IndirectJump,
    /// `ud2` or its like: the process dies of a signal.
    #[error("an abort")]
    Abort,
    /// An atomic instruction. The child has memory and thread of its own, so
    /// there is nobody to be atomic against but by mistake.
    #[error("an atomic instruction")]
    Lock,
    /// An instruction that has no place here, as `int` or a far call.
    #[error("another way out than call, jump, return and syscall")]
    Foreign,
    /// Bytes that are no instruction.
    #[error("no instruction")]
    Undecodable,
    /// A call or jump to what is not the start of a known function.
    #[error("leads to {target:#x}, where no function starts")]
    Astray {
        /// Where it leads.
        target: u64,
    },
    /// A function's last instruction goes on to whatever follows it.
    #[error("runs on past the end of its function")]
    RunsOn,
}

struct Listed<'a>(&'a [Finding]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults reached", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|finding| write!(f, "\n    {finding}"))
    }
}

/// Walks all that the function `entry` of a linked ELF can reach, and accepts
/// it if that is `crate_name`'s own code, memcpy and memset.
///
/// # Errors
/// [`Refusal::Red`] with every fault found; the others when the walk could
/// not be made.
pub fn walk(elf: &[u8], entry: &str, crate_name: &str) -> Result<Walk, Refusal> {
    let image = Image::parse(elf)?;
    Walker::new(&image, entry, crate_name)?.run()
}

struct Reached {
    start: u64,
    title: String,
    caller: Option<usize>,
    /// Part of a memory routine, whose helpers are another crate's.
    in_routine: bool,
    body: Body,
}

struct Walker<'i, 'a> {
    image: &'i Image<'a>,
    entry: &'i str,
    crate_name: &'i str,
    reached: Vec<Reached>,
    places: BTreeMap<u64, usize>,
    open: VecDeque<usize>,
    calls: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl<'i, 'a> Walker<'i, 'a> {
    fn new(image: &'i Image<'a>, entry: &'i str, crate_name: &'i str) -> Result<Self, Refusal> {
        let mut walker = Walker {
            image,
            entry,
            crate_name,
            reached: Vec::new(),
            places: BTreeMap::new(),
            open: VecDeque::new(),
            calls: BTreeSet::new(),
            findings: Vec::new(),
        };
        match image.named(entry).as_slice() {
            [start] => walker.enter(*start, entry.to_owned(), None, false),
            several => {
                return Err(Refusal::Entry {
                    entry: entry.to_owned(),
                    found: several.len(),
                });
            }
        }
        Ok(walker)
    }

    fn run(mut self) -> Result<Walk, Refusal> {
        while let Some(place) = self.open.pop_front() {
            self.read(place);
        }
        self.check_last_calls();
        if !self.findings.is_empty() {
            return Err(Refusal::Red(self.findings));
        }
        let bodies = || self.reached.iter().map(|reached| &reached.body);
        Ok(Walk {
            entry: self.reached.first().map_or(0, |first| first.start),
            functions: self.reached.len(),
            instructions: bodies().map(|body| body.instructions).sum(),
            system_calls: bodies().map(|body| body.system_calls).sum(),
            jump_tables: bodies().map(|body| body.tables.len()).sum(),
            calls: self.calls,
        })
    }

    fn enter(&mut self, start: u64, title: String, caller: Option<usize>, in_routine: bool) {
        let place = self.reached.len();
        self.places.insert(start, place);
        self.open.push_back(place);
        self.reached.push(Reached {
            start,
            title,
            caller,
            in_routine,
            body: Body::default(),
        });
    }

    fn read(&mut self, place: usize) {
        let Some(start) = self.reached.get(place).map(|reached| reached.start) else {
            return;
        };
        let symbol = self.image.functions.get(&start);
        // A symbol without a size leaves nothing to decode, which is a fault.
        let code = symbol.and_then(|symbol| self.image.code(start, symbol.size));
        let mut body = flow::read(self.image, start, code.unwrap_or_default());
        for (at, fault) in std::mem::take(&mut body.faults) {
            self.find(place, at, fault);
        }
        for (at, target) in &body.exits {
            if let Err(fault) = self.follow(place, target) {
                self.find(place, *at, fault);
            }
        }
        if let Some(reached) = self.reached.get_mut(place) {
            reached.body = body;
        }
    }

    /// Accepts one way out of a function, and queues where it leads.
    fn follow(&mut self, caller: usize, target: &Target) -> Result<(), Fault> {
        let target = through_stubs(self.image, target);
        let address = match target {
            Target::Import(name) => return self.allow_import(&name),
            Target::Address(address) => address,
        };
        let symbol = self.image.functions.get(&address);
        let symbol = symbol.ok_or(Fault::Astray { target: address })?;
        let in_routine = self.reached.get(caller).is_some_and(|it| it.in_routine);
        let (title, routine) = self.allow(symbol, in_routine)?;
        if symbol.chosen_at_load {
            self.calls.insert(format!("{title} (chosen at load)"));
            return Ok(());
        }
        self.calls.insert(title.clone());
        if !self.places.contains_key(&address) {
            self.enter(address, title, Some(caller), routine || in_routine);
        }
        Ok(())
    }

    fn allow_import(&mut self, name: &str) -> Result<(), Fault> {
        if !owner::MEMORY_ROUTINES.contains(&name) {
            return Err(Fault::Outside {
                symbol: owner::readable(name),
            });
        }
        self.calls.insert(format!("{name} (imported)"));
        Ok(())
    }

    /// The readable name of a symbol that may be reached, and whether it is a
    /// memory routine.
    fn allow(&self, symbol: &Symbol, in_routine: bool) -> Result<(String, bool), Fault> {
        let routine = |name: &&String| owner::MEMORY_ROUTINES.contains(&name.as_str());
        if let Some(name) = symbol.names.iter().find(routine) {
            return Ok((name.clone(), true));
        }
        let own = |name: &&String| {
            let crate_of_it = owner::owner(name);
            let crate_of_it = crate_of_it.as_deref();
            *name == self.entry
                || crate_of_it == Some(self.crate_name)
                || (in_routine && crate_of_it == Some(owner::MEMORY_CRATE))
        };
        match symbol.names.iter().find(own) {
            // What is chosen at load is not in sight, so its name must say all.
            Some(name) if !symbol.chosen_at_load => Ok((owner::readable(name), false)),
            _ => Err(Fault::Outside {
                symbol: symbol
                    .names
                    .first()
                    .map_or_else(String::new, |name| owner::readable(name)),
            }),
        }
    }

    /// A function that ends with a call relies on its never coming back.
    fn check_last_calls(&mut self) {
        let mut found = Vec::new();
        for (place, reached) in self.reached.iter().enumerate() {
            let Some((at, target)) = &reached.body.ends_with else {
                continue;
            };
            let known = match through_stubs(self.image, target) {
                Target::Address(address) => self.places.get(&address),
                Target::Import(_) => None,
            };
            let callee = known.and_then(|place| self.reached.get(*place));
            let refused = self.findings.iter().any(|finding| finding.at == *at);
            if !refused && callee.is_none_or(|callee| callee.body.returns) {
                found.push((place, *at));
            }
        }
        for (place, at) in found {
            self.find(place, at, Fault::RunsOn);
        }
    }

    fn find(&mut self, place: usize, at: u64, fault: Fault) {
        let mut chain = Vec::new();
        let mut next = Some(place);
        while let Some(reached) = next.and_then(|place| self.reached.get(place)) {
            chain.push(reached.title.clone());
            next = reached.caller;
        }
        chain.reverse();
        self.findings.push(Finding { chain, at, fault });
    }
}

/// Where a target leads once linkage stubs are followed.
fn through_stubs(image: &Image<'_>, target: &Target) -> Target {
    let mut target = target.clone();
    // A chosen routine has a stub for its caller and one of its own.
    for _ in 0..2 {
        match behind_stub(image, &target) {
            Some(next) => target = next,
            None => break,
        }
    }
    target
}

/// A linkage stub is at most a branch mark and a jump through a slot.
fn behind_stub(image: &Image<'_>, target: &Target) -> Option<Target> {
    let Target::Address(address) = target else {
        return None;
    };
    let decoder = Decoder::with_ip(64, image.stub(*address)?, *address, DecoderOptions::NONE);
    let jump = decoder
        .into_iter()
        .take(2)
        .find(|instruction| instruction.flow_control() == FlowControl::IndirectBranch)?;
    let slot = Registers::unknown().fixed_address(&jump)?;
    image.slot(slot)
}

#[cfg(test)]
mod tests;
