//! Attached once, detached by whatever death, grown, removed, never half.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cloison_storage::{Limits, Refused, Space, VolumeError};
use cloison_tests::{Outcome, REPORT, quick};
use nix::fcntl::FallocateFlags;

use crate::actor;
use crate::ground::{
    Ground, LIMITS, MIB, bytes_on_disk, check, fill_bytes, image, mounted, name, unmounted,
    volumes, wants,
};

fn is_attached(error: &VolumeError) -> bool {
    matches!(error, VolumeError::Attached(_))
}

/// By this process, by another, by one that died while its mount lives.
pub(crate) fn attached_once() -> Outcome {
    let ground = Ground::new("once");
    let directory = ground.directory("tenant");
    let volumes = volumes(&directory);
    let data = name("data");
    volumes
        .create(&data, &image(LIMITS, Space::Sparse))
        .unwrap();
    let mut faults = Vec::new();
    let attached = volumes.attach(&data).unwrap();
    wants(&mut faults, "twice", volumes.attach(&data), is_attached);
    wants(&mut faults, "removed", volumes.remove(&data), is_attached);
    let larger = Limits {
        bytes_max: 96 * MIB,
        ..LIMITS
    };
    wants(
        &mut faults,
        "grown",
        volumes.resize(&data, larger),
        is_attached,
    );
    drop(attached);
    check(&mut faults, volumes.attach(&data).is_ok(), || {
        "not again".to_owned()
    });

    let point = ground.place.join("point");
    assert!(
        actor::start("mount", &directory, &point)
            .wait()
            .unwrap()
            .success()
    );
    wants(
        &mut faults,
        "of the dead",
        volumes.attach(&data),
        is_attached,
    );
    fs::write(point.join("file"), "written").unwrap();
    check(&mut faults, ground.devices().len() == 1, || {
        format!("{:?}", ground.devices())
    });
    unmounted(&point);
    let attached = volumes.attach(&data).unwrap();
    let read = fs::read_to_string(mounted(attached, &point).join("file"));
    check(
        &mut faults,
        read.is_ok_and(|text| text == "written"),
        || "lost".to_owned(),
    );
    unmounted(&point);
    faults.into()
}

/// Killed while it holds a volume, and at moments of making and removing.
pub(crate) fn killed() -> Outcome {
    let ground = Ground::new("killed");
    let directory = ground.directory("tenant");
    let volumes = volumes(&directory);
    let data = name("data");
    volumes
        .create(&data, &image(LIMITS, Space::Sparse))
        .unwrap();
    let mut faults = Vec::new();
    let mut child = actor::start("attach", &directory, Path::new("-"));
    wants(
        &mut faults,
        "of another",
        volumes.attach(&data),
        is_attached,
    );
    check(&mut faults, ground.devices().len() == 1, || {
        format!("{:?}", ground.devices())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    check(&mut faults, ground.settled().is_empty(), || {
        format!("{:?}", ground.devices())
    });
    check(&mut faults, volumes.attach(&data).is_ok(), || {
        "not again".to_owned()
    });

    let rounds = if quick() { 12 } else { 60 };
    let mut whole = 0;
    for round in 0..rounds {
        let mut child = actor::start("make", &directory, Path::new("-"));
        thread::sleep(Duration::from_millis(round * 7 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = ground.settled();
        check(&mut faults, left.is_empty(), || {
            format!("round {round}: {left:?}")
        });
        for volume in volumes.list().unwrap() {
            if volume.name == data {
                continue;
            }
            whole += 1;
            check(&mut faults, volume.limits == LIMITS, || {
                format!("{volume:?}")
            });
            let attached = volumes.attach(&volume.name);
            check(&mut faults, attached.is_ok(), || format!("{attached:?}"));
            drop(attached);
            volumes.remove(&volume.name).unwrap();
        }
    }
    println!("{REPORT}{rounds} kills: {whole} whole volumes found, none half");
    faults.into()
}

/// A full disk refuses what does not fit, and nothing of it is left.
pub(crate) fn full_host() -> Outcome {
    let ground = Ground::new("full");
    let host = ground
        .disk(&["mkfs.ext4", "-q", "-m", "0"], "defaults", 256 * MIB)
        .unwrap();
    fs::remove_dir(host.join("lost+found")).unwrap();
    let volumes = volumes(&host);
    let mut faults = Vec::new();
    let is_full = |error: &VolumeError| matches!(error, VolumeError::NoSpace(_));
    let free = || nix::sys::statvfs::statvfs(&host).unwrap().blocks_free();
    let before = free();
    let larger = Limits {
        bytes_max: 512 * MIB,
        inodes_max: 4096,
    };
    let made = volumes.create(&name("data"), &image(larger, Space::Reserved));
    wants(&mut faults, "made", made, is_full);
    check(&mut faults, free() == before, || {
        format!("{before} blocks free, then {}", free())
    });
    check(
        &mut faults,
        fs::read_dir(&host).unwrap().count() == 0,
        || "half".to_owned(),
    );

    for (one, space) in [("kept", Space::Reserved), ("sparse", Space::Sparse)] {
        volumes.create(&name(one), &image(LIMITS, space)).unwrap();
    }
    let (before, old) = (free(), volumes.show(&name("kept")).unwrap());
    let grown = volumes.resize(&name("kept"), larger);
    wants(&mut faults, "grown", grown, is_full);
    check(
        &mut faults,
        volumes.show(&name("kept")).unwrap() == old,
        || "half grown".to_owned(),
    );
    check(&mut faults, free() == before, || {
        format!("{before} blocks free, then {}", free())
    });

    // The host's disk is filled by another; each volume is filled then.
    let [kept, sparse] = ["kept", "sparse"]
        .map(|one| mounted(volumes.attach(&name(one)).unwrap(), &ground.place.join(one)));
    // A full disk has no room for it.
    fs::create_dir(host.join("more")).unwrap();
    let by_host = fill_bytes(&host, 1 << 40);
    let (mut bytes, mut failed) = (Vec::new(), Vec::new());
    for point in [&kept, &sparse] {
        let (written, error) = fill_and_flush(point, &host);
        bytes.push(written);
        failed.push(error);
    }
    println!("{REPORT}the host wrote {by_host}; reserved and sparse {bytes:?}, {failed:?}");
    let whole = bytes[0] > LIMITS.bytes_max * 4 / 5 && failed[0].is_none();
    check(&mut faults, whole, || {
        "the full disk touched what is set apart".to_owned()
    });
    // The control.
    check(&mut faults, failed[1].is_some(), || {
        "the disk was not full".to_owned()
    });
    faults.into()
}

/// Writes small pieces, apart and out of turn, into room that was asked for,
/// while the host takes what becomes free; then all of that room, then all there
/// is; how much, and what failed but for a full volume.
fn fill_and_flush(point: &Path, host: &Path) -> (u64, Option<std::io::Error>) {
    let bytes = match pieces(point, host) {
        Ok(bytes) => bytes,
        Err(error) => return (0, Some(error)),
    };
    (bytes + fill_bytes(point, 1 << 40), None)
}

fn pieces(point: &Path, host: &Path) -> std::io::Result<u64> {
    const ROOM: u64 = 8 << 20;
    let pieces = File::create(point.join("pieces")).unwrap();
    nix::fcntl::fallocate(&pieces, FallocateFlags::empty(), 0, ROOM as i64).unwrap();
    for at in (0..ROOM >> 15).rev() {
        pieces.write_all_at(&[7; 4096], at << 15)?;
        pieces.sync_data()?;
    }
    let more = host.join("more");
    println!("{REPORT}the host took {} more", fill_bytes(&more, 1 << 40));
    for at in 0..ROOM >> 16 {
        pieces.write_all_at(&[8; 1 << 16], at << 16)?;
        pieces.sync_data()?;
    }
    Ok(ROOM)
}

/// Content stays; the new limits hold; never smaller.
pub(crate) fn grown() -> Outcome {
    let ground = Ground::new("grown");
    let directory = ground.directory("tenant");
    let volumes = volumes(&directory);
    let mut faults = Vec::new();
    for (one, space) in [("kept", Space::Reserved), ("sparse", Space::Sparse)] {
        let one = name(one);
        volumes.create(&one, &image(LIMITS, space)).unwrap();
        let point = ground.place.join("point");
        fs::write(
            mounted(volumes.attach(&one).unwrap(), &point).join("file"),
            "old",
        )
        .unwrap();
        unmounted(&point);
        let asked = |bytes_max, inodes_max| {
            let limits = Limits {
                bytes_max,
                inodes_max,
            };
            volumes.resize(&one, limits)
        };
        wants(&mut faults, "shrunk", asked(32 * MIB, 1024), |error| {
            matches!(error, VolumeError::Refused(Refused::Shrinks { .. }))
        });
        wants(
            &mut faults,
            "other inodes",
            asked(256 * MIB, 1024),
            |error| {
                matches!(
                    error,
                    VolumeError::Refused(Refused::InodesOfImage { gives: 2048 })
                )
            },
        );
        let old = volumes.show(&one).unwrap().limits;
        check(&mut faults, old == LIMITS, || {
            format!("changed by a refusal: {old:?}")
        });
        let new = asked(200 * MIB, 2048).unwrap();
        let wanted = Limits {
            bytes_max: 200 * MIB,
            inodes_max: 2048,
        };
        check(&mut faults, new.limits == wanted, || format!("{new:?}"));
        let path = directory.join(if space == Space::Sparse {
            "sparse.sparse"
        } else {
            "kept.reserved"
        });
        if space == Space::Reserved {
            // What no file has yet, given back behind the volume's back.
            let image = File::options().write(true).open(&path).unwrap();
            let (punch, keep) = (
                FallocateFlags::FALLOC_FL_PUNCH_HOLE,
                FallocateFlags::FALLOC_FL_KEEP_SIZE,
            );
            nix::fcntl::fallocate(&image, punch | keep, 190 << 20, 8 << 20).unwrap();
            let taken = bytes_on_disk(&path);
            check(&mut faults, taken < 200 * MIB, || {
                format!("{taken} punched")
            });
            drop(volumes.attach(&one).unwrap());
        }
        let taken = bytes_on_disk(&path);
        let is_kept = (taken >= 200 * MIB) == (space == Space::Reserved);
        check(&mut faults, is_kept, || {
            format!("{space:?}: {taken} on disk")
        });
        mounted(volumes.attach(&one).unwrap(), &point);
        let old = fs::read_to_string(point.join("file")).unwrap();
        check(&mut faults, old == "old", || format!("{old:?}"));
        let bytes = fill_bytes(&point, 1 << 30);
        let range = 160 * MIB..=200 * MIB;
        check(&mut faults, range.contains(&bytes), || {
            format!("{bytes} bytes")
        });
        unmounted(&point);
        volumes.remove(&one).unwrap();
    }
    check(
        &mut faults,
        fs::read_dir(&directory).unwrap().count() == 0,
        || "left".to_owned(),
    );
    faults.into()
}
