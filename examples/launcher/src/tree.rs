//! `cloison tree`: what tenants' servers have as their roots.

use cloison::CopyOptions;

use crate::cli::trees::{TreeAdd, TreeList, TreeRemove, TreeVerb};
use crate::error::Error;
use crate::report::{print, print_json};
use crate::servers::open;

/// Does what was asked; gives the exit code.
pub(crate) fn tree(verb: &TreeVerb) -> Result<u8, Error> {
    match verb {
        TreeVerb::Add(options) => add(options),
        TreeVerb::List(options) => list(options),
        TreeVerb::Remove(options) => remove(options),
    }?;
    Ok(0)
}

fn add(options: &TreeAdd) -> Result<(), Error> {
    let host = open(None, &options.place)?;
    let mut how = CopyOptions {
        way: options.way(),
        ..CopyOptions::default()
    };
    if options.skip_devices {
        how.devices = cloison::Devices::Skip;
    }
    let copied = host.add_tree(&options.tenant, &options.tree, &options.base, &how)?;
    if options.format.json {
        return print_json(&copied);
    }
    print(&format!(
        "{} has the tree {}: {} files, {} directories, {} MiB\n",
        options.tenant,
        options.tree,
        copied.files,
        copied.directories,
        copied.bytes >> 20
    ))
}

fn list(options: &TreeList) -> Result<(), Error> {
    let trees = open(None, &options.place)?.trees(&options.tenant)?;
    if options.format.json {
        return print_json(&trees);
    }
    let mut text = format!("{:<23}  {:>9}  {:>9}  SERVERS\n", "TREE", "MIB", "FILES");
    for tree in trees {
        let servers: Vec<String> = tree.servers.iter().map(ToString::to_string).collect();
        let servers = if servers.is_empty() {
            "-".to_owned()
        } else {
            servers.join(", ")
        };
        text.push_str(&format!(
            "{:<23}  {:>9}  {:>9}  {servers}\n",
            tree.name.as_str(),
            tree.bytes >> 20,
            tree.inodes
        ));
    }
    print(&text)
}

fn remove(options: &TreeRemove) -> Result<(), Error> {
    let host = open(None, &options.place)?;
    host.remove_tree(&options.tenant, &options.tree)?;
    print(&format!(
        "{} has no tree {} any more\n",
        options.tenant, options.tree
    ))
}
