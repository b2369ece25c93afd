//! The plan: a spec opened and compiled.

mod bounds;
mod breaking;
mod compose;
mod expect;
pub(crate) mod sockets;
mod weakening;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::steps::Op;

pub(crate) use compose::{Composition, MOUNTS_MAX, check_spec};
pub(crate) use expect::Expectation;
pub use weakening::Weakening;

use crate::cgroup::{Cgroup, Hierarchies, Hierarchy};
use crate::error::{Error, Refused};
use crate::exec::ExecListener;
use crate::held::{Held, Observer, Ready};
use crate::kernel::Kernel;
use crate::layers::late::LateTrees;
use crate::layers::mounts::Devices;
use crate::namespaces::{IdMapping, PendingIdMapping};
use crate::posture::Posture;
use crate::spawner::{ask, io_errno, own_filters, spawn_directly};
use crate::spec::Root;
use crate::steps::{Descriptor, Sending, StepList};
use crate::{Layer, NetworkNamespace, Spec, UserNamespace, Waivers};

const OWN_STATUS: &str = "a look at the caller's own /proc status";

/// What is made for a server before it is launched, and used again at each
/// restart: its user namespace, its network namespace, its cgroup, a read-only
/// `/dev` of its own, and the map of ids of a root of its own.
#[derive(Debug)]
pub struct Prepared {
    /// The user namespace.
    pub user: UserNamespace,
    /// The network namespace; `None`: the first launch makes one together
    /// with its process, which is faster than making one for it alone, and
    /// keeps it here.
    pub network: Option<NetworkNamespace>,
    /// The cgroup.
    pub cgroup: Cgroup,
    /// Where its init listens for what [`Sandbox::exec`] asks; `None`: nobody
    /// can start a second command in it.
    ///
    /// [`Sandbox::exec`]: crate::Sandbox::exec
    pub exec: Option<ExecListener>,
    devices: Devices,
    /// How the ids of a tree of its own are shown.
    tree_ids: Option<IdMapping>,
}

impl Prepared {
    /// Makes user namespace, cgroup with its limits and `/dev` for `spec`; the
    /// launch makes the network namespace.
    ///
    /// # Errors
    /// [`Error::Refused`] without ids, [`Error::Namespace`],
    /// [`Error::Cgroup`], [`Error::Prepare`]; [`Error::Unavailable`] for a
    /// limit that no cgroup hierarchy of the host keeps, [`Error::HostPath`]
    /// for a device that it names.
    pub fn new(spec: &Spec) -> Result<Self, Error> {
        Self::beneath(&Hierarchies::find()?, spec)
    }

    /// The same, with the cgroup made in hierarchies that were found before.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn beneath(hierarchies: &Hierarchies, spec: &Spec) -> Result<Self, Error> {
        let ids = spec.ids.ok_or(Refused::NoIds)?;
        let user = UserNamespace::begin(ids, &spec.limits)?;
        let tree_ids = match &spec.root {
            Root::Own(own) => Some(PendingIdMapping::begin(own.disk_ids, ids)?),
            Root::SharedBase | Root::Directory { .. } => None,
        };
        // Its process is made meanwhile.
        let mut cgroup = Cgroup::create(hierarchies, &spec.name)?;
        // Before anything is in it. A plan sees to it that they are its own.
        cgroup.limit(&spec.cgroup)?;
        cgroup.allow_devices()?;
        let devices = Devices::make().map_err(|errno| Error::prepare("/dev", errno))?;
        Ok(Self {
            user: user.finish()?,
            network: None,
            cgroup,
            exec: None,
            devices,
            tree_ids: tree_ids.map(PendingIdMapping::finish).transpose()?,
        })
    }

    /// The same with a network namespace that was made beforehand: of a
    /// pool, or one in which sockets are to be made before the launch.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn with_network(spec: &Spec, network: NetworkNamespace) -> Result<Self, Error> {
        let mut prepared = Self::new(spec)?;
        prepared.network = Some(network);
        Ok(prepared)
    }

    /// How the ids of a tree of its own are shown, where it has one.
    #[must_use]
    pub fn tree_ids(&self) -> Option<&IdMapping> {
        self.tree_ids.as_ref()
    }

    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// A descriptor of a block, which is `owned` by it or one of these.
    pub(crate) fn descriptor<'a>(&'a self, descriptor: &'a Descriptor) -> BorrowedFd<'a> {
        let user = self.user.as_fd();
        match descriptor {
            Descriptor::Owned(owned) => owned.as_fd(),
            Descriptor::UserNamespace => user,
            Descriptor::NetworkNamespace => self.network.as_ref().map_or(user, AsFd::as_fd),
            Descriptor::Cgroup(at) => {
                let placement = self.cgroup.placements().get(*at);
                // Of version 2 the child is born in the directory.
                placement.map_or(user, |placement| match placement.hierarchy() {
                    Hierarchy::V2 => placement.directory(),
                    Hierarchy::V1(_) => placement.entry(),
                })
            }
            // Renewed before it was planned.
            Descriptor::ExecListener => {
                let listener = self.exec.as_ref().and_then(ExecListener::socket);
                listener.unwrap_or(user)
            }
        }
    }
}

/// What a sandbox reads from and writes to.
#[derive(Debug)]
pub enum Streams {
    /// These descriptors become 0, 1 and 2.
    Descriptors {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal of the sandbox's own; [`Held::take_terminal`] is its other
    /// side.
    Terminal,
}

/// The descriptors that a command gets.
#[derive(Debug)]
pub struct Io {
    /// 0, 1 and 2.
    pub streams: Streams,
    /// From 3 on, told by `LISTEN_FDS`: sockets made in the sandbox's own
    /// network namespace. One of another network is refused, here and among
    /// the streams: it can be disconnected and connected to whatever listens
    /// there. Unix sockets may be the caller's; what comes over them later
    /// nobody checks.
    pub sockets: Vec<OwnedFd>,
}

impl Io {
    /// `/dev/null` for all three.
    ///
    /// # Errors
    /// [`Error::HostPath`].
    pub fn null() -> Result<Self, Error> {
        let open = |write: bool| {
            std::fs::File::options()
                .read(!write)
                .write(write)
                .open("/dev/null")
                .map(OwnedFd::from)
                .map_err(|error| Error::host_path("/dev/null".as_ref(), io_errno(&error)))
        };
        Ok(Self {
            streams: Streams::Descriptors {
                stdin: open(false)?,
                stdout: open(true)?,
                stderr: open(true)?,
            },
            sockets: Vec::new(),
        })
    }
}

/// A spec opened and compiled: descriptors, strings, filters and the list of
/// steps. Consumed by the launch.
///
/// Holding one tells you that this kernel has every layer that the spec asks
/// for, and that every path of the host that it names could be opened. It
/// does not tell you that the steps will succeed.
#[derive(Debug)]
pub struct Plan {
    pub(crate) list: StepList,
    pub(crate) expectation: Expectation,
    pub(crate) prepared: Prepared,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) late: LateTrees,
    /// The writable side of `/run/credentials`.
    pub(crate) credentials: OwnedFd,
    pub(crate) has_init: bool,
}

impl Plan {
    /// Opens and compiles `spec`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unavailable`], [`Error::HostPath`],
    /// [`Error::Prepare`].
    pub fn new(
        spec: &Spec,
        kernel: &Kernel,
        waivers: &Waivers,
        prepared: Prepared,
        io: Io,
    ) -> Result<Self, Error> {
        Self::weakened(spec, kernel, waivers, prepared, io, Vec::new())
    }

    /// A plan that is weaker than its spec, for controls and knock-outs.
    ///
    /// # Errors
    /// As [`Plan::new`].
    #[doc(hidden)]
    pub fn weakened(
        spec: &Spec,
        kernel: &Kernel,
        waivers: &Waivers,
        prepared: Prepared,
        io: Io,
        weakenings: Vec<Weakening>,
    ) -> Result<Self, Error> {
        compose::compose(spec, kernel, waivers, prepared, io, weakenings)
    }

    /// What should enclose the sandbox.
    ///
    /// # Errors
    /// [`Error::Prepare`], [`Error::Unreadable`].
    pub fn expected(&self) -> Result<Posture, Error> {
        let filters = own_filters().map_err(|errno| Error::prepare(OWN_STATUS, errno))?;
        self.look(filters).map(|(_, expected)| expected)
    }

    /// The steps of the child, in order: the layer and what is done. For
    /// tests of the order.
    #[doc(hidden)]
    #[must_use]
    pub fn steps(&self) -> Vec<(Option<Layer>, &'static str)> {
        self.list
            .steps()
            .iter()
            .map(|step| (step.layer, describe(step.op)))
            .collect()
    }

    /// Launches through the spawner and holds the sandbox with every layer
    /// on, before the command is executed.
    ///
    /// # Errors
    /// [`Error::Prepare`], [`Error::Spawn`], [`Error::Step`],
    /// [`Error::Died`], [`Error::Deadline`], [`Error::Unreadable`],
    /// [`Error::PostureDiffers`]. All is undone.
    pub fn hold(self) -> Result<Held, Error> {
        let block = self.list.finish();
        let asked = ask(&Sending {
            block: &block,
            descriptors: self.borrowed(),
        })?;
        // What needs nothing of the child is done while it is made.
        let ready = self.get_ready(asked.report(), asked.filters());
        let spawned = asked.made().inspect_err(|_| self.settle_failed())?;
        Held::check(self, spawned, ready)
    }

    /// A spawner that ended may have made the child before, which ends as soon
    /// as it hears nothing from us; until then its cgroup cannot be removed.
    fn settle_failed(&self) {
        // The failure that led here is what the caller must hear of; what
        // stays is found at the next start.
        let _emptied = self.prepared.cgroup.kill();
    }

    /// The same without a spawner: the caller is the parent. For a small
    /// caller with one thread; the copy of a large one's memory is slow, and
    /// so is that of a long mount table.
    ///
    /// # Errors
    /// As [`Plan::hold`].
    pub fn hold_directly(self) -> Result<Held, Error> {
        let block = self.list.finish();
        let spawned = spawn_directly(&Sending {
            block: &block,
            descriptors: self.borrowed(),
        })?;
        let filters = own_filters().map_err(|errno| Error::prepare(OWN_STATUS, errno));
        let ready = filters.and_then(|count| self.get_ready(spawned.report.as_fd(), count));
        Held::check(self, spawned, ready)
    }

    /// Makes and sends what the child waits for; finds who will look at it,
    /// and what should be seen.
    fn get_ready(&self, report: BorrowedFd<'_>, filters: u32) -> Result<Ready, Error> {
        self.late.bring(&self.list, report)?;
        let (observer, expected) = self.look(filters)?;
        Ok(Ready { observer, expected })
    }

    /// Who will look at the child, and what should be seen of one that
    /// inherits so many seccomp filters.
    fn look(&self, filters: u32) -> Result<(Observer, Posture), Error> {
        let observer = Observer::new()?;
        let expected =
            self.expectation
                .posture(&self.list, &self.prepared, observer.vantage(), filters)?;
        Ok((observer, expected))
    }

    fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        let descriptors = self.list.descriptors().iter();
        descriptors
            .map(|descriptor| self.prepared.descriptor(descriptor))
            .collect()
    }
}

/// What a step does, for an error that an operator reads.
pub(crate) fn describe(op: Op) -> &'static str {
    match op {
        Op::EnterCgroup => "entering the cgroup",
        Op::JoinNamespace => "joining a namespace",
        Op::MakePrivate => "making mounts private",
        Op::AttachRoot => "attaching the root",
        Op::Attach => "attaching a mount",
        Op::Park => "putting a mount where it can be copied",
        Op::Cover => "covering an entry of proc",
        Op::MountNew => "mounting a file system",
        Op::PivotRoot => "pivot_root",
        Op::DetachOldRoot => "detaching the old root",
        Op::EnterRoot => "entering the new root",
        Op::WriteProc => "writing oom_score_adj",
        Op::SetNice => "setting the nice value",
        Op::SetSchedulerOther => "setting the scheduler",
        Op::SetIoPriority => "setting the I/O priority",
        Op::SetLimit => "setting a resource limit, which may be above the caller's own",
        Op::Unshare => "leaving for new namespaces",
        Op::DropGroups => "dropping supplementary groups",
        Op::SetGroup => "setting the group",
        Op::SetUser => "setting the user",
        Op::SetHostName => "setting the host name",
        Op::SetAffinity => "setting the affinity",
        Op::ResetMemoryPolicy => "resetting the memory policy",
        Op::SetPersonality => "setting the personality",
        Op::SetUmask => "setting the umask",
        Op::ResetSignals => "resetting signals",
        Op::StartSession => "starting a session",
        Op::TakeTerminal => "taking the terminal",
        Op::JoinKeyring => "joining a new session keyring",
        Op::DropBounding => "dropping the bounding set",
        Op::ClearAmbient => "clearing the ambient set",
        Op::RaiseAmbient => "raising the ambient set",
        Op::SetSecurebits => "setting the securebits",
        Op::SetCapabilities => "setting the capabilities",
        Op::SetNoNewPrivs => "setting no_new_privs",
        Op::RestrictSpeculation => "restricting speculation",
        Op::MakeCoreCookie => "making a core scheduling cookie",
        Op::AddRule => "adding a Landlock rule",
        Op::RestrictSelf => "entering the Landlock domain",
        Op::BindAbstract => "binding an abstract socket",
        Op::Gather => "gathering the self-report",
        Op::PlaceDescriptors => "placing descriptors",
        Op::InstallFilter => "installing a seccomp program",
        Op::CloseOthers => "closing what is not the child's",
        Op::TryNested => "being refused further namespaces",
        Op::Share => "sharing a mount",
        Op::Receive => "receiving new mounts",
        Op::StageLayers => "staging the layers of the root",
        Op::MountOverlay => "mounting the overlay of the root",
        Op::Announce => "announcing what stands",
        Op::Report => "reporting",
        Op::Wait => "waiting",
        Op::Execute | Op::ExecuteKept | Op::ExecuteFound => "executing",
        Op::WriteBeneath => "writing a file",
        Op::SetLoopbackUp => "setting lo up",
        Op::Exit => "ending",
        Op::SetDumpable => "setting dumpable",
        Op::ExpectLimit => "trying a limit on namespaces",
        Op::MountOld => "mount",
        Op::MakeDirectory => "mkdir",
        Op::EnterDirectory => "entering the working directory",
    }
}
