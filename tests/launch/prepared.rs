//! What is made for a server before its launches, and used again at each.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use cloison_sandbox::posture::{Field, Value};
use cloison_sandbox::{Error, ExitStatus, Held, Io, Layer, Plan, Prepared, Spec, Weakening};
use cloison_tests::Outcome;
use nix::fcntl::{OFlag, openat};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use crate::ground::{kernel, spec, waivers};

fn launch(spec: &Spec, prepared: Prepared, weakenings: Vec<Weakening>) -> Result<Held, Error> {
    let io = Io::null()?;
    Plan::weakened(spec, kernel(), &waivers(), prepared, io, weakenings)?.hold()
}

/// The number of the network that the held process is in.
fn network_of(held: &Held) -> u64 {
    let path = format!("/proc/{}/ns/net", held.pid());
    fs::metadata(path).unwrap().ino()
}

/// The number of the network that is kept for the next launch.
fn network_kept(held: &Held) -> Option<u64> {
    let network = held.prepared().network.as_ref()?;
    let path = format!("/proc/self/fd/{}", network.as_fd().as_raw_fd());
    Some(fs::metadata(path).unwrap().ino())
}

/// Whether it has one link, `lo`, which is up.
fn has_only_lo(held: &Held) -> bool {
    let network = held.prepared().network.as_ref().unwrap();
    thread::scope(|scope| {
        let look = || {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            getifaddrs().unwrap().all(|interface| {
                interface.interface_name == "lo" && interface.flags.contains(InterfaceFlags::IFF_UP)
            }) && getifaddrs().unwrap().next().is_some()
        };
        scope.spawn(look).join().unwrap()
    })
}

/// Without a network namespace made beforehand the sandbox is born in one of
/// its own, which its next launch joins.
pub(crate) fn network_is_kept() -> Outcome {
    let spec = spec("born", &["/usr/bin/true"]);
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    let held = launch(&spec, Prepared::new(&spec).unwrap(), Vec::new()).unwrap();
    let first = network_of(&held);
    if first == own || network_kept(&held) != Some(first) || !has_only_lo(&held) {
        return Outcome::Failed(format!("own {own}, born in {first}"));
    }
    let mut sandbox = held.start().unwrap();
    sandbox.wait().unwrap();
    let held = launch(&spec, sandbox.into_prepared().unwrap(), Vec::new()).unwrap();
    let second = network_of(&held);
    held.start().unwrap().remove().unwrap();
    if second == first {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("born in {first}, then {second}"))
    }
}

/// The step that makes it is broken: the read-back finds the caller's.
pub(crate) fn lost_network() -> Outcome {
    let spec = spec("lost", &["/usr/bin/true"]);
    let weakenings = vec![Weakening::Broken(Layer::NetworkNamespace)];
    match launch(&spec, Prepared::new(&spec).unwrap(), weakenings) {
        Err(Error::PostureDiffers(differences))
            if differences
                .iter()
                .any(|difference| difference.expected.field() == Field::NetworkNamespace) =>
        {
            Outcome::Passed
        }
        other => Outcome::Failed(format!("nobody noticed: {other:?}")),
    }
}

/// The file system that `/dev` is.
fn devices_of(held: &Held) -> Option<u64> {
    match held.posture().fact(Field::Mounts)?.value() {
        Value::Mounts(mounts) => {
            mounts
                .iter()
                .find(|mount| mount.mount_point == "/dev")?
                .device
        }
        _ => None,
    }
}

/// `/dev` is the same at each launch of a server, and never another's.
pub(crate) fn devices_are_its_own() -> Outcome {
    let (mut one, mut two) = (
        spec("one", &["/usr/bin/true"]),
        spec("two", &["/usr/bin/true"]),
    );
    let ids = cloison_sandbox::IdRange::new;
    one.ids = Some(ids(crate::ground::IDS).unwrap());
    two.ids = Some(ids(crate::ground::IDS + cloison_sandbox::IdRange::COUNT).unwrap());
    let held = launch(&one, Prepared::new(&one).unwrap(), Vec::new()).unwrap();
    let first = devices_of(&held).unwrap();
    let mut sandbox = held.start().unwrap();
    let other = launch(&two, Prepared::new(&two).unwrap(), Vec::new()).unwrap();
    let others = devices_of(&other).unwrap();
    sandbox.wait().unwrap();
    let held = launch(&one, sandbox.into_prepared().unwrap(), Vec::new()).unwrap();
    let second = devices_of(&held).unwrap();
    if first == second && first != others {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{first}, again {second}, another's {others}"))
    }
}

/// What the caller writes while it is held can be read inside, and nothing can
/// be written there.
pub(crate) fn credentials_are_filled() -> Outcome {
    let script = r#"test "$(cat /run/credentials/token)" = s3cret && ! touch /run/credentials/x"#;
    let mut spec = spec("filled", &["/usr/bin/sh", "-c", script]);
    spec.user = 1000;
    let held = launch(&spec, Prepared::new(&spec).unwrap(), Vec::new()).unwrap();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mode = Mode::from_bits_truncate(0o444);
    let file = openat(held.credentials(), "token", flags, mode).unwrap();
    nix::unistd::write(&file, b"s3cret").unwrap();
    drop(file);
    let mut sandbox = held.start().unwrap();
    let status = sandbox.wait().unwrap();
    sandbox.remove().unwrap();
    if status == ExitStatus::Exited(0) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{status:?}"))
    }
}
