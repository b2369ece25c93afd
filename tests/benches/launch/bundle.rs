//! Bundles for runc and crun: what a container of Docker's is given, with a
//! user namespace.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cloison_tests::docker;
use serde_json::{Value, json};

use crate::peers::links_into_usr;

/// The ids that root and the users inside are mapped to.
const IDS: u32 = 1_879_113_728;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container has as its root.
#[derive(Clone, Copy)]
pub(crate) enum Root<'a> {
    /// A directory with the host's `/usr`, read-only.
    HostsUsr,
    /// This one, read-only.
    Directory(&'a Path),
}

/// Docker's default profile, as a runtime is given it; or why it is not there.
pub(crate) fn dockers_profile() -> Result<Value, String> {
    let text = fs::read_to_string(docker::DEFAULT)
        .map_err(|error| format!("Docker's default profile, which .ci/fetch gets: {error}"))?;
    let kernel = docker::running_kernel().ok_or("the kernel has no version")?;
    docker::oci(&text, kernel).map_err(|error| error.to_string())
}

/// Makes a bundle in the new directory `at`.
pub(crate) fn make(
    at: &Path,
    root: Root<'_>,
    command: &[&str],
    seccomp: Option<&Value>,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(at)?;
    let mut mounts = mounts();
    let root = match root {
        Root::Directory(root) => root.to_owned(),
        Root::HostsUsr => {
            mounts.extend(binds());
            directory_with_usr(&at.join("rootfs"))?
        }
    };
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process(command),
        "root": { "path": root, "readonly": true },
        "hostname": "bench",
        "mounts": mounts,
        "linux": linux(),
    });
    if let Some(profile) = seccomp
        && let Some(place) = config.get_mut("linux").and_then(Value::as_object_mut)
    {
        place.insert("seccomp".to_owned(), profile.clone());
    }
    fs::write(at.join("config.json"), serde_json::to_vec(&config)?)?;
    Ok(())
}

fn directory_with_usr(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for name in [
        "usr",
        "proc",
        "dev",
        "sys",
        "tmp",
        "run",
        "etc/alternatives",
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in links_into_usr() {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(root.to_owned())
}

fn process(command: &[&str]) -> Value {
    let capabilities = docker::DEFAULT_CAPABILITIES;
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": command,
        "env": [PATH],
        "cwd": "/",
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "oomScoreAdj": 0,
    })
}

/// # Source
/// `oci/defaults.go` of Docker Engine, without the cgroup hierarchies.
fn mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let quiet = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&quiet, more].concat();
    vec![
        mount("/proc", "proc", &quiet),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/sys", "sysfs", &with(&["ro"])),
        mount("/dev/mqueue", "mqueue", &quiet),
        mount("/dev/shm", "tmpfs", &with(&["mode=1777", "size=67108864"])),
        // Not Docker's, but what the other sides have.
        mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        mount("/run", "tmpfs", &with(&["mode=755"])),
    ]
}

fn binds() -> Vec<Value> {
    ["/usr", "/etc/alternatives"]
        .into_iter()
        .filter(|path| Path::new(path).is_dir())
        .map(|path| {
            json!({
                "destination": path, "type": "bind", "source": path,
                "options": ["rbind", "ro", "nosuid", "nodev"],
            })
        })
        .collect()
}

/// # Source
/// `oci/defaults.go` of Docker Engine: the paths covered and made read-only,
/// the devices.
fn linux() -> Value {
    let map = json!([{ "containerID": 0, "hostID": IDS, "size": 65_536 }]);
    let namespaces: Vec<Value> = ["mount", "network", "uts", "pid", "ipc", "cgroup", "user"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    json!({
        "namespaces": namespaces,
        "uidMappings": map,
        "gidMappings": map,
        "maskedPaths": [
            "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
            "/sys/firmware",
        ],
        "readonlyPaths": [
            "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
        ],
        "resources": {
            "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 7, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 8, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm" },
                { "allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm" },
                { "allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm" },
            ],
            "pids": { "limit": 4096 },
        },
    })
}
