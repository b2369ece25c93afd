//! One process tree in one enclosure.
//!
//! This crate is mechanism: it launches what a [`Spec`] says, applies every
//! layer, reads back what encloses the process, and only then lets the command
//! run. Policy lives above: it knows no tenant.
//!
//! # The way of a launch
//! 1. A [`Spec`] is plain data: all that is decided for one launch. It comes
//!    from a file or from your program, and can be compared and tested without
//!    root.
//! 2. [`Prepared`] is made once for a server and used again at each restart:
//!    its user namespace, its network namespace, its cgroup.
//! 3. [`Plan::new`] opens the paths, compiles the filters and lists the steps.
//!    It refuses what this [`Kernel`] cannot give, unless the layer is in the
//!    [`Waivers`].
//! 4. [`Plan::hold`] makes the process through the spawner, a small process of
//!    ours. Every layer is on and the command is not yet executed. A [`Held`]
//!    exists only if its [`Posture`] was read back and is the expected one.
//! 5. [`Held::start`] executes the command. A [`Sandbox`] is waited for,
//!    signalled, looked at ([`Sandbox::inspect`]) and removed.
//!
//! Dropping a [`Held`] undoes all that was done; dropping a [`Sandbox`] leaves
//! it running. [`Sandbox::remove`] ends it and takes its cgroup away.
//!
//! # Example
//! ```no_run
//! use cloison_sandbox::{
//!     ExitStatus, IdRange, Io, Kernel, Plan, Prepared, SandboxName, Spec, Waivers,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = SandboxName::new("first")?;
//! let mut spec = Spec::new(name, vec!["/usr/bin/id".to_owned()]);
//! // 65,536 ids of the host that nobody else has.
//! spec.ids = Some(IdRange::new(1_879_048_192)?);
//!
//! let kernel = Kernel::probe()?;
//! let prepared = Prepared::new(&spec)?;
//! let plan = Plan::new(&spec, &kernel, &Waivers::none(), prepared, Io::null()?)?;
//!
//! let held = plan.hold()?;
//! println!("{}", held.posture());
//!
//! let mut sandbox = held.start()?;
//! assert_eq!(sandbox.wait()?, ExitStatus::Exited(0));
//! sandbox.remove()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a caller should know
//! - One thread or a thousand, it makes no difference: the spawner clones, not
//!   the caller. [`Plan::hold_directly`] is for small callers with one thread.
//! - The crate starts no thread, installs no signal handler and writes no log.
//!   Its one global that matters is the descriptor of the spawner, which is
//!   opened anew after a fork of the caller or the spawner's death.
//! - [`Layer`] is exhaustive: a layer that is added breaks what matches on it,
//!   on purpose. Error enums are not exhaustive.
//! - With the feature `tokio` a sandbox can be waited for without a thread.
//!
//! # Kernel
//! x86-64 and root. What each layer requires is said by [`Layer::requires`], and
//! what can be done where it is missing by [`Feature::remedy`].

pub mod cgroup;
mod error;
mod exec;
mod held;
mod ids;
mod kernel;
mod layer;
mod layers;
mod namespaces;
mod plan;
mod pools;
pub mod posture;
mod proc;
mod proc_path;
mod sandbox;
pub mod seccomp;
mod spawner;
mod spec;
mod steps;
mod tenant_path;
mod turn;
mod waivers;

pub use cgroup::{Cgroup, CgroupError, Hierarchies, Hierarchy};
pub use error::{Error, Found, Refused};
pub use exec::{Exec, ExecError, ExecListener, ExecSocket, Execution};
pub use held::Held;
pub use ids::{IdRange, IdRangeError};
pub use kernel::{
    Absence, Feature, Kernel, KernelError, LayerVerdict, NotNeeded, State, Unavailable,
};
pub use layer::Layer;
pub use namespaces::{
    IdMapping, NamespaceError, NamespaceStep, NetworkNamespace, NetworkPool,
    PendingNetworkNamespace, PendingUserNamespace, UserNamespace,
};
pub use plan::{Io, Plan, Prepared, Streams, Weakening};
pub use pools::{Pool, pools};
pub use posture::{Difference, Posture, PostureError, SelfReport, Vantage};
pub use sandbox::{ExitStatus, Sandbox, Stopped};
pub use spawner::{SpawnError, spawner_pid, start_spawner};
pub use spec::{
    Access, CgroupLimits, Init, IoLimit, Limits, Mount, NumberList, NumberListError, OwnAccess,
    OwnRoot, Proc, Profile, Root, SandboxName, SandboxNameError, Spec, Sysfs, Tcp, TmpfsSizes,
};
pub use waivers::{WaiverError, Waivers};
