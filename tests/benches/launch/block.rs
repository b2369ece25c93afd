//! A block of steps for a floor: the same code runs it as runs a sandbox's.

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::host;
use cloison_linux::steps::{END, Header, MAGIC, NONE, Op, Report, Step};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// A place in the data, or a plain number.
#[derive(Clone, Copy)]
pub(crate) enum Argument {
    Number(u64),
    Data(u64),
}

impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A block while it is written.
#[derive(Default)]
pub(crate) struct Block {
    steps: Vec<(Op, [Argument; 5])>,
    data: Vec<u8>,
    /// Where in the data an offset into the data stands.
    offsets: Vec<usize>,
}

impl Block {
    pub(crate) fn push<const N: usize>(&mut self, op: Op, arguments: [Argument; N]) {
        let mut all = [Argument::Number(0); 5];
        for (place, argument) in all.iter_mut().zip(arguments) {
            *place = argument;
        }
        self.steps.push((op, all));
    }

    pub(crate) fn text(&mut self, text: &str) -> Argument {
        let place = self.data.len() as u64;
        self.data.extend_from_slice(text.as_bytes());
        self.data.push(0);
        Argument::Data(place)
    }

    pub(crate) fn list(&mut self, texts: &[&str]) -> Argument {
        let places: Vec<Argument> = texts.iter().map(|text| self.text(text)).collect();
        let start = self.align();
        for place in places {
            if let Argument::Data(offset) = place {
                self.offsets.push(self.data.len());
                self.data.extend_from_slice(&offset.to_ne_bytes());
            }
        }
        self.data.extend_from_slice(&END.to_ne_bytes());
        start
    }

    pub(crate) fn words(&mut self, words: impl IntoIterator<Item = u64>) -> Argument {
        let start = self.align();
        for word in words {
            self.data.extend_from_slice(&word.to_ne_bytes());
        }
        start
    }

    fn align(&mut self) -> Argument {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        Argument::Data(self.data.len() as u64)
    }

    /// The finished block, for a child made with `flags` that gets so many
    /// descriptors; `cgroup` is the one to be born in.
    pub(crate) fn finish(
        mut self,
        flags: u64,
        cgroup: Option<u64>,
        descriptors: usize,
    ) -> Vec<u64> {
        self.align();
        let head = size_of::<Header>() + self.steps.len() * size_of::<Step>();
        let mut words = vec![
            MAGIC,
            (head + self.data.len()) as u64,
            flags,
            cgroup.unwrap_or(NONE),
            descriptors as u64,
            self.steps.len() as u64,
        ];
        for (op, arguments) in &self.steps {
            words.push(u64::from(*op as u32));
            words.extend(arguments.map(|argument| match argument {
                Argument::Number(number) => number,
                Argument::Data(offset) => offset + head as u64,
            }));
        }
        for at in self.offsets {
            if let Some(word) = self.data.get_mut(at..).and_then(|d| d.first_chunk_mut()) {
                *word = (u64::from_ne_bytes(*word) + head as u64).to_ne_bytes();
            }
        }
        let (data, _) = self.data.as_chunks::<8>();
        words.extend(data.iter().map(|word| u64::from_ne_bytes(*word)));
        words
    }
}

/// A child that runs a block.
pub(crate) struct Running {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    pub(crate) report: OwnedFd,
}

impl Running {
    /// Clones it from this very process.
    pub(crate) fn start(
        block: &[u64],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Self, Box<dyn Error>> {
        let (report, childs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let (pid, pidfd) = host::make_child_directly(block, descriptors, childs.as_fd())
            .map_err(|error| format!("clone3: error {}", error.0))?;
        Ok(Self { pid, pidfd, report })
    }

    /// Lets it go on behind [`Op::Wait`].
    pub(crate) fn go_on(&self) -> Result<(), Box<dyn Error>> {
        nix::unistd::write(&self.report, b"1")?;
        Ok(())
    }

    /// Waits for [`Op::Report`]; `false` is end of file: it has executed.
    pub(crate) fn reported(&self) -> Result<bool, Box<dyn Error>> {
        match host::receive_report(self.report.as_fd()) {
            Ok(Some(report)) if report.kind == Report::HELD => Ok(true),
            Ok(Some(report)) => {
                Err(format!("step {} failed: error {}", report.step, report.errno).into())
            }
            Ok(None) => Ok(false),
            Err(error) => Err(format!("no report: error {}", error.0).into()),
        }
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn ended(self) -> Result<(), Box<dyn Error>> {
        match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => {
                self.reported()?;
                Err(format!("a floor's child ended with {status:?}").into())
            }
        }
    }
}
