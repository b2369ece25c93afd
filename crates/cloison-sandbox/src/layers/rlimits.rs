//! Resource limits, every one of them, soft and hard alike.

use cloison_linux::steps::Op;

use crate::Layer;
use crate::plan::Composition;
use crate::spec::Limits;

const INFINITE: u64 = u64::MAX;

/// All sixteen limits, by number.
///
/// # Source
/// include/uapi/asm-generic/resource.h
pub(crate) fn decided(limits: &Limits) -> [(u64, u64); 16] {
    [
        (0, INFINITE), // CPU
        (1, INFINITE), // FSIZE
        (2, INFINITE), // DATA
        (3, 8 << 20),  // STACK
        (4, limits.core_bytes_max),
        (5, INFINITE), // RSS, without effect
        (6, limits.processes_max),
        (7, limits.open_files_max),
        (8, limits.locked_bytes_max),
        (9, INFINITE),  // AS
        (10, INFINITE), // LOCKS, without effect
        (11, limits.pending_signals_max),
        (12, limits.message_queue_bytes_max),
        (13, 0),        // NICE
        (14, 0),        // RTPRIO
        (15, INFINITE), // RTTIME
    ]
}

/// What is being done when a limit is set: the setting of the spec, where it is
/// one.
pub(crate) fn doing(resource: u64) -> &'static str {
    match resource {
        4 => "setting `limits.core_bytes_max`, which may be above the caller's own",
        6 => "setting `limits.processes_max`, which may be above the caller's own",
        7 => "setting `limits.open_files_max`, which may be above the caller's own",
        8 => "setting `limits.locked_bytes_max`, which may be above the caller's own",
        11 => "setting `limits.pending_signals_max`, which may be above the caller's own",
        12 => "setting `limits.message_queue_bytes_max`, which may be above the caller's own",
        3 => "setting the limit on the stack to 8 MiB, which is above the caller's own",
        _ => "taking away a limit that the caller has itself (see `ulimit -Ha`)",
    }
}

pub(crate) fn steps(composition: &mut Composition<'_>) {
    if !composition.applies(Layer::Rlimits) {
        return;
    }
    for (resource, value) in decided(&composition.spec.limits) {
        composition.list.push(
            Layer::Rlimits,
            Op::SetLimit,
            [resource.into(), value.into()],
        );
    }
}
