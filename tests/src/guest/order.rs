//! What host and guest say to each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the guest finds what is said to it.
pub const FOLDER: &str = "/guest";
/// The [`Order`], as JSON.
pub const ORDER: &str = "/guest/order.json";
/// Where the guest's init binds the root that it starts with, so that a root
/// can be changed once more: the first one never can.
pub const ROOT: &str = "/guest/root";
/// Names for what may be run, among them each test target's.
pub const PROGRAMS: &str = "/guest/bin";
/// The guest's init.
pub const INIT: &str = "/guest/init";
/// The argument with which the full form's service starts the init again.
pub const SERVE: &str = "serve";
/// Where the kernel and the init say what goes wrong.
pub const CONSOLE: &str = "/dev/ttyS0";
/// Where the command's output goes.
pub const OUTPUT: &str = "/dev/ttyS1";
/// Where the [`End`] goes, as one line of JSON.
pub const RESULT: &str = "/dev/ttyS2";

/// What a guest is told to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The modules to load, in this order.
    pub modules: Vec<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// In the full form: what is shown of the first root in that of the disk.
    pub shown: Vec<PathBuf>,
    /// Whether the root is the disk, and systemd process 1.
    pub form: Form,
}

/// What a guest consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// A root in memory and an init of ours.
    #[default]
    Bare,
    /// A Debian on a disk, systemd its process 1, the command in a service
    /// with a delegated cgroup.
    Full,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It never ran: why.
    NotStarted(String),
}
