//! What each layer requires of the kernel.

use super::Feature;
use crate::Layer;

impl Layer {
    /// The features without which the layer cannot be given.
    ///
    /// Requirements are hard: what a layer merely uses where it is there is
    /// not listed ([`Feature::lost_without`]).
    #[must_use]
    pub fn requires(self) -> &'static [Feature] {
        use Feature as F;
        match self {
            Self::Cgroup => &[F::CgroupFreezer, F::CloneIntoCgroup],
            // Processors and I/O are asked for only by a spec that names them.
            Self::CgroupLimits => &[
                F::MemoryController,
                F::SwapLimit,
                F::PidsController,
                F::CpuController,
            ],
            Self::DeviceControl => &[F::DeviceControl],
            Self::NetworkNamespace => &[F::NetworkNamespace],
            Self::UserNamespace => &[F::UserNamespace, F::NamespaceLimits],
            Self::MountNamespace => &[
                F::MountNamespace,
                F::MountApi,
                F::MountSetattr,
                F::Openat2,
                F::Tmpfs,
            ],
            Self::PidNamespace => &[F::Clone3, F::PidfdSendSignal, F::PidNamespace],
            Self::IpcNamespace => &[F::IpcNamespace],
            Self::UtsNamespace => &[F::UtsNamespace],
            Self::CgroupNamespace => &[F::CgroupNamespace],
            Self::Proc => &[F::ProcSubset],
            // Its usual form is that there is none; a spec that asks for one
            // is checked against `Feature::Sysfs` by the plan.
            Self::Sysfs => &[],
            Self::Devices => &[F::DeviceNodes],
            Self::Devpts => &[F::Devpts],
            Self::Capabilities => &[F::CapabilitySets],
            Self::Securebits => &[F::Securebits],
            Self::NoNewPrivs => &[F::NoNewPrivs],
            Self::Seccomp => &[F::SeccompFilter],
            Self::LandlockFiles => &[F::LandlockFiles],
            Self::LandlockNetwork => &[F::LandlockNetwork],
            Self::LandlockScope => &[F::LandlockScope],
            Self::Rlimits => &[F::ResourceLimits],
            Self::SessionKeyring => &[F::SessionKeyring],
            Self::Session => &[F::Session],
            Self::InheritedState => &[F::ProcessReset],
            Self::Descriptors => &[F::CloseRange],
            Self::NotDumpable => &[F::MemfdExecution],
            Self::CoreScheduling => &[F::CoreScheduling],
            Self::SpeculationControl => &[F::StoreBypassControl, F::IndirectBranchControl],
        }
    }
}
