//! What can be typed of tenants' trees.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cloison::{CopyWay, TenantName, TreeName};

use super::servers::Place;
use super::{Format, tenant_name};

/// Give tenants trees of files, for their servers' roots
///
/// A tree is a copy of a base of the provider's: each file an inode of its own,
/// which no other tenant has. A server's file names it: `[root.tree] name = "..."`.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true
)]
pub(crate) struct Tree {
    #[command(subcommand)]
    pub(crate) verb: TreeVerb,
}

/// What is to be done with trees.
#[derive(Debug, Subcommand)]
pub(crate) enum TreeVerb {
    Add(TreeAdd),
    List(TreeList),
    Remove(TreeRemove),
}

/// Copy a base into a new tree of a tenant's
///
/// The base is a directory that belongs to root and that nobody else can write
/// to; for a server it holds the directories proc, dev, tmp and run. Its ids, 0 to
/// 65535, become those of the tenant's files. The tree is there when it is whole.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is there
  1  there is no such tenant
  125  it was not copied, and nothing of it is left

Examples:
  cloison tree add acme debian /srv/bases/debian-12
  cloison tree add acme debian /srv/bases/debian-12 --reflink")]
pub(crate) struct TreeAdd {
    /// Whose
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// 1 to 23 lower-case letters, digits and single hyphens
    #[arg(value_name = "TREE", value_parser = tree_name)]
    pub(crate) tree: TreeName,
    /// The base
    #[arg(value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// Share the blocks of the base until one side writes
    ///
    /// Where the file system cannot (btrfs and some xfs can), it is refused.
    #[arg(long)]
    pub(crate) reflink: bool,
    /// Leave device nodes of the base out, instead of refusing it
    #[arg(long)]
    pub(crate) skip_devices: bool,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl TreeAdd {
    pub(crate) fn way(&self) -> CopyWay {
        if self.reflink {
            CopyWay::Reflink
        } else {
            CopyWay::Copy
        }
    }
}

/// List the trees of a tenant, how much each takes and which servers have it
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  they are listed, also if there are none
  1  there is no such tenant
  125  they could not be listed")]
pub(crate) struct TreeList {
    /// Whose
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Remove a tree that no server is written down with
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it is gone
  1  there is no such tenant or tree
  125  it is not removed, or not all of it: the message says why")]
pub(crate) struct TreeRemove {
    /// Whose
    #[arg(value_parser = tenant_name)]
    pub(crate) tenant: TenantName,
    /// Which of his
    #[arg(value_name = "TREE", value_parser = tree_name)]
    pub(crate) tree: TreeName,
    #[command(flatten)]
    pub(crate) place: Place,
}

fn tree_name(text: &str) -> Result<TreeName, String> {
    TreeName::new(text).map_err(|error| error.to_string())
}
