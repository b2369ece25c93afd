//! Archives as a writer makes them that has no scruples.

use std::io::Write;

use crate::unpack::Compression;

#[derive(Clone)]
pub(super) struct Header([u8; 512]);

impl Header {
    pub(super) fn new(name: &str, kind: u8) -> Self {
        let mut this = Self([0; 512]);
        this.put(0, name.as_bytes());
        this.put(156, &[kind]);
        this.put(257, b"ustar\x0000");
        this.octal(108, 8, 0).octal(116, 8, 0).octal(124, 12, 0);
        this.mode(0o644).time(1_000_000)
    }

    pub(super) fn file(name: &str) -> Self {
        Self::new(name, b'0')
    }

    pub(super) fn directory(name: &str) -> Self {
        Self::new(name, b'5').mode(0o755)
    }

    pub(super) fn link(name: &str, target: &str) -> Self {
        Self::new(name, b'2').target(target.as_bytes())
    }

    pub(super) fn hard(name: &str, target: &str) -> Self {
        Self::new(name, b'1').target(target.as_bytes())
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn octal(&mut self, at: usize, length: usize, value: u64) -> &mut Self {
        let digits = format!("{value:0width$o}\0", width = length - 1);
        self.put(at, digits.as_bytes());
        self
    }

    pub(super) fn target(mut self, target: &[u8]) -> Self {
        self.put(157, target);
        self
    }

    pub(super) fn prefix(mut self, prefix: &str) -> Self {
        self.put(345, prefix.as_bytes());
        self
    }

    pub(super) fn mode(mut self, mode: u64) -> Self {
        self.octal(100, 8, mode);
        self
    }

    pub(super) fn user(mut self, field: &[u8; 8]) -> Self {
        self.put(108, field);
        self
    }

    /// A negative one in bytes.
    pub(super) fn time(mut self, seconds: i64) -> Self {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds < 1 << 33 => {
                self.octal(136, 12, seconds);
            }
            _ => {
                let sign = if seconds < 0 { 0xff } else { 0 };
                let mut bytes = [sign; 12];
                bytes[0] = if seconds < 0 { 0xff } else { 0x80 };
                bytes[4..].copy_from_slice(&seconds.to_be_bytes());
                self.put(136, &bytes);
            }
        }
        self
    }

    pub(super) fn size(mut self, size: u64) -> Self {
        self.octal(124, 12, size);
        self
    }

    /// At most four parts.
    pub(super) fn gnu_sparse(mut self, parts: &[(u64, u64)], length: u64) -> Self {
        self.put(257, b"ustar  \0");
        for (number, (offset, bytes)) in parts.iter().enumerate() {
            self.octal(386 + number * 24, 12, *offset);
            self.octal(398 + number * 24, 12, *bytes);
        }
        self.octal(483, 12, length);
        self
    }

    fn summed(mut self) -> [u8; 512] {
        self.put(148, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.octal(148, 7, sum);
        self.0
    }
}

#[derive(Clone)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// An entry whose size is that of its content.
    pub(super) fn add(&mut self, header: Header, content: &[u8]) {
        let header = match content {
            [] => header,
            content => header.size(content.len() as u64),
        };
        self.raw(&header.summed());
        self.raw(content);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(super) fn long(&mut self, kind: u8, name: &[u8]) {
        let content = [name, b"\0"].concat();
        self.add(Header::new("././@LongLink", kind), &content);
    }

    pub(super) fn pax(&mut self, records: &[(&str, &str)]) {
        self.extended(b'x', records);
    }

    pub(super) fn extended(&mut self, kind: u8, records: &[(&str, &str)]) {
        let records: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key.as_bytes(), value.as_bytes()))
            .collect();
        self.add(Header::new("PaxHeaders/x", kind), &records);
    }

    /// Without its end.
    pub(super) fn open(&self) -> Vec<u8> {
        self.0.clone()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

type Compress = fn(&[u8]) -> Vec<u8>;

pub(super) const COMPRESSIONS: [(Compression, Compress); 3] = [
    (Compression::Gzip, gzip),
    (Compression::Xz, xz),
    (Compression::Zstd, zstd),
];

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(6);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}
