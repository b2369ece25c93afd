//! What a tenant's volume does not do for him, and what it never shows.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cloison_linux::host::{self, Reach, attribute};
use cloison_storage::Space;
use cloison_tests::Outcome;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::ground::{DISK, Ground, LIMITS, check, image, mounted, name, run, unmounted, volumes};

/// An ordinary user of the host.
const USER: u32 = 65534;

/// A set-user-id program and a device node, and the same on a mount without the
/// attributes.
pub(crate) fn inert() -> Outcome {
    let ground = Ground::new("inert");
    let volumes = volumes(&ground.directory("tenant"));
    let data = name("data");
    volumes
        .create(&data, &image(LIMITS, Space::Sparse))
        .unwrap();
    let attached = volumes.attach(&data).unwrap();
    // Where an ordinary user can go.
    let whole = mounted(attached, Path::new("/tmp/whole"));
    // What is attached nowhere is copied only since 6.15.
    let weak = host::open_tree(None, c"/tmp/whole", Reach::One).unwrap();
    let clear = attribute::NO_SUID | attribute::NO_DEV;
    host::set_mount_attributes(weak.as_fd(), 0, clear, None, Reach::One).unwrap();
    let weak = crate::ground::mounted_descriptor(weak, Path::new("/tmp/weak"));
    let program = whole.join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    chown(&program, Some(DISK), Some(DISK)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let node = whole.join("null");
    mknod(
        &node,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 3),
    )
    .unwrap();
    let seen = [&whole, &weak].map(|point| {
        let id = Command::new(point.join("id"))
            .arg("-u")
            .uid(USER)
            .gid(USER)
            .output()
            .unwrap();
        let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
        let opened = File::open(point.join("null"))
            .err()
            .and_then(|error| error.raw_os_error());
        (id, opened)
    });
    for point in [whole, weak] {
        unmounted(&point);
    }
    let wanted = [
        (USER.to_string(), Some(Errno::EACCES as i32)),
        (DISK.to_string(), None),
    ];
    if seen == wanted {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("on the volume, on the control: {seen:?}"))
    }
}

/// Not to be found by chance.
const PATTERN: &[u8; 32] = b"cloison-remanence-of-a-neighbour";

fn write_pattern(point: &Path) {
    let mut file = File::create(point.join("secret")).unwrap();
    for _ in 0..(4 << 20) / PATTERN.len() {
        file.write_all(PATTERN).unwrap();
    }
    file.sync_all().unwrap();
}

/// How often the pattern stands in a file, at its own length's places.
fn found(path: &Path) -> usize {
    let mut file = File::open(path).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let mut count = 0;
    loop {
        let read = file.read(&mut bytes).unwrap();
        if read == 0 {
            return count;
        }
        count += bytes[..read]
            .chunks(PATTERN.len())
            .filter(|part| part == PATTERN)
            .count();
    }
}

/// An image, what it grows by, and the file of a removed one that somebody has
/// open yet; and an image that was used again without wiping.
pub(crate) fn remanence() -> Outcome {
    let ground = Ground::new("remanence");
    let host = ground
        .disk(&["mkfs.ext4", "-q", "-m", "0"], "defaults", 256 << 20)
        .unwrap();
    let volumes = volumes(&host);
    let mut faults = Vec::new();
    let point = ground.place.join("point");
    for space in [Space::Reserved, Space::Sparse] {
        let old = name("old");
        volumes.create(&old, &image(LIMITS, space)).unwrap();
        write_pattern(&mounted(volumes.attach(&old).unwrap(), &point));
        unmounted(&point);
        let entry = |name: &str| {
            let kind = if space == Space::Reserved {
                "reserved"
            } else {
                "sparse"
            };
            host.join(format!("{name}.{kind}"))
        };
        let written = found(&entry("old"));
        check(&mut faults, written > 100_000, || {
            format!("{written} written")
        });

        // The control: the tables of a new file system over the old bytes.
        let naive = host.join("naive");
        fs::hard_link(entry("old"), &naive).unwrap();
        let again = run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"], &naive);
        let shown = found(&naive);
        check(&mut faults, again && shown > 100_000, || {
            format!("the control: {shown}")
        });
        fs::remove_file(&naive).unwrap();

        let kept = File::open(entry("old")).unwrap();
        volumes.remove(&old).unwrap();
        check(&mut faults, kept.metadata().unwrap().len() == 0, || {
            "still open".to_owned()
        });
        drop(kept);
        // All of the room that the removed one had, and more.
        let new = name("new");
        volumes
            .create(&new, &image(LIMITS, Space::Reserved))
            .unwrap();
        let grown = cloison_storage::Limits {
            bytes_max: 180 << 20,
            inodes_max: 2048,
        };
        let before = found(&host.join("new.reserved"));
        volumes.resize(&new, grown).unwrap();
        let after = found(&host.join("new.reserved"));
        check(&mut faults, (before, after) == (0, 0), || {
            format!("{before}, grown {after}")
        });
        volumes.remove(&new).unwrap();
    }
    faults.into()
}
