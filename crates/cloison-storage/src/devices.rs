//! What becomes of device nodes.

use serde::{Deserialize, Serialize};

/// What is done with a device node, of a tree that is copied or of an archive.
///
/// None is ever made: the `/dev` of a server is the host's work, its tree is
/// mounted `nodev`, and a root inside a user namespace could not make one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Devices {
    /// It is an error.
    #[default]
    Refuse,
    /// It is left out, and counted.
    Skip,
}
