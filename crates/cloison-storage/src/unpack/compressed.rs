//! The stream of an archive: which compression, found by its first bytes, and how
//! much may come out of how little.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde::Serialize;

/// The most memory that a decoder takes for what the archive refers back to: what
/// `xz -9` and `zstd --long` need, and half as much again for xz's own.
const WINDOW_BYTES_MAX: u64 = 128 << 20;
const XZ_MEMORY_KIB_MAX: u32 = 192 << 10;

/// The bytes that tell a compression.
const MAGIC_BYTES: usize = 6;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// It is not.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// The .xz format, any number of streams.
    Xz,
    /// RFC 8878, any number of frames, no dictionary.
    Zstd,
}

impl Compression {
    /// `Err`: one that is known and not supported.
    fn of(magic: &[u8]) -> Result<Self, &'static str> {
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Ok(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err("bzip2"),
            [0x1f, 0x9d, ..] => Err("compress"),
            [0x5d, 0, 0, ..] => Err("lzma"),
            [b'L', b'Z', b'I', b'P', ..] => Err("lzip"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err("lz4"),
            [b'P', b'K', 3, 4, ..] => Err("zip"),
            _ => Ok(Self::None),
        }
    }
}

/// Counts what was read of the archive, and keeps why that failed.
pub(super) struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    has_failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                let taken = self.taken.get().saturating_add(read as u64);
                self.taken.set(taken);
                Ok(read)
            }
            Err(error) => {
                self.has_failed
                    .set(error.kind() != io::ErrorKind::Interrupted);
                Err(error)
            }
        }
    }
}

type Raw<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

enum Decoder<R: Read> {
    None(Raw<R>),
    Gzip(Box<MultiGzDecoder<Raw<R>>>),
    Xz(Box<XzReader<Raw<R>>>),
    Zstd(Box<Frames<Raw<R>>>),
}

/// Why nothing more comes out.
pub(super) enum Failure {
    /// The reader of the archive failed.
    Read(io::Error),
    /// What was read is no such stream.
    Corrupt(io::Error),
    /// More comes out than may.
    Ratio,
}

/// An archive's stream, decompressed.
pub(super) struct Stream<R: Read> {
    decoder: Decoder<R>,
    pub(super) compression: Compression,
    given: u64,
    taken: Rc<Cell<u64>>,
    has_failed: Rc<Cell<bool>>,
    ratio_max: u64,
}

impl<R: Read> Stream<R> {
    /// The stream of `archive`, whose compression is told by how it begins;
    /// `Ok(Err)`: one that is not supported.
    pub(super) fn new(archive: R, ratio_max: u64) -> io::Result<Result<Self, &'static str>> {
        let (taken, has_failed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let mut archive = Counted {
            inner: archive,
            taken: Rc::clone(&taken),
            has_failed: Rc::clone(&has_failed),
        };
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        archive
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut magic)?;
        let compression = match Compression::of(&magic) {
            Ok(compression) => compression,
            Err(name) => return Ok(Err(name)),
        };
        let raw = BufReader::with_capacity(1 << 16, Cursor::new(magic).chain(archive));
        let decoder = match compression {
            Compression::None => Decoder::None(raw),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(raw))),
            Compression::Xz => {
                let reader = XzReader::new_mem_limit(raw, true, XZ_MEMORY_KIB_MAX);
                Decoder::Xz(Box::new(reader))
            }
            Compression::Zstd => Decoder::Zstd(Box::new(Frames::new(raw))),
        };
        Ok(Ok(Self {
            decoder,
            compression,
            given: 0,
            taken,
            has_failed,
            ratio_max,
        }))
    }

    pub(super) fn ratio_max(&self) -> u64 {
        self.ratio_max
    }

    /// The next bytes, 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        /// So much may come out whatever went in: headers are mostly zeros.
        const SLACK_BYTES: u64 = 16 << 20;
        let read = loop {
            let read = match &mut self.decoder {
                Decoder::None(raw) => raw.read(buffer),
                Decoder::Gzip(decoder) => decoder.read(buffer),
                Decoder::Xz(decoder) => decoder.read(buffer),
                Decoder::Zstd(decoder) => decoder.read(buffer),
            };
            match read {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.has_failed.get() => return Err(Failure::Read(error)),
                Err(error) => return Err(Failure::Corrupt(error)),
            }
        };
        self.given = self.given.saturating_add(read as u64);
        let allowed = self.taken.get().saturating_mul(self.ratio_max);
        if self.given > allowed.saturating_add(SLACK_BYTES) {
            return Err(Failure::Ratio);
        }
        Ok(read)
    }
}

/// The frames of a Zstandard stream, one after the other, each checked.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self {
            source,
            decoder,
            is_in_frame: false,
        }
    }

    /// Begins the next frame; `false` at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(u64::from(length));
                    let skipped = io::copy(&mut skipped, &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(error)),
            }
        }
    }

    /// The frame's own sum is that of what came out.
    fn check(&self) -> io::Result<()> {
        match self.decoder.get_checksum_from_data() {
            Some(sum) if Some(sum) != self.decoder.get_calculated_checksum() => {
                Err(invalid("the checksum of a frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_in_frame {
                if !self.begin()? {
                    return Ok(0);
                }
                self.is_in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, one)
                    .map_err(invalid)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.check()?;
            self.is_in_frame = false;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
