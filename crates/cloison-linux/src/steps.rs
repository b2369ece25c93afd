//! The list of steps: what a finished plan is to the child.
//!
//! One block of memory: a [`Header`], then [`Step`]s, then data (strings,
//! arrays, BPF). A step names data by its offset from the start of the block
//! and a descriptor by its place among those sent with it. [`Image::check`]
//! is done before the clone, so that the child need not.

use core::mem::size_of;

/// The first word of every block: changes when the layout does.
pub const MAGIC: u64 = 0x436c_6f69_736f_6e05;
/// The largest block that the spawner takes.
pub const IMAGE_BYTES_MAX: usize = 128 * 1024;
/// The most descriptors that one launch may carry.
pub const DESCRIPTORS_MAX: usize = 120;
/// The most descriptors that one child may keep.
pub const KEPT_MAX: u64 = 32;
/// Ends a list of strings.
pub const END: u64 = u64::MAX;
/// No descriptor.
pub const NONE: u64 = u64::MAX;

/// What stands at the start of a block.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Bytes of the whole block.
    pub length: u64,
    /// Flags for clone3(2); `CLONE_PIDFD` is added.
    pub clone_flags: u64,
    /// Which descriptor is the v2 cgroup to be born in, or [`NONE`].
    pub cgroup: u64,
    /// How many descriptors come with it.
    pub descriptors: u64,
    /// How many steps follow.
    pub steps: u64,
}

/// One thing that the child does.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What: an [`Op`].
    pub op: u32,
    /// Whose: the number of the layer that added it, for whoever made the
    /// list. The child does not look at it.
    pub layer: u32,
    /// With what: see each [`Op`].
    pub arguments: [u64; 5],
}

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal ($($kind:ident),*);)*) => {
        /// What a step does. The arguments are listed in order: `Slot` is a
        /// descriptor by its place, `Text` the offset of a NUL-terminated
        /// string, `List` the offset of a list of offsets ended by [`END`],
        /// `Words` the offset and count of 64-bit words, `Number` a number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// The operation of that number.
            // Inlined, so that whoever reads the child sees the bound of its
            // jump table.
            #[must_use]
            #[inline(always)]
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The kinds of its arguments.
            fn kinds(self) -> &'static [Kind] {
                match self { $(Self::$name => &[$(Kind::$kind),*],)* }
            }
        }
    };
}

/// What an argument is.
#[derive(Clone, Copy)]
enum Kind {
    Slot,
    Text,
    List,
    /// Offset of 64-bit words; the next argument is their count.
    Words,
    Number,
}

ops! {
    /// Writes `0` to a v1 cgroup's `tasks`.
    EnterCgroup = 1 (Slot);
    /// Joins a namespace of the given type.
    JoinNamespace = 2 (Slot, Number);
    /// Makes every mount private.
    MakePrivate = 3 ();
    /// Puts a mount over `/` and works in it: the new root.
    AttachRoot = 4 (Slot);
    /// Puts a mount on a path beneath the new root, no link followed.
    Attach = 5 (Slot, Text);
    /// Mounts a new file system (type, path, list of key and value in turn,
    /// mount attributes, 1 to remember it as the proc of the steps below).
    MountNew = 6 (Text, Text, List, Number, Number);
    /// Makes the new root the root.
    PivotRoot = 7 ();
    /// Detaches the old root.
    DetachOldRoot = 8 ();
    /// Works in `/`.
    EnterRoot = 9 ();
    /// Writes a string to a file beneath the remembered proc.
    WriteProc = 10 (Text, Text);
    /// Sets the nice value.
    SetNice = 11 (Number);
    /// Sets the policy `SCHED_OTHER`.
    SetSchedulerOther = 12 ();
    /// Sets the I/O priority.
    SetIoPriority = 13 (Number);
    /// Sets a resource limit, soft and hard.
    SetLimit = 14 (Number, Number);
    /// Leaves for new namespaces.
    Unshare = 15 (Number);
    /// Drops every supplementary group.
    DropGroups = 16 ();
    /// Sets the three group ids.
    SetGroup = 17 (Number);
    /// Sets the three user ids.
    SetUser = 18 (Number);
    /// Sets the host name.
    SetHostName = 19 (Text);
    /// Sets the affinity mask.
    SetAffinity = 20 (Words, Number);
    /// Sets the default memory policy.
    ResetMemoryPolicy = 21 ();
    /// Sets the execution domain.
    SetPersonality = 22 (Number);
    /// Sets the umask.
    SetUmask = 23 (Number);
    /// Sets every disposition to default and empties the mask.
    ResetSignals = 24 ();
    /// Starts a session.
    StartSession = 25 ();
    /// Makes the descriptor the session's terminal.
    TakeTerminal = 26 (Slot);
    /// Joins a new, empty session keyring.
    JoinKeyring = 27 ();
    /// Drops every capability of the bounding set but those of the mask.
    DropBounding = 28 (Number);
    /// Empties the ambient set.
    ClearAmbient = 29 ();
    /// Raises the mask's capabilities in the ambient set.
    RaiseAmbient = 30 (Number);
    /// Sets the securebits.
    SetSecurebits = 31 (Number);
    /// Sets permitted and effective, and inheritable.
    SetCapabilities = 32 (Number, Number);
    /// Sets `no_new_privs`.
    SetNoNewPrivs = 33 ();
    /// Disables a speculation feature for good (prctl 53).
    RestrictSpeculation = 34 (Number);
    /// Makes a core scheduling cookie of its own.
    MakeCoreCookie = 35 ();
    /// Adds a rule for the remembered proc (1) or a path (0) to a ruleset:
    /// ruleset, access, which, path.
    AddRule = 36 (Slot, Number, Number, Text);
    /// Enters the Landlock domain.
    RestrictSelf = 37 (Slot);
    /// Binds an abstract socket, which [`Op::Gather`] will try to reach.
    BindAbstract = 38 ();
    /// Gathers the self-report: a TCP port that Landlock should not allow to
    /// be bound; 1 to try a device node in `/tmp`, which only a process
    /// without that capability may.
    Gather = 39 (Number, Number);
    /// Puts the listed slots (64-bit words) at 0, 1, 2, ..., the report, and
    /// the program to execute behind them, and closes all others: offset and
    /// count, the program's slot or [`NONE`].
    PlaceDescriptors = 40 (Words, Number, Number);
    /// Installs a seccomp program.
    InstallFilter = 41 (Words, Number);
    /// Sends the self-report.
    Report = 42 ();
    /// Waits for one byte; end of file ends the process.
    Wait = 43 ();
    /// Executes a path: path, arguments, environment.
    Execute = 44 (Text, List, List);
    /// Executes the program that [`Op::PlaceDescriptors`] kept: arguments,
    /// environment.
    ExecuteKept = 45 (List, List);
    /// Executes the first of several paths that is there: paths, arguments,
    /// environment.
    ExecuteFound = 59 (List, List, List);
    /// Writes a string to a file beneath a directory descriptor.
    WriteBeneath = 46 (Slot, Text, Text);
    /// Sets `lo` up in the network namespace it is in.
    SetLoopbackUp = 47 ();
    /// Ends the process well.
    Exit = 48 ();
    /// Mounts by the old call: type, path, flags, options. For floors.
    MountOld = 49 (Text, Text, Number, Text);
    /// Sets whether the process may be dumped and traced.
    SetDumpable = 52 (Number);
    /// Tries to make a namespace of that type; anything but `ENOSPC`, the
    /// answer of a limit of 0, is a failure.
    ExpectLimit = 53 (Number);
    /// Says that namespaces, mounts and ids stand, so that they can be read
    /// while the last steps run.
    Announce = 54 ();
    /// Puts a read-only mount of the same tree in the place of one whose maker
    /// goes on writing through it: before the root is attached.
    Share = 58 (Slot);
    /// Puts a mount on the old root, with which it goes away: only one that
    /// stands somewhere can be copied.
    Park = 70 (Slot);
    /// Puts a copy of what a parked mount has of that name over an entry of the
    /// remembered proc: mount, name, entry.
    Cover = 71 (Slot, Text, Text);
    /// Receives three descriptors over the report, in the place of those that
    /// stand in these slots; end of file ends the process.
    Receive = 55 (Slot, Slot, Slot);
    /// Closes every descriptor but the report and those of the block.
    CloseOthers = 56 ();
    /// Tries to make a user, a network, a pid and a time namespace, and
    /// reports which of them a limit refused. A user namespace that can be
    /// made is a failure.
    TryNested = 57 ();
    /// Puts a mount on a place of the old root and works in it: what is
    /// attached next stands beneath it, and goes away with the old root.
    StageLayers = 72 (Slot);
    /// Mounts an overlay whose options name layers beneath the staged mount,
    /// and keeps it in this slot: options, mount attributes, the id that its
    /// own files are made with.
    MountOverlay = 73 (Slot, List, Number, Number);
    /// Makes a directory by name. For floors.
    MakeDirectory = 50 (Text);
    /// Works in a directory by name, no magic link followed.
    EnterDirectory = 51 (Text);
}

/// Why a block is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The step, or [`NONE`] for the header.
    pub step: u64,
}

/// A block that was checked: every offset lies in it, every string ends in
/// it, every descriptor exists.
///
/// Holding one tells you that the child can run it without a check of its
/// own. It does not tell you that its steps make sense together.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    words: &'a [u64],
    header: Header,
}

const HEADER_WORDS: usize = size_of::<Header>() / 8;
const STEP_WORDS: usize = size_of::<Step>() / 8;

impl<'a> Image<'a> {
    /// Checks `words` as a block that comes with `descriptors` descriptors.
    ///
    /// # Errors
    /// [`Malformed`], with the step.
    pub fn check(words: &'a [u64], descriptors: usize) -> Result<Self, Malformed> {
        let bad = Malformed { step: NONE };
        let Some(&[magic, length, clone_flags, cgroup, count, steps]) =
            words.get(..HEADER_WORDS).and_then(|w| w.first_chunk::<6>())
        else {
            return Err(bad);
        };
        let header = Header {
            magic,
            length,
            clone_flags,
            cgroup,
            descriptors: count,
            steps,
        };
        let fits = magic == MAGIC
            && length == (words.len() as u64) * 8
            && words.len() * 8 <= IMAGE_BYTES_MAX
            && count == descriptors as u64
            && descriptors <= DESCRIPTORS_MAX
            && (cgroup == NONE || cgroup < count)
            && steps <= 4096
            && HEADER_WORDS + (steps as usize) * STEP_WORDS <= words.len();
        if !fits {
            return Err(bad);
        }
        let image = Self { words, header };
        let mut at = 0;
        while at < steps {
            if !image.step_fits(at) {
                return Err(Malformed { step: at });
            }
            at += 1;
        }
        Ok(image)
    }

    /// What stands at its start.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *const u64 {
        self.words.as_ptr()
    }

    fn step_fits(&self, at: u64) -> bool {
        let start = HEADER_WORDS + at as usize * STEP_WORDS;
        let Some(&[head, arguments @ ..]) = self
            .words
            .get(start..)
            .and_then(|w| w.first_chunk::<STEP_WORDS>())
        else {
            return false;
        };
        let Some(op) = Op::from_number(head as u32) else {
            return false;
        };
        let kinds = op.kinds();
        let mut k = 0;
        while let (Some(kind), Some(&argument)) = (kinds.get(k), arguments.get(k)) {
            let fits = match kind {
                Kind::Slot => argument < self.header.descriptors,
                Kind::Text => self.text_fits(argument),
                Kind::List => self.list_fits(argument),
                Kind::Words => arguments
                    .get(k + 1)
                    .is_some_and(|&count| self.words_fit(argument, count)),
                Kind::Number => true,
            };
            if !fits {
                return false;
            }
            k += 1;
        }
        match op {
            Op::PlaceDescriptors => self.kept_fit(&arguments),
            Op::InstallFilter => {
                let [_, count, ..] = arguments;
                (1..=4096).contains(&count)
            }
            _ => true,
        }
    }

    fn text_fits(&self, offset: u64) -> bool {
        let mut at = offset as usize;
        let end = self.words.len() * 8;
        while at < end {
            let Some(word) = self.words.get(at / 8) else {
                return false;
            };
            if (word >> ((at % 8) * 8)) & 0xff == 0 {
                return true;
            }
            at += 1;
        }
        false
    }

    fn list_fits(&self, offset: u64) -> bool {
        if !offset.is_multiple_of(8) {
            return false;
        }
        let mut at = (offset / 8) as usize;
        while let Some(&word) = self.words.get(at) {
            if word == END {
                return true;
            }
            if !self.text_fits(word) {
                return false;
            }
            at += 1;
        }
        false
    }

    fn words_fit(&self, offset: u64, count: u64) -> bool {
        let end = (self.words.len() as u64) * 8;
        offset.is_multiple_of(8) && count <= end / 8 && offset <= end - count * 8
    }

    fn kept_fit(&self, arguments: &[u64; 5]) -> bool {
        let [offset, count, program, ..] = *arguments;
        if count > KEPT_MAX || !(program == NONE || program < self.header.descriptors) {
            return false;
        }
        let start = (offset / 8) as usize;
        self.words
            .get(start..start + count as usize)
            .is_some_and(|slots| slots.iter().all(|&slot| slot < self.header.descriptors))
    }
}

/// What the child sends of itself, or of its failure.
///
/// A value that could not be had is the negative error number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// [`Report::FAILED`], [`Report::ENCLOSED`] or [`Report::HELD`].
    pub kind: u32,
    /// The step that failed.
    pub step: u32,
    /// Why it failed.
    pub errno: i32,
    /// `PR_GET_DUMPABLE`.
    pub dumpable: i32,
    /// `PR_GET_SECUREBITS`.
    pub securebits: i64,
    /// The serial number of the session keyring if it is the one that was
    /// joined, else 0.
    pub keyring: i64,
    /// What making a device node in `/tmp` gave.
    pub make_node: i64,
    /// The kinds of namespace of which a limit refused another: bit 0 user,
    /// 1 network, 2 pid, 3 time.
    pub nested_refused: u64,
    /// What connecting to the abstract socket bound before gave.
    pub connect_abstract: i64,
    /// What binding a TCP port gave.
    pub bind_tcp: i64,
    /// The execution domain.
    pub personality: i64,
    /// The mode of the memory policy.
    pub memory_policy: i64,
    /// The I/O priority.
    pub io_priority: i64,
    /// The core scheduling cookie, hashed by the kernel.
    pub core_cookie: i64,
    /// `PR_GET_SPECULATION_CTRL` of store bypass.
    pub store_bypass: i64,
    /// The same of indirect branches.
    pub indirect_branch: i64,
    /// The parent-death signal.
    pub death_signal: i64,
    /// Whether it is a subreaper.
    pub subreaper: i64,
}

impl Report {
    /// A step failed.
    pub const FAILED: u32 = 1;
    /// Every layer is on; it waits.
    pub const HELD: u32 = 2;
    /// Namespaces, mounts and ids stand; the rest is not yet gathered.
    pub const ENCLOSED: u32 = 3;
    /// How many bytes it has.
    pub const BYTES: usize = size_of::<Self>();
}
