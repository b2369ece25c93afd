//! Writing the block of steps that a child runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::steps::{END, Header, MAGIC, NONE, Op, Step};

use crate::Layer;

/// A descriptor that goes with a block, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

/// A place in the data of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data(u64);

/// An argument of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Number(u64),
    Slot(Slot),
    Data(Data),
}

impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Slot> for Argument {
    fn from(slot: Slot) -> Self {
        Self::Slot(slot)
    }
}

impl From<Data> for Argument {
    fn from(data: Data) -> Self {
        Self::Data(data)
    }
}

/// One step, as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) layer: Option<Layer>,
    pub(crate) op: Op,
    pub(crate) arguments: [Argument; 5],
}

/// A descriptor of a block: the plan's own, or one of what was made
/// beforehand and is used again.
#[derive(Debug)]
pub(crate) enum Descriptor {
    Owned(OwnedFd),
    UserNamespace,
    NetworkNamespace,
    /// The way into the cgroup in the n-th hierarchy.
    Cgroup(usize),
    /// The socket on which the init listens.
    ExecListener,
}

/// A block of steps while it is written.
#[derive(Debug, Default)]
pub(crate) struct StepList {
    pub(crate) clone_flags: u64,
    pub(crate) cgroup: Option<Slot>,
    steps: Vec<Planned>,
    data: Vec<u8>,
    /// Where in the data an offset into the data stands.
    offsets: Vec<usize>,
    descriptors: Vec<Descriptor>,
    /// The trees that the spec asks for, and their targets.
    asked: Vec<(Slot, String)>,
}

impl StepList {
    /// An empty one for a child that is made with these flags.
    pub(crate) fn new(clone_flags: u64) -> Self {
        Self {
            clone_flags,
            ..Self::default()
        }
    }

    /// Adds a step.
    pub(crate) fn push<const N: usize>(
        &mut self,
        layer: impl Into<Option<Layer>>,
        op: Op,
        arguments: [Argument; N],
    ) {
        let mut all = [Argument::Number(0); 5];
        for (place, argument) in all.iter_mut().zip(arguments) {
            *place = argument;
        }
        self.steps.push(Planned {
            layer: layer.into(),
            op,
            arguments: all,
        });
    }

    /// Adds a descriptor.
    pub(crate) fn descriptor(&mut self, descriptor: Descriptor) -> Slot {
        self.descriptors.push(descriptor);
        Slot(self.descriptors.len() as u64 - 1)
    }

    /// Adds a descriptor of the plan's own.
    pub(crate) fn own(&mut self, descriptor: OwnedFd) -> Slot {
        self.descriptor(Descriptor::Owned(descriptor))
    }

    /// Notes that the spec asks for the tree in `slot` on `target`.
    pub(crate) fn note_asked(&mut self, slot: Slot, target: &str) {
        self.asked.push((slot, target.to_owned()));
    }

    /// The target of a step that attaches what the spec asks for.
    pub(crate) fn asked_target(&self, step: &Planned) -> Option<&str> {
        let [Argument::Slot(slot), ..] = step.arguments else {
            return None;
        };
        let mut asked = self.asked.iter();
        let (_, target) = asked.find(|(asked, _)| *asked == slot)?;
        (step.op == Op::Attach).then_some(target.as_str())
    }

    /// Adds a string, which holds no NUL.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Data {
        let place = Data(self.data.len() as u64);
        self.data.extend_from_slice(text.as_ref());
        self.data.push(0);
        place
    }

    /// Adds a list of strings.
    pub(crate) fn list<T: AsRef<[u8]>>(&mut self, texts: impl IntoIterator<Item = T>) -> Data {
        let texts: Vec<Data> = texts.into_iter().map(|text| self.text(text)).collect();
        let place = self.align();
        for Data(offset) in texts {
            self.offsets.push(self.data.len());
            self.data.extend_from_slice(&offset.to_ne_bytes());
        }
        self.data.extend_from_slice(&END.to_ne_bytes());
        place
    }

    /// Adds words.
    pub(crate) fn words(&mut self, words: impl IntoIterator<Item = u64>) -> Data {
        let place = self.align();
        for word in words {
            self.data.extend_from_slice(&word.to_ne_bytes());
        }
        place
    }

    /// Adds the places of descriptors, as words.
    pub(crate) fn slots(&mut self, slots: impl IntoIterator<Item = Slot>) -> Data {
        self.words(slots.into_iter().map(|Slot(slot)| slot))
    }

    fn align(&mut self) -> Data {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        Data(self.data.len() as u64)
    }

    /// The steps, in order.
    pub(crate) fn steps(&self) -> &[Planned] {
        &self.steps
    }

    /// The steps, to break them.
    pub(crate) fn steps_mut(&mut self) -> &mut Vec<Planned> {
        &mut self.steps
    }

    /// The descriptors, in order.
    pub(crate) fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// The descriptor at `slot`.
    pub(crate) fn at(&self, Slot(slot): Slot) -> Option<&Descriptor> {
        self.descriptors.get(usize::try_from(slot).ok()?)
    }

    /// The descriptor of its own at `slot`.
    pub(crate) fn owned(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        match self.at(slot)? {
            Descriptor::Owned(owned) => Some(owned.as_fd()),
            _ => None,
        }
    }

    /// All its descriptors, of a list that owns each.
    pub(crate) fn all_owned(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.descriptors
            .iter()
            .filter_map(|descriptor| match descriptor {
                Descriptor::Owned(owned) => Some(owned.as_fd()),
                _ => None,
            })
    }

    /// Closes the descriptors of its own, when the child has used them.
    pub(crate) fn close_descriptors(&mut self) {
        self.descriptors.clear();
    }

    /// The finished block.
    pub(crate) fn finish(&self) -> Vec<u64> {
        let head = size_of::<Header>() + self.steps.len() * size_of::<Step>();
        let length = (head + self.data.len()).next_multiple_of(8);
        let mut block = Vec::with_capacity(length / 8);
        block.extend([
            MAGIC,
            length as u64,
            self.clone_flags,
            self.cgroup.map_or(NONE, |Slot(slot)| slot),
            self.descriptors.len() as u64,
            self.steps.len() as u64,
        ]);
        for step in &self.steps {
            let layer = step.layer.map_or(0, |layer| layer as u64);
            block.push(u64::from(step.op as u32) | layer << 32);
            block.extend(step.arguments.map(|argument| match argument {
                Argument::Number(number) => number,
                Argument::Slot(Slot(slot)) => slot,
                Argument::Data(Data(offset)) => offset + head as u64,
            }));
        }
        let mut data = self.data.clone();
        data.resize(length - head, 0);
        for &at in &self.offsets {
            if let Some(word) = data.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *word = (u64::from_ne_bytes(*word) + head as u64).to_ne_bytes();
            }
        }
        let (words, _) = data.as_chunks::<8>();
        block.extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
        block
    }
}

/// A block that is on its way, with borrowed descriptors.
pub(crate) struct Sending<'a> {
    pub(crate) block: &'a [u64],
    pub(crate) descriptors: Vec<BorrowedFd<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloison_linux::steps::Image;

    fn sample() -> StepList {
        let mut list = StepList::default();
        let path = list.text("/bin/true");
        let arguments = list.list(["true", "x"]);
        let environment = list.list(["A=1"]);
        list.push(
            None,
            Op::Execute,
            [path.into(), arguments.into(), environment.into()],
        );
        list
    }

    #[test]
    fn a_written_block_is_accepted() {
        let block = sample().finish();
        assert!(Image::check(&block, 0).is_ok());
    }

    #[test]
    fn a_block_with_one_word_changed_is_refused_or_stays_inside() {
        let good = sample().finish();
        // Every offset word set beyond the end must be refused.
        for (at, word) in good.iter().enumerate() {
            let mut bad = good.clone();
            bad[at] = u64::MAX - 8;
            let is_data = at >= 6 + 6;
            if !is_data && *word != 0 {
                assert!(Image::check(&bad, 0).is_err(), "word {at}");
            }
        }
        assert!(Image::check(&good, 1).is_err());
        assert!(Image::check(&good[..good.len() - 1], 0).is_err());
    }
}
