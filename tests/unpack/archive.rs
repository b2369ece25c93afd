//! Entries, and archives of them as a writer makes them that has no scruples.

use std::io::Write;

/// How a name comes into the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// In the header, or as GNU tar does where it is too long.
    Header,
    Pax,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    /// Its type, a letter.
    pub(crate) kind: u8,
    pub(crate) target: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) naming: Naming,
    /// Records before it.
    pub(crate) records: Vec<(&'static str, Vec<u8>)>,
}

impl Item {
    pub(crate) fn new(name: &[u8], kind: u8) -> Self {
        Self {
            name: name.to_vec(),
            kind,
            target: Vec::new(),
            content: Vec::new(),
            mode: 0o644,
            owner: 0,
            naming: Naming::Header,
            records: Vec::new(),
        }
    }

    pub(crate) fn file(name: &[u8], content: &[u8]) -> Self {
        Self {
            content: content.to_vec(),
            ..Self::new(name, b'0')
        }
    }

    pub(crate) fn directory(name: &[u8]) -> Self {
        Self {
            mode: 0o755,
            ..Self::new(name, b'5')
        }
    }

    /// A symbolic link (`2`) or a hard one (`1`).
    pub(crate) fn link(name: &[u8], kind: u8, target: &[u8]) -> Self {
        Self {
            target: target.to_vec(),
            ..Self::new(name, kind)
        }
    }
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Squeezed {
    No,
    Gzip,
    Xz,
    Zstd,
}

pub(crate) fn encode(items: &[Item], squeezed: Squeezed) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        add(&mut bytes, item);
    }
    bytes.extend([0; 1024]);
    match squeezed {
        Squeezed::No => bytes,
        Squeezed::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        Squeezed::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(0);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(&bytes).unwrap();
            writer.finish().unwrap()
        }
        Squeezed::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(bytes.as_slice(), level)
        }
    }
}

fn add(bytes: &mut Vec<u8>, item: &Item) {
    let mut records = item.records.clone();
    if item.naming == Naming::Pax {
        records.push(("path", item.name.clone()));
        if !item.target.is_empty() {
            records.push(("linkpath", item.target.clone()));
        }
    }
    if !records.is_empty() {
        let records: Vec<u8> = records.iter().flat_map(record).collect();
        block(bytes, &header(&Item::new(b"x", b'x'), records.len()));
        block(bytes, &records);
    }
    if item.naming == Naming::Header {
        for (kind, long) in [(b'L', &item.name), (b'K', &item.target)] {
            if long.len() > 100 {
                let content = [long.as_slice(), b"\0"].concat();
                block(
                    bytes,
                    &header(&Item::new(b"././@LongLink", kind), content.len()),
                );
                block(bytes, &content);
            }
        }
    }
    block(bytes, &header(item, item.content.len()));
    block(bytes, &item.content);
}

fn block(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn record((key, value): &(&str, Vec<u8>)) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn header(item: &Item, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    let cut = |field: &[u8]| field[..field.len().min(100)].to_vec();
    let octal = |value: usize, width: usize| format!("{value:0width$o}\0").into_bytes();
    put(0, &cut(&item.name));
    put(100, &octal(item.mode as usize, 7));
    put(108, &octal(item.owner as usize, 7));
    put(116, &octal(item.owner as usize, 7));
    put(124, &octal(size, 11));
    put(136, &octal(1_000_000, 11));
    put(148, b"        ");
    put(156, &[item.kind]);
    put(157, &cut(&item.target));
    put(
        257,
        if item.kind == b'S' {
            b"ustar  \0"
        } else {
            b"ustar\x0000"
        },
    );
    if matches!(item.kind, b'3' | b'4') {
        put(329, &octal(1, 7));
        put(337, &octal(3, 7));
    }
    if item.kind == b'S' {
        // One part, a page behind the start.
        put(386, &octal(4096, 11));
        put(398, &octal(size, 11));
        put(483, &octal(4096 + size, 11));
    }
    let sum: usize = header.iter().map(|byte| usize::from(*byte)).sum();
    header[148..156].copy_from_slice(&[octal(sum, 6), b" ".to_vec()].concat());
    header
}
