//! What is refused, each for its reason.

use super::archive::COMPRESSIONS;
use super::*;

fn only(header: Header) -> Tried {
    let mut archive = Archive::new();
    archive.add(header, b"");
    tried(&archive)
}

fn after(first: Header, second: Header) -> Tried {
    let mut archive = Archive::new();
    archive.add(first, b"");
    archive.add(second, b"");
    tried(&archive)
}

fn records(kind: u8, records: &[(&str, &str)]) -> Tried {
    let mut archive = Archive::new();
    archive.extended(kind, records);
    archive.add(Header::file("file"), b"");
    tried(&archive)
}

#[test]
fn entries_that_break_a_rule_are_refused_by_its_name() {
    for (header, rule) in [
        (Header::file("../a"), Rule::DotDot),
        (Header::file("/a"), Rule::Absolute),
        (Header::file(""), Rule::NoName),
        (Header::file("a/"), Rule::TrailingSlash),
        (Header::link("a/", "b"), Rule::TrailingSlash),
        (Header::file("."), Rule::Top),
        (Header::link(".", "/etc"), Rule::Top),
        (Header::new("a", b'3'), Rule::Device),
        (Header::new("a", b'4'), Rule::Device),
        (Header::new("a", b's'), Rule::Kind(b's')),
        (Header::new("a", b'V'), Rule::Kind(b'V')),
        (Header::new("a", b'M'), Rule::Kind(b'M')),
        (Header::new("a", b'D'), Rule::Kind(b'D')),
        (Header::new("a", 0xff), Rule::Kind(0xff)),
        (Header::link("a", ""), Rule::LinkTarget),
        (Header::hard("a", "b"), Rule::HardLinkTarget),
        (Header::hard("a", "."), Rule::HardLinkTarget),
        (Header::hard("a", "../b"), Rule::HardLinkName),
        (Header::hard("a", "/etc/passwd"), Rule::HardLinkName),
        (Header::hard("a", ""), Rule::HardLinkName),
        (Header::hard("a", "./a"), Rule::HardLinkToItself),
        (Header::directory("a").size(512), Rule::Content),
        (Header::link("a", "b").size(512), Rule::Content),
        (Header::hard("a", "b").size(512), Rule::Content),
        (Header::file("a").user(b"0200000\0"), Rule::Owner),
        (Header::file("a").user(&[0xff; 8]), Rule::Owner),
        (Header::file("a").time(-(1 << 31) - 1), Rule::Time),
        (Header::file("a").time(1 << 34), Rule::Time),
        (Header::file("a").time(i64::MIN), Rule::Time),
    ] {
        let tried = only(header);
        assert_eq!(tried.rule(), rule);
        let Err(Error::Refused { entry: 1, .. }) = tried.result else {
            panic!("{:?}", tried.result);
        };
    }
}

#[test]
fn what_lies_beneath_a_link_or_a_file_is_refused() {
    for (first, second, rule) in [
        (
            Header::link("a", "/tmp"),
            Header::file("a/b"),
            Rule::BeneathLink,
        ),
        (
            Header::link("a", "."),
            Header::file("a/b"),
            Rule::BeneathLink,
        ),
        (
            Header::link("a", ".."),
            Header::directory("a/b/c"),
            Rule::BeneathLink,
        ),
        (
            Header::link("a", "a"),
            Header::file("a/b"),
            Rule::BeneathLink,
        ),
        (Header::file("a"), Header::file("a/b"), Rule::BeneathFile),
        (Header::file("a"), Header::file("a/b/c"), Rule::BeneathFile),
        (
            Header::new("a", b'6'),
            Header::file("a/b"),
            Rule::BeneathFile,
        ),
        (
            Header::link("a", "/etc/passwd"),
            Header::hard("b", "a"),
            Rule::HardLinkTarget,
        ),
        (
            Header::link("a", "/etc"),
            Header::hard("b", "a/passwd"),
            Rule::HardLinkTarget,
        ),
        (
            Header::directory("a"),
            Header::hard("b", "a"),
            Rule::HardLinkTarget,
        ),
        (
            Header::new("a", b'6'),
            Header::hard("b", "a"),
            Rule::HardLinkTarget,
        ),
        (Header::file("a/b"), Header::file("a"), Rule::FullDirectory),
        (
            Header::file("a/b"),
            Header::link("a", "b"),
            Rule::FullDirectory,
        ),
    ] {
        assert_eq!(after(first, second).rule(), rule);
    }
}

#[test]
fn file_that_the_archive_did_not_make_is_never_linked() {
    // The directory is filled by somebody else meanwhile.
    let place = Place::new();
    fs::create_dir(place.0.join("tree")).unwrap();
    let foreign = place.0.join("tree/foreign");
    let mut archive = Archive::new();
    archive.add(Header::file("a"), b"");
    let first = archive.open();
    archive.add(Header::hard("b", "foreign"), b"");
    let bytes = archive.bytes();
    let (first, rest) = bytes.split_at(first.len());
    let writes = Interruption(|| fs::write(&foreign, "foreign").unwrap());
    let archive = first.chain(writes).chain(rest);
    let result = unpack(archive, place.open("tree").as_fd(), &mine());
    let tried = Tried { place, result };
    assert_eq!(tried.rule(), Rule::HardLinkTarget);
    assert!(!tried.tree().join("b").exists());
}

/// A reader without content that does something when it is reached.
struct Interruption<F>(F);

impl<F: Fn()> Read for Interruption<F> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        (self.0)();
        Ok(0)
    }
}

#[test]
fn extended_headers_that_readers_could_take_differently_are_refused() {
    let is = |tried: &Tried, expected: fn(&Fault) -> bool| assert!(expected(tried.fault()));
    is(&records(b'x', &[("size", "512")]), |fault| {
        matches!(fault, Fault::Twice)
    });
    for key in [
        "path",
        "linkpath",
        "size",
        "GNU.sparse.name",
        "SCHILY.xattr.user.a",
    ] {
        let all = records(b'g', &[(key, "1")]);
        is(&all, |fault| matches!(fault, Fault::Global));
    }
    let mut archive = Archive::new();
    archive.pax(&[("path", "a")]);
    archive.long(b'L', b"b");
    archive.add(Header::file("c"), b"");
    is(&tried(&archive), |fault| matches!(fault, Fault::Twice));
    let mut archive = Archive::new();
    archive.pax(&[("path", "a")]);
    archive.pax(&[("path", "b")]);
    archive.add(Header::file("c"), b"");
    is(&tried(&archive), |fault| matches!(fault, Fault::Twice));
    let mut archive = Archive::new();
    archive.pax(&[("path", "a")]);
    is(&tried(&archive), |fault| matches!(fault, Fault::Orphan));
    assert_eq!(records(b'x', &[("path", "a\0b")]).rule(), Rule::Nul);
    assert_eq!(records(b'x', &[("uid", "-1")]).rule(), Rule::Owner);
    assert_eq!(records(b'x', &[("uid", "65536")]).rule(), Rule::Owner);
    assert_eq!(
        records(b'x', &[("mtime", "99999999999")]).rule(),
        Rule::Time
    );
}

#[test]
fn broken_archives_are_told_apart() {
    let mut archive = Archive::new();
    archive.add(Header::file("a"), &[1; 5000]);
    let (open, bytes) = (archive.open(), archive.bytes());
    let fault = |bytes: &[u8]| with(bytes, &mine());
    for cut in [
        0,
        1,
        511,
        512,
        600,
        open.len() - 1,
        open.len(),
        open.len() + 512,
    ] {
        let tried = fault(&bytes[..cut]);
        assert!(matches!(tried.fault(), Fault::Truncated), "{cut}");
    }
    let mut damaged = bytes.clone();
    damaged[0] ^= 1;
    assert!(matches!(fault(&damaged).fault(), Fault::Checksum));
    let lone = [&open[..], &[0; 512], &open, &[0; 1024]].concat();
    assert!(matches!(fault(&lone).fault(), Fault::LoneZeros));
    let second = [&bytes[..], &bytes].concat();
    assert!(matches!(fault(&second).fault(), Fault::Trailing));
    let garbage = [&bytes[..], &[0; 512], b"x"].concat();
    assert!(matches!(fault(&garbage).fault(), Fault::Trailing));
    let padded = [&bytes[..], &[0; 100_000]].concat();
    assert_eq!(fault(&padded).unpacked().files, 1);
    let zeros = [&bytes[..], &vec![0; (1 << 20) + 1]].concat();
    assert!(matches!(fault(&zeros).fault(), Fault::Trailing));
    let bzip = fault(b"BZh91AY&SY");
    assert!(matches!(bzip.fault(), Fault::Compression("bzip2")));
}

#[test]
fn damaged_and_cut_streams_are_refused() {
    let mut archive = Archive::new();
    let content: Vec<u8> = (0..200_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 3) as u8)
        .collect();
    archive.add(Header::file("a"), &content);
    for (compression, compress) in COMPRESSIONS {
        let bytes = compress(&archive.bytes());
        for cut in [bytes.len() - 1, bytes.len() / 2, 7] {
            let tried = with(&bytes[..cut], &mine());
            let fault = tried.fault();
            assert!(
                matches!(fault, Fault::Compressed(_) | Fault::Truncated),
                "{compression:?} {cut}: {fault}"
            );
        }
        let garbage = [&bytes[..], b"garbage"].concat();
        let tried = with(garbage.as_slice(), &mine());
        assert!(
            matches!(tried.fault(), Fault::Compressed(_)),
            "{compression:?}"
        );
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        let tried = with(damaged.as_slice(), &mine());
        assert!(tried.result.is_err(), "{compression:?}");
    }
}

#[test]
fn error_of_the_reader_is_no_fault_of_the_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let mut archive = Archive::new();
    archive.add(Header::file("a"), &[1; 5000]);
    for (_, compress) in COMPRESSIONS {
        let bytes = compress(&archive.bytes());
        let part = &bytes[..bytes.len() / 2];
        let tried = with(part.chain(Broken), &mine());
        assert!(matches!(tried.result, Err(Error::Read { .. })));
    }
}

#[test]
fn name_in_an_error_is_harmless() {
    let tried = only(Header::file("../\x1b]0;owned\x07"));
    let text = tried.result.unwrap_err().to_string();
    assert_eq!(
        text,
        r#"entry 1, "../\x1b]0;owned\x07": its name has a component .."#
    );
}
