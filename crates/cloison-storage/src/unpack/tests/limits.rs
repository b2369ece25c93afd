//! How much an archive may be.

use super::archive::{COMPRESSIONS, gzip};
use super::*;

fn limited(archive: &Archive, change: impl Fn(&mut Limits)) -> Tried {
    let mut options = mine();
    change(&mut options.limits);
    with(archive.bytes().as_slice(), &options)
}

fn limit(tried: &Tried) -> (Limit, u64) {
    match &tried.result {
        Err(Error::Limit { limit, max, .. }) => (*limit, *max),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_limit_allows_its_number_and_no_more() {
    let mut archive = Archive::new();
    archive.add(Header::file("a/bc"), &[1; 100]);
    archive.add(Header::file("d"), &[1; 100]);
    let exact = limited(&archive, |limits| {
        limits.bytes_max = 200;
        limits.entries_max = 2;
        limits.path_bytes_max = 4;
        limits.depth_max = 2;
    });
    assert_eq!(exact.unpacked().bytes, 200);
    let bytes = limited(&archive, |limits| limits.bytes_max = 199);
    assert_eq!(limit(&bytes), (Limit::Bytes, 199));
    let entries = limited(&archive, |limits| limits.entries_max = 1);
    assert_eq!(limit(&entries), (Limit::Entries, 1));
    let path = limited(&archive, |limits| limits.path_bytes_max = 3);
    assert_eq!(limit(&path), (Limit::PathBytes, 3));
    let depth = limited(&archive, |limits| limits.depth_max = 1);
    assert_eq!(limit(&depth), (Limit::Depth, 1));
}

#[test]
fn holes_count_as_bytes() {
    let mut archive = Archive::new();
    let header = Header::new("a", b'S').gnu_sparse(&[(0, 512)], 1 << 30);
    archive.add(header, &[1; 512]);
    let tried = limited(&archive, |limits| limits.bytes_max = (1 << 30) - 1);
    assert_eq!(limit(&tried).0, Limit::Bytes);
    assert!(!tried.tree().join("a").exists());
}

#[test]
fn bombs_are_stopped_before_they_are_written() {
    let mut archive = Archive::new();
    archive.add(Header::file("zeros"), &vec![0; 24 << 20]);
    let bytes = archive.bytes();
    for (compression, compress) in COMPRESSIONS {
        let bomb = compress(&bytes);
        let tried = with(bomb.as_slice(), &mine());
        assert_eq!(limit(&tried), (Limit::Ratio, 250), "{compression:?}");
        let written = fs::metadata(tried.tree().join("zeros")).unwrap().len();
        assert!(written < 23 << 20, "{compression:?}: {written}");
    }
    let mut open = mine();
    open.limits.ratio_max = u64::MAX;
    assert_eq!(with(gzip(&bytes).as_slice(), &open).unpacked().files, 1);
}

#[test]
fn headers_without_entries_have_an_end() {
    let mut archive = Archive::new();
    for _ in 0..20 {
        archive.extended(b'g', &[("comment", "again")]);
    }
    let tried = limited(&archive, |limits| limits.entries_max = 10);
    assert_eq!(limit(&tried), (Limit::Entries, 10));
    let mut archive = Archive::new();
    archive.add(Header::new("x", b'x').size((1 << 20) + 1), b"");
    let tried = limited(&archive, |_| {});
    assert_eq!(limit(&tried), (Limit::ExtensionBytes, 1 << 20));
}
