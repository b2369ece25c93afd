//! Programs that a binary carries as data.

use object::LittleEndian;
use object::read::elf::ElfFile64;

use super::Refusal;
use super::image::Image;

const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";

/// An ELF found in the constant data of another.
#[derive(Debug, Clone, Copy)]
pub struct Embedded<'a> {
    /// Where it lies in the memory of its host.
    pub address: u64,
    /// From its first byte to the end of the section that holds it.
    pub bytes: &'a [u8],
}

/// The linked programs in a binary's read-only data.
///
/// # Errors
/// As [`super::walk`] when the outer binary cannot be read.
pub fn embedded(elf: &[u8]) -> Result<Vec<Embedded<'_>>, Refusal> {
    let image = Image::parse(elf)?;
    let mut found = Vec::new();
    let constant = |section: &&super::image::Section<'_>| !section.writable;
    for section in image.sections.iter().filter(constant) {
        for (offset, window) in section.bytes.windows(MAGIC.len()).enumerate() {
            let Some(bytes) = section.bytes.get(offset..).filter(|_| window == MAGIC) else {
                continue;
            };
            // The magic number alone is also in every program that reads ELF.
            if ElfFile64::<LittleEndian>::parse(bytes).is_ok() {
                found.push(Embedded {
                    address: section.address.saturating_add(offset as u64),
                    bytes,
                });
            }
        }
    }
    Ok(found)
}
