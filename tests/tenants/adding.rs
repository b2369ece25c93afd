//! Tenants are added, or refused.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cloison::{Host, HostSettings, Pool, Removal, TenantSettings, TenantState};
use cloison_tests::{Outcome, REPORT};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Uid, chown};

use super::ground::{BLOCK, Place, name, names_in, nobody, refused, told};

fn settings() -> TenantSettings {
    TenantSettings::default()
}

pub(crate) fn own() -> Outcome {
    let place = Place::new(0, 4);
    let host = place.host();
    assert_eq!(host.tenants().unwrap(), []);
    let described = TenantSettings {
        description: "customer 1".parse().unwrap(),
        ..TenantSettings::default()
    };
    let first = host.add_tenant(&name("b"), described.clone()).unwrap();
    let second = host.add_tenant(&name("a"), settings()).unwrap();
    let start = *place.pool.ids().start();
    assert_eq!(first.block.first(), start);
    assert_eq!(second.block.first(), start + BLOCK);
    assert_eq!(first.state, TenantState::Present);
    assert_eq!(first.settings, described);
    // Another process, or the next day.
    let host = place.host();
    assert_eq!(host.tenants().unwrap(), [second.clone(), first.clone()]);
    assert_eq!(host.tenant(&name("b")).unwrap(), first);
    for tenant in [&first, &second] {
        let root = fs::metadata(place.storage(tenant.name.as_str())).unwrap();
        let disk = tenant.block.disk().first();
        assert_eq!((root.uid(), root.gid()), (disk, disk));
        assert_eq!(root.permissions().mode() & 0o7777, 0o700);
        host.open_storage(&tenant.name).unwrap();
    }
    assert_eq!(place.faults(&host), [""; 0]);
    let changed = host
        .change_tenant(&name("a"), |settings| *settings = described.clone())
        .unwrap();
    assert_eq!(host.tenant(&name("a")).unwrap(), changed);
    assert_eq!(changed.settings, described);
    // What somebody changed is not taken for a tenant's root.
    chown(&place.storage("a"), Some(Uid::from_raw(0)), None).unwrap();
    refused(
        host.open_storage(&name("a")),
        &["is not a tenant's root", "first id"],
    );
    let wide = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.storage("b"), wide).unwrap();
    refused(host.open_storage(&name("b")), &["0700"]);
    Outcome::Passed
}

pub(crate) fn harmless() -> Outcome {
    let place = Place::new(1, 4);
    let host = place.host();
    host.add_tenant(&name("a"), settings()).unwrap();
    let (inside, outside) = (place.storage("a"), Path::new("/tmp/beside"));
    fs::create_dir(outside).unwrap();
    for directory in [inside.as_path(), outside] {
        let program = directory.join("true");
        fs::copy("/bin/true", &program).unwrap();
        let mode = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(&program, mode).unwrap();
        let device = directory.join("null");
        mknod(&device, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
    }
    let denied = Some(io::ErrorKind::PermissionDenied);
    let ran = |path: &Path| {
        Command::new(path.join("true"))
            .status()
            .map_err(|e| e.kind())
    };
    assert_eq!(ran(&inside).err(), denied);
    let opened = |path: &Path| fs::File::open(path.join("null")).map_err(|e| e.kind());
    assert_eq!(opened(&inside).err(), denied);
    // The control: the stage's own `/tmp` takes programs, though no devices.
    assert!(ran(outside).is_ok_and(|status| status.success()));
    assert_eq!(mounts_of(&place), 1);
    let options = options_of(&place);
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(options.contains(option), "{options}");
    }
    // Private: nothing mounted beneath it spreads.
    assert!(!options.contains("shared:"), "{options}");
    // It is not mounted once more.
    drop(place.host());
    assert_eq!(mounts_of(&place), 1);
    drop(host);
    umount(&place.path.join("storage")).unwrap();
    assert!(
        ran(&inside).is_ok(),
        "the control: without the mount it runs"
    );
    drop(place.host());
    assert_eq!(ran(&inside).err(), denied);
    fs::remove_dir_all(outside).unwrap();
    Outcome::Passed
}

fn lines_of(place: &Place) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let storage = place.path.join("storage");
    let is_its = |line: &&str| line.split(' ').nth(4) == storage.to_str();
    mounts.lines().filter(is_its).map(str::to_owned).collect()
}

fn mounts_of(place: &Place) -> usize {
    lines_of(place).len()
}

fn options_of(place: &Place) -> String {
    lines_of(place).pop().unwrap()
}

pub(crate) fn many() -> Outcome {
    // As many as in the default pool, elsewhere.
    let mut place = Place::new(8, 1);
    place.pool = Pool::new(0x9000_0000, 0x9000_0000 + 255 * BLOCK + 917_503).unwrap();
    let size = |pool: Pool| (pool.ids().count(), pool.blocks().count());
    assert_eq!(size(place.pool), size(Pool::default()));
    let host = place.host();
    for nth in 1..=200 {
        host.add_tenant(&name(&format!("t{nth}")), settings())
            .unwrap();
    }
    assert_eq!(host.tenants().unwrap().len(), 200);
    assert_eq!(place.faults(&host), [""; 0]);
    for nth in 201..=255 {
        host.add_tenant(&name(&format!("t{nth}")), settings())
            .unwrap();
    }
    let before = place.picture();
    let one_more = || host.add_tenant(&name("t256"), settings());
    let wanted = [
        "no block left for one more tenant",
        "name a larger id_pool in host.toml",
    ];
    refused(one_more(), &wanted);
    assert_eq!(place.picture(), before);
    // The remedy helps.
    let settings_of_host = HostSettings {
        id_pool: Pool::new(0x9000_0000 - BLOCK, *place.pool.ids().end()).unwrap(),
        ..HostSettings::default()
    };
    let larger = Host::open(&place.path, settings_of_host).unwrap();
    let added = larger.add_tenant(&name("t256"), settings()).unwrap();
    assert_eq!(added.block.first(), 0x9000_0000 - BLOCK);
    assert_eq!(place.faults(&larger), [""; 0]);
    Outcome::Passed
}

pub(crate) fn thousand() -> Outcome {
    let mut place = Place::new(17, 1);
    place.pool = Pool::new(0xb000_0000, 0xb000_0000 + 1000 * BLOCK - 1).unwrap();
    let host = place.host();
    let begun = Instant::now();
    for nth in 1..=1000 {
        host.add_tenant(&name(&format!("t{nth}")), settings())
            .unwrap();
    }
    let added = begun.elapsed();
    let begun = Instant::now();
    let host = place.host();
    let listed = host.tenants().unwrap();
    println!(
        "{REPORT}{} tenants: added in {added:?}, opened and listed in {:?}",
        listed.len(),
        begun.elapsed()
    );
    assert_eq!(listed.len(), 1000);
    assert_eq!(place.faults(&host), [""; 0]);
    refused(
        host.add_tenant(&name("t1001"), settings()),
        &["no block left"],
    );
    Outcome::Passed
}

/// With another file over one of the host's.
fn covered<T>(file: &str, text: &str, act: impl FnOnce() -> T) -> T {
    let own = "/tmp/cover";
    let before = fs::read_to_string(file).unwrap_or_default();
    fs::write(own, format!("{before}{text}")).unwrap();
    let none: Option<&str> = None;
    mount(Some(own), file, none, MsFlags::MS_BIND, none).unwrap();
    let done = act();
    umount(file).unwrap();
    fs::remove_file(own).unwrap();
    done
}

pub(crate) fn refusals() -> Outcome {
    let place = Place::new(2, 4);
    let host = place.host();
    host.add_tenant(&name("a"), settings()).unwrap();
    fs::create_dir(place.storage("stray")).unwrap();
    let before = place.picture();
    refused(
        host.add_tenant(&name("a"), settings()),
        &[
            "a tenant a already, and he is present",
            "choose another name",
        ],
    );
    refused(
        host.add_tenant(&name("stray"), settings()),
        &["host-2/storage/stray is there already, and no tenant's"],
    );
    refused(host.change_tenant(&name("b"), |_| ()), &["no tenant b"]);
    refused(
        host.remove_tenant(&name("b"), Removal::Purge, nobody),
        &["no tenant b", "cloison tenant list"],
    );
    refused(host.open_storage(&name("b")), &["no tenant b"]);
    let id = place.pool.ids().start() + 3 * BLOCK + 17;
    for (file, text) in [
        ("/etc/passwd", format!("old:x:{id}:5::/:/bin/sh\n")),
        ("/etc/group", format!("old:x:{id}:\n")),
        ("/etc/subuid", format!("old:{id}:65536\n")),
        ("/etc/subgid", format!("old:{id}:65536\n")),
    ] {
        if !Path::new(file).exists() {
            return Outcome::Skipped(format!("this host has no {file} to cover"));
        }
        let line = fs::read_to_string(file).unwrap().lines().count() + 1;
        let place_of_it = format!("{file}, line {line}, names ids from {id} to ");
        let added = covered(file, &text, || host.add_tenant(&name("c"), settings()));
        refused(
            added,
            &[
                "clashes with the host's own",
                &place_of_it,
                "change that line",
            ],
        );
    }
    assert_eq!(place.picture(), before);
    // The control: without those lines he is added.
    host.add_tenant(&name("c"), settings()).unwrap();
    Outcome::Passed
}

pub(crate) fn pools() -> Outcome {
    let place = Place::new(3, 4);
    let (start, end) = (*place.pool.ids().start(), *place.pool.ids().end());
    let with = |first: u32, last: u32| {
        let settings = HostSettings {
            id_pool: Pool::new(first, last).unwrap(),
            ..HostSettings::default()
        };
        Host::open(&place.path, settings).unwrap()
    };
    let host = place.host();
    for one in ["a", "b"] {
        host.add_tenant(&name(one), settings()).unwrap();
    }
    let before = place.picture();
    for (first, last) in [
        (start + BLOCK, end),
        (start + 65_536, end),
        (start - 65_536, end),
        (start, start + BLOCK - 1),
    ] {
        let moved = with(first, last);
        let fragments = [
            "are no block of the pool",
            "give host.toml the id_pool back",
        ];
        refused(moved.add_tenant(&name("c"), settings()), &fragments);
        // Nobody is lost, and who is there is looked after.
        assert_eq!(moved.tenants().unwrap().len(), 2);
        assert_eq!(place.picture(), before);
    }
    let larger = with(start - BLOCK, end + BLOCK);
    let added = larger.add_tenant(&name("c"), settings()).unwrap();
    assert_eq!(added.block.first(), start - BLOCK);
    let smaller = with(start - BLOCK, start + 2 * BLOCK - 1);
    let none_left = smaller.add_tenant(&name("d"), settings()).unwrap_err();
    assert!(told(&none_left).contains("no block left"), "{none_left}");
    assert_eq!(names_in(&place.path.join("storage")), ["a", "b", "c"]);
    Outcome::Passed
}
