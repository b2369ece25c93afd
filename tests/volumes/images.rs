//! The provider's images: no page shared, and nobody else's mounted.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cloison_linux::host::{self, Reach, attribute};
use cloison_sandbox::{IdRange, OwnAccess, OwnRoot, Prepared, Root, SandboxName, Spec};
use cloison_storage::{ImageKind, Lacking, ProviderImage, Refused, VolumeError};
use cloison_tests::{Outcome, REPORT};

use crate::ground::{
    DISK, Ground, check, missing, mounted, mounted_descriptor, run, unmounted, wants,
};

const FILE_BYTES: usize = 4 << 20;

/// Images with one file of bytes that do not compress to nothing.
fn images() -> [(ImageKind, PathBuf); 2] {
    for folder in ["/tmp/tree", "/tmp/images"] {
        // What a case that failed left.
        if Path::new(folder).exists() {
            fs::remove_dir_all(folder).unwrap();
        }
    }
    let tree = Path::new("/tmp/tree");
    fs::create_dir(tree).unwrap();
    let mut bytes = vec![0_u8; FILE_BYTES];
    let mut number: u32 = 1;
    for byte in &mut bytes {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = number.to_be_bytes()[0];
    }
    fs::write(tree.join("file"), bytes).unwrap();
    let folder = Path::new("/tmp/images");
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let (squashfs, erofs) = (folder.join("base.squashfs"), folder.join("base.erofs"));
    let source = tree.to_str().unwrap();
    let made = Command::new("mksquashfs")
        .args([source, squashfs.to_str().unwrap(), "-quiet", "-no-progress"])
        .status()
        .unwrap();
    assert!(made.success());
    let made = Command::new("mkfs.erofs")
        .arg(&erofs)
        .arg(source)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    [(ImageKind::Squashfs, squashfs), (ImageKind::Erofs, erofs)]
}

fn removed() {
    for folder in ["/tmp/tree", "/tmp/images"] {
        fs::remove_dir_all(folder).unwrap();
    }
}

/// The pages of a file that are in memory.
fn resident(path: &Path) -> u64 {
    let output = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "PAGES"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap()
}

/// A tenant reads all of a file; what of it the other has in memory.
pub(crate) fn share_no_page() -> Outcome {
    for program in ["mksquashfs", "mkfs.erofs", "fincore"] {
        if let Some(skipped) = missing(program) {
            return skipped;
        }
    }
    let ground = Ground::new("pages");
    let mut faults = Vec::new();
    for (kind, path) in images() {
        let image = ProviderImage::open(&path).unwrap();
        check(&mut faults, image.kind() == kind, || {
            format!("{:?}", image.kind())
        });
        let [one, other] = ["one", "other"].map(|_| image.attach(None).unwrap());
        let cache = one.cache;
        let first = mounted(one, &ground.place.join("one"));
        // The control: one file system for two.
        let path = CString::new(first.to_str().unwrap()).unwrap();
        let shared = host::open_tree(None, &path, Reach::One).unwrap();
        let points = [
            first,
            mounted(other, &ground.place.join("other")),
            mounted_descriptor(shared, &ground.place.join("shared")),
        ];
        let files = points.clone().map(|point| point.join("file"));
        let inodes = files.clone().map(|file| {
            let status = fs::metadata(file).unwrap();
            (status.dev(), status.ino())
        });
        let before = files.clone().map(|file| resident(&file));
        let read = fs::read(&files[0]).unwrap().len();
        let after = files.clone().map(|file| resident(&file));
        println!("{REPORT}{kind:?}, host's copy {cache:?}: pages {before:?}, then {after:?}");
        let pages = (read / 4096) as u64;
        check(
            &mut faults,
            before == [0; 3] && after == [pages, 0, pages],
            || format!("{kind:?}: pages {before:?}, then {after:?}"),
        );
        let apart = inodes[0] != inodes[1] && inodes[0] == inodes[2];
        check(&mut faults, apart, || format!("{inodes:?}"));
        let written = File::create(points[0].join("new")).map_err(|error| error.raw_os_error());
        check(
            &mut faults,
            written.is_err_and(|errno| errno == Some(30)),
            || "it can be written".to_owned(),
        );
        let flags = nix::sys::statvfs::statvfs(&points[0]).unwrap().flags();
        let wanted = nix::sys::statvfs::FsFlags::ST_NODEV | nix::sys::statvfs::FsFlags::ST_NOSUID;
        check(&mut faults, flags.contains(wanted), || format!("{flags:?}"));
        for point in points {
            unmounted(&point);
        }
    }
    removed();
    faults.into()
}

/// A user namespace that maps an image's ids to a server's.
fn mapping() -> (IdRange, Prepared) {
    let ids = IdRange::new(DISK + IdRange::COUNT).unwrap();
    let name = SandboxName::new("image".to_owned()).unwrap();
    let mut spec = Spec::new(name, vec!["/bin/true".to_owned()]);
    spec.ids = Some(ids);
    spec.root = Root::Own(OwnRoot {
        path: "/tmp".into(),
        disk_ids: IdRange::new(DISK).unwrap(),
        access: OwnAccess::ReadOnly,
    });
    (ids, Prepared::new(&spec).unwrap())
}

/// What is attached takes the map of a sandbox: the files are the server's.
pub(crate) fn mapped() -> Outcome {
    let ground = Ground::new("mapped");
    let mut faults = Vec::new();
    let (ids, prepared) = mapping();
    let mapping = prepared.tree_ids().unwrap().as_fd();
    for (kind, path) in images() {
        let image = ProviderImage::open(&path).unwrap();
        let found = image.attach(Some(mapping));
        let copy = image.attach(None).unwrap();
        let at = copy.mount.as_fd();
        let maps = host::set_mount_attributes(at, attribute::IDMAP, 0, Some(mapping), Reach::One);
        println!("{REPORT}{kind:?}: {maps:?}");
        match found {
            Ok(_) if maps.is_ok() => {}
            Err(VolumeError::Lacking(Lacking::MapOfIds(_))) if maps.is_err() => {}
            found => faults.push(format!("{kind:?}: {found:?}, and {maps:?}")),
        }
    }
    removed();
    let volumes = crate::ground::volumes(&ground.directory("tenant"));
    let data = crate::ground::name("data");
    let new = crate::ground::image(crate::ground::LIMITS, cloison_storage::Space::Sparse);
    volumes.create(&data, &new).unwrap();
    let attached = volumes.attach(&data).unwrap();
    let at = attached.mount.as_fd();
    host::set_mount_attributes(at, attribute::IDMAP, 0, Some(mapping), Reach::One).unwrap();
    let owner = host::entry(at, c"").unwrap();
    let is_servers = (owner.user, owner.group) == (ids.first(), ids.first());
    check(&mut faults, is_servers, || format!("{owner:?}"));
    drop(attached);
    faults.into()
}

/// Each way in which an image is not the provider's; the last is his.
pub(crate) fn not_the_providers() -> Outcome {
    for program in ["mksquashfs", "mkfs.erofs"] {
        if let Some(skipped) = missing(program) {
            return skipped;
        }
    }
    let ground = Ground::new("foreign");
    let mut faults = Vec::new();
    let [(_, good), _] = images();
    let folder = good.parent().unwrap();
    let is_foreign =
        |error: &VolumeError| matches!(error, VolumeError::Refused(Refused::NotTheProviders(_)));
    let refuse = |faults: &mut Vec<String>, what: &str, path: &Path| {
        wants(faults, what, ProviderImage::open(path), is_foreign);
    };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (what, path, usual) in [
        ("file", good.as_path(), 0o644),
        ("directory", folder, 0o755),
    ] {
        chown(path, Some(DISK), None).unwrap();
        refuse(&mut faults, &format!("a tenant's {what}"), &good);
        chown(path, Some(0), None).unwrap();
        for bits in [0o020, 0o002] {
            mode(path, usual | bits);
            refuse(&mut faults, &format!("a {what} that others write"), &good);
        }
        mode(path, usual);
    }
    mode(folder, 0o1777);
    refuse(&mut faults, "a directory that all share", &good);
    mode(folder, 0o755);
    let deep = folder.join("deep");
    fs::create_dir(&deep).unwrap();
    fs::copy(&good, deep.join("image")).unwrap();
    chown(folder, Some(DISK), None).unwrap();
    refuse(
        &mut faults,
        "a directory beneath a tenant's",
        &deep.join("image"),
    );
    chown(folder, Some(0), None).unwrap();
    symlink(&good, folder.join("link")).unwrap();
    refuse(&mut faults, "a link", &folder.join("link"));
    symlink(folder, "/tmp/images-link").unwrap();
    refuse(
        &mut faults,
        "a directory that is a link",
        Path::new("/tmp/images-link/base.squashfs"),
    );
    fs::remove_file("/tmp/images-link").unwrap();
    refuse(&mut faults, "a way up", &deep.join("../base.squashfs"));
    refuse(&mut faults, "no absolute path", Path::new("base.squashfs"));
    refuse(&mut faults, "a directory", folder);

    // What else the kernel would mount is none of these two.
    let other = folder.join("ext4");
    File::create(&other).unwrap().set_len(16 << 20).unwrap();
    assert!(run("mkfs.ext4", &["-q", "-F"], &other));
    for path in [&other, &folder.join("short")] {
        if !path.exists() {
            fs::write(path, "hsqs").unwrap();
        }
        wants(
            &mut faults,
            "another kind",
            ProviderImage::open(path),
            |error| matches!(error, VolumeError::Refused(Refused::NotAnImage)),
        );
    }
    check(&mut faults, ground.devices().is_empty(), || {
        "a refused one got a device".to_owned()
    });
    let mounted = ProviderImage::open(&good).and_then(|image| image.attach(None));
    check(&mut faults, mounted.is_ok(), || {
        format!("the provider's: {mounted:?}")
    });
    drop(mounted);
    removed();
    faults.into()
}
