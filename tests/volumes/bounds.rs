//! Limits that hold, whatever bounds the volume.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cloison_storage::{Kind, Lacking, Limits, Means, NewVolume, Refused, Space, VolumeError};
use cloison_tests::{Outcome, REPORT};
use nix::sys::statvfs::statvfs;

use crate::ground::{
    DISK, Ground, LIMITS, MIB, bytes_on_disk, check, fill_bytes, fill_inodes, image, missing,
    mounted, name, unmounted, volumes, wants,
};

/// Two volumes in one directory of the host's; one is filled.
fn bounded(ground: &Ground, directory: &Path, means: Means, faults: &mut Vec<String>) {
    let volumes = volumes(directory);
    let new = NewVolume {
        means,
        ..image(LIMITS, Space::Reserved)
    };
    let made = ["data", "neighbour"].map(|one| volumes.create(&name(one), &new).unwrap());
    let limits = made[0].limits;
    check(faults, limits == LIMITS, || format!("{limits:?}"));
    check(faults, volumes.list().unwrap() == made, || {
        "the list".to_owned()
    });
    let [data, neighbour] = ["data", "neighbour"]
        .map(|one| mounted(volumes.attach(&name(one)).unwrap(), &ground.place.join(one)));
    let root = fs::metadata(&data).unwrap();
    check(faults, (root.uid(), root.gid()) == (DISK, DISK), || {
        format!("root {root:?}")
    });
    let found = fs::read_dir(&data).unwrap().count();
    check(faults, found == 0, || {
        "something lies in a new volume".to_owned()
    });
    let free = |path: &Path| {
        let found = statvfs(path).unwrap();
        (found.blocks_free(), found.files_free())
    };
    let before = (
        free(&neighbour),
        statvfs(directory).unwrap().blocks_available(),
    );

    let inodes = fill_inodes(&data, 4 * limits.inodes_max);
    // Its root, the directory, and ten that an image keeps.
    let (least, most) = (limits.inodes_max - 12, limits.inodes_max - 2);
    check(faults, (least..=most).contains(&inodes), || {
        format!("{inodes} inodes")
    });
    fs::remove_dir_all(data.join("inodes")).unwrap();
    let bytes = fill_bytes(&data, 4 * limits.bytes_max);
    let range = limits.bytes_max * 4 / 5..=limits.bytes_max;
    check(faults, range.contains(&bytes), || format!("{bytes} bytes"));
    println!(
        "{REPORT}{:?}: {inodes} files and {bytes} bytes of {limits:?}",
        made[0].kind
    );

    let after = free(&neighbour);
    check(faults, before.0 == after, || {
        format!("neighbour {:?}, {after:?}", before.0)
    });
    fs::write(neighbour.join("file"), "written").unwrap();
    if let Kind::Image { .. } = made[0].kind {
        let taken = bytes_on_disk(&directory.join("data.reserved"));
        let slack = limits.bytes_max / 256;
        check(faults, taken <= limits.bytes_max + slack, || {
            format!("{taken} on disk")
        });
    }
    for one in [data, neighbour] {
        unmounted(&one);
    }
}

pub(crate) fn image_on_disk() -> Outcome {
    let ground = Ground::new("bounded");
    let mut faults = Vec::new();
    let directory = ground.directory("tenant");
    bounded(&ground, &directory, Means::Image, &mut faults);
    faults.into()
}

/// Where the file system keeps quotas of projects, it is what is taken.
pub(crate) fn quota() -> Outcome {
    if let Some(skipped) = missing("mkfs.xfs") {
        return skipped;
    }
    let ground = Ground::new("quota");
    let make = ["mkfs.xfs", "-q"];
    let ext4 = [
        "mkfs.ext4",
        "-q",
        "-O",
        "quota,project",
        "-E",
        "quotatype=prjquota",
    ];
    let host = ground
        .disk(&make, "prjquota", 320 * MIB)
        .or_else(|| ground.disk(&ext4, "prjquota", 320 * MIB));
    let Some(host) = host else {
        return Outcome::Skipped("neither xfs nor ext4 keeps quotas of projects here".to_owned());
    };
    let mut faults = Vec::new();
    bounded(&ground, &host, Means::Any, &mut faults);
    let volumes = volumes(&host);
    for volume in volumes.list().unwrap() {
        let is_quota = matches!(volume.kind, Kind::ProjectQuota { project } if project > DISK);
        check(&mut faults, is_quota, || format!("{volume:?}"));
    }
    let grown = Limits {
        bytes_max: 2 * LIMITS.bytes_max,
        inodes_max: 2 * LIMITS.inodes_max,
    };
    let shrinks =
        |error: &VolumeError| matches!(error, VolumeError::Refused(Refused::Shrinks { .. }));
    check(
        &mut faults,
        volumes.resize(&name("data"), grown).unwrap().limits == grown,
        || "not grown".to_owned(),
    );
    wants(
        &mut faults,
        "shrink",
        volumes.resize(&name("data"), LIMITS),
        shrinks,
    );
    deep(&host.join("data.quota"));
    volumes.remove(&name("data")).unwrap();
    check(
        &mut faults,
        fs::read_dir(&host).unwrap().count() == 1,
        || "something stays".to_owned(),
    );
    faults.into()
}

/// Deeper than there are descriptors, wider than one look.
fn deep(directory: &Path) {
    let mut at = fs::File::open(directory).unwrap();
    for _ in 0..1500 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty())
            .unwrap()
            .into();
    }
}

/// A quota of a subvolume bounds no inodes, so it is an image, which is not
/// written elsewhere each time.
pub(crate) fn on_btrfs() -> Outcome {
    if let Some(skipped) = missing("mkfs.btrfs") {
        return skipped;
    }
    let ground = Ground::new("btrfs");
    let Some(host) = ground.disk(&["mkfs.btrfs", "-q"], "defaults", 256 * MIB) else {
        return Outcome::Skipped("this kernel mounts no btrfs".to_owned());
    };
    let mut faults = Vec::new();
    bounded(&ground, &host, Means::Any, &mut faults);
    let listed = std::process::Command::new("lsattr")
        .arg(host.join("data.reserved"))
        .output()
        .unwrap();
    let flags = String::from_utf8_lossy(&listed.stdout);
    let flags = flags.split(' ').next().unwrap_or_default();
    check(&mut faults, flags.contains('C'), || {
        format!("flags {flags}")
    });
    faults.into()
}

/// What cannot be had says why, and what to do.
pub(crate) fn refusals() -> Outcome {
    let ground = Ground::new("refusals");
    let directory = ground.directory("tenant");
    let volumes = volumes(&directory);
    let mut faults = Vec::new();
    let new = image(LIMITS, Space::Sparse);
    let limited = |bytes_max, inodes_max| {
        let limits = Limits {
            bytes_max,
            inodes_max,
        };
        volumes.create(&name("data"), &image(limits, Space::Sparse))
    };
    wants(&mut faults, "few bytes", limited(MIB, 64), |error| {
        matches!(error, VolumeError::Refused(Refused::TooFewBytes { .. }))
    });
    wants(&mut faults, "few inodes", limited(64 * MIB, 8), |error| {
        matches!(error, VolumeError::Refused(Refused::TooFewInodes { .. }))
    });
    wants(
        &mut faults,
        "many inodes",
        limited(64 * MIB, 1 << 20),
        |error| matches!(error, VolumeError::Refused(Refused::TooManyInodes { .. })),
    );
    let by_quota = NewVolume {
        means: Means::ProjectQuota,
        ..new
    };
    wants(
        &mut faults,
        "no quota",
        volumes.create(&name("data"), &by_quota),
        |error| matches!(error, VolumeError::Lacking(Lacking::ProjectQuota)),
    );
    let control = "/dev/loop-control";
    fs::rename(control, "/dev/aside").unwrap();
    wants(
        &mut faults,
        "no loop",
        volumes.create(&name("data"), &new),
        |error| matches!(error, VolumeError::Lacking(Lacking::LoopDevices)),
    );
    fs::rename("/dev/aside", control).unwrap();
    check(
        &mut faults,
        fs::read_dir(&directory).unwrap().count() == 0,
        || "a refusal left something".to_owned(),
    );
    volumes.create(&name("data"), &new).unwrap();
    wants(
        &mut faults,
        "twice",
        volumes.create(&name("data"), &new),
        |error| matches!(error, VolumeError::Exists(_)),
    );
    wants(
        &mut faults,
        "missing",
        volumes.attach(&name("other")),
        |error| matches!(error, VolumeError::Missing(_)),
    );
    let sparse = directory.join("data.sparse");
    for (what, mode) in [("tenant's", 0o644), ("host's", 0o600)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&sparse, mode).unwrap();
        let shown = volumes.show(&name("data"));
        if what == "host's" {
            check(&mut faults, shown.is_ok(), || format!("{shown:?}"));
        } else {
            wants(&mut faults, what, shown, |error| {
                matches!(error, VolumeError::Damaged { .. })
            });
        }
    }
    fs::remove_file(&sparse).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &sparse).unwrap();
    wants(
        &mut faults,
        "link",
        volumes.attach(&name("data")),
        |error| matches!(error, VolumeError::Damaged { .. }),
    );
    faults.into()
}
