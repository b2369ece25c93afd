//! `cloison run`: one sandbox in the foreground.

mod listen;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::path::Path;

use cloison::runtime::{Keeper, Runtime, Wanted};
use cloison::settings::SettingsFile;
use cloison::{Host, Pool};
use cloison_sandbox::{
    Access, Hierarchies, IdRange, Init, Io, Layer, NetworkNamespace, Plan, Prepared, Refused, Root,
    Sandbox, SandboxName, Spec,
};
use nix::errno::Errno;
use serde::Serialize;

use crate::attend::{Connection, hand_on, streams_wanted, wait_for_output};
use crate::error::{Error, at};
use crate::report::say_json;
use crate::settings;
use crate::signals::Signals;
use crate::{cli, kernel, lookup, terminal};

use listen::{Listeners, Relays};

/// Runs the sandbox and gives the exit code of its command.
pub(crate) fn run(options: cli::Run) -> Result<u8, Error> {
    // It is ready when the files are read.
    cloison_sandbox::start_spawner().map_err(|error| Error::Start(error.into()))?;
    let (mut spec, source) = settle(&options)?;
    let host = settings::host(options.host.file.as_deref())?;
    let (pool, waivers) = (host.id_pool, host.waive);
    // From here on a signal waits for the sandbox, and ends nothing halfway.
    // Until here it ends this process as any: a file may be one without end.
    let mut signals = Signals::take()?;
    let refused = |error| match (error, &source) {
        (cloison_sandbox::Error::Refused(refused), Some(source)) => source.refused(&refused).into(),
        (error, Some(source)) => source
            .placed(&error)
            .map_or_else(|| kernel::explained(error, &waivers), Into::into),
        (error, None) => kernel::explained(error, &waivers),
    };
    // Before anything is made.
    check(&spec).map_err(|error| refused(error.into()))?;
    spec.check_sources()
        .map_err(|error| match (error, &spec.root) {
            (
                cloison_sandbox::Error::HostPath { path, errno },
                Root::Directory { path: root, .. },
            ) if path == *root && source.is_none() => Error::Root {
                path,
                source: errno,
            },
            (error, _) => refused(error),
        })?;
    lookup::settle(&mut spec).map_err(|error| match (&error, &source) {
        (Error::Root { path, source: why }, Some(source)) => {
            source.unusable(path, why.desc()).map_or(error, Into::into)
        }
        _ => error,
    })?;
    // Sockets stand in it before the launch, which else makes one. It takes as
    // long as all that follows, up to the plan.
    let network = (!options.listen.is_empty())
        .then(NetworkNamespace::begin)
        .transpose()
        .map_err(|error| refused(error.into()))?;
    let kernel = kernel::for_a_launch()?;
    let ids = spec.ids.map_or(pool.ids(), ids_of);
    let on_disk = match &spec.root {
        Root::Own(own) => Some(ids_of(own.disk_ids)),
        Root::SharedBase | Root::Directory { .. } => None,
    };
    for ids in [Some(ids), on_disk].into_iter().flatten() {
        if let Some(clash) = cloison::clashes(&ids)?.into_iter().next() {
            return Err(Error::Clash(clash));
        }
    }
    let listeners = Listeners::open(&options.listen)?;
    let hierarchies = Hierarchies::find().map_err(|error| refused(error.into()))?;
    let runtime = Runtime::open(&options.state.directory)?;
    let exclusive = runtime.lock(|| signals.ending())?;
    let free = unowned(pool)?;
    let wanted = spec.ids.map_or(Wanted::OneOf(&free), Wanted::Ids);
    let keeper = Keeper::Launcher;
    let mut registration = runtime.register(exclusive, &spec.name, wanted, keeper, &hierarchies)?;
    spec.ids = Some(registration.ids());

    let mut prepared = Prepared::beneath(&hierarchies, &spec).map_err(&refused)?;
    if spec.init == Init::On {
        prepared.exec = Some(registration.exec_listener()?);
    }
    let (sockets, relays) = match network {
        Some(network) => {
            let network = network.finish().map_err(|error| refused(error.into()))?;
            let entered = listeners.enter(network.as_fd())?;
            prepared.network = Some(network);
            entered
        }
        None => (Vec::new(), Relays::default()),
    };
    let (streams, ends) = streams_wanted()?;
    let io = Io { streams, sockets };
    let mut held = Plan::new(&spec, &kernel, &waivers, prepared, io)
        .map_err(&refused)?
        .hold()
        .map_err(&refused)?;
    let terminal = held.take_terminal();
    registration.note(&held)?;

    let connection = Connection::make(terminal, ends)?;
    let relaying = relays.start()?;
    let waived = kernel::waived(&kernel, &waivers);
    let sandbox = held.start().map_err(Error::Start)?;
    let pid = sandbox.pid().as_raw();
    let ended = attend(sandbox, &spec.name, connection, &mut signals);
    relaying.stop();
    let code = ended?;
    match registration.finish(|| signals.ending()) {
        // Nobody wants to wait: the next start strikes the record out.
        Ok(()) | Err(Error::Signalled(_)) => {}
        Err(error) => return Err(error),
    }
    if options.json {
        say_json(&Ended {
            name: spec.name,
            pid,
            exit_code: code,
            waived,
        })?;
    }
    Ok(code)
}

/// How it ended, as a program reads it.
#[derive(Serialize)]
struct Ended {
    name: SandboxName,
    /// The process id of its process 1 while it ran.
    pid: i32,
    exit_code: u8,
    /// The layers that this host lacks and its operator waived.
    waived: Vec<Layer>,
}

/// The ranges of the pool that are no tenant's.
fn unowned(pool: Pool) -> Result<Vec<IdRange>, Error> {
    let owned = Host::blocks_in(Path::new(Host::STATE))?;
    let is_owned = |range: &IdRange| {
        let mut owned = owned.iter();
        owned.any(|block| block.slot_of(range.first()).is_some())
    };
    Ok(pool.ranges().filter(|range| !is_owned(range)).collect())
}

/// The ids of one range.
fn ids_of(range: IdRange) -> RangeInclusive<u32> {
    range.first()..=range.host_id(u16::MAX)
}

/// Refuses what is wrong in itself. A program without a slash is yet to be
/// found.
fn check(spec: &Spec) -> Result<(), Refused> {
    let mut whole = spec.clone();
    if let Some(program) = whole.command.first_mut()
        && !program.is_empty()
        && !program.contains('/')
    {
        program.insert(0, '/');
    }
    whole.check()
}

/// The spec: what the command line says before what the file says.
fn settle(options: &cli::Run) -> Result<(Spec, Option<SettingsFile>), Error> {
    let (mut spec, source) = match &options.file {
        Some(file) => {
            let source = SettingsFile::read(file)?;
            (source.spec()?, Some(source))
        }
        None if options.command.is_empty() => return Err(Error::NoCommand),
        None => (bare()?, None),
    };
    if let Some(name) = &options.name {
        spec.name = name.clone();
    }
    if let Some(path) = &options.root {
        spec.root = Root::Directory {
            // It is the operator's, who is somewhere.
            path: std::path::absolute(path).map_err(at("finding", path))?,
            access: Access::ReadOnly,
        };
    }
    if !options.command.is_empty() {
        spec.command.clone_from(&options.command);
    }
    spec.environment.extend(options.env.iter().cloned());
    Ok((spec, source))
}

/// The spec of a command that no file describes.
fn bare() -> Result<Spec, Error> {
    let name = SandboxName::new(format!("run-{}", std::process::id()));
    let mut spec = Spec::new(name?, Vec::new());
    spec.environment = plain_environment();
    Ok(spec)
}

/// What a command finds that nobody described.
pub(crate) fn plain_environment() -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    environment.insert("HOME".to_owned(), "/".to_owned());
    environment.insert("PATH".to_owned(), lookup::PATH.to_owned());
    // The operator's, but only a plain word.
    let term = std::env::var("TERM").ok().filter(|term| {
        term.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte))
    });
    if let Some(term) = term.filter(|_| terminal::is_wanted()) {
        environment.insert("TERM".to_owned(), term);
    }
    environment
}

/// Carries bytes and signals until the sandbox has ended and its output has
/// arrived; then takes it away.
fn attend(
    sandbox: Sandbox,
    name: &SandboxName,
    connection: Connection,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let out_of_control = |source| {
        Error::from(cloison::Error::Control {
            name: name.clone(),
            source,
        })
    };
    let Connection { ends, terminal } = connection;
    let carried = match ends.carry() {
        Ok(carried) => carried,
        Err(error) => {
            sandbox.remove().map_err(out_of_control)?;
            return Err(error);
        }
    };
    let send = |signal| match sandbox.signal(signal) {
        Ok(()) | Err(cloison_sandbox::Error::Died) => Ok(()),
        Err(error) => Err(Error::Start(error)),
    };
    let attended = hand_on(&sandbox, send, terminal.as_ref(), signals);
    // Whatever happened, it is taken away.
    let status = sandbox.remove().map_err(out_of_control);
    attended?;
    let code = status?.code();
    wait_for_output(carried, signals)?;
    drop(terminal);
    let code = code.ok_or(Error::StatusUnknown)?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// An error of the standard library, as ours are.
pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
