//! A linked ELF as the walk needs it: functions by address, constant memory,
//! and what the linker or the loader puts into each slot.

use std::collections::BTreeMap;
use std::ops::Range;

use object::LittleEndian;
use object::elf;
use object::read::elf::{
    ElfFile64, FileHeader, ProgramHeader, Rela, SectionHeader, Sym, SymbolTable,
};

use super::Refusal;

/// One section that is mapped at run time.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) address: u64,
    pub(super) bytes: &'a [u8],
    pub(super) writable: bool,
    pub(super) executable: bool,
    /// Holds linkage stubs, which have no symbols of their own.
    pub(super) stubs: bool,
}

/// One function symbol, with its other names.
#[derive(Debug, Default)]
pub(super) struct Symbol {
    pub(super) names: Vec<String>,
    pub(super) size: u64,
    /// The address is that of a resolver: what runs is chosen at load time.
    pub(super) chosen_at_load: bool,
}

/// Where a call or a jump leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// An address in this file.
    Address(u64),
    /// A symbol that another object defines.
    Import(String),
}

/// A linked file, read once.
#[derive(Debug, Default)]
pub(super) struct Image<'a> {
    pub(super) sections: Vec<Section<'a>>,
    pub(super) functions: BTreeMap<u64, Symbol>,
    /// What the loader writes, by the address it writes to.
    pub(super) slots: BTreeMap<u64, Target>,
    /// Written by the loader, read-only before the first instruction of ours.
    pub(super) sealed: Vec<Range<u64>>,
}

impl<'a> Image<'a> {
    /// Reads a linked x86-64 ELF.
    pub(super) fn parse(elf_bytes: &'a [u8]) -> Result<Self, Refusal> {
        let file = ElfFile64::<LittleEndian>::parse(elf_bytes)?;
        let header = file.elf_header();
        let linked = [elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(LittleEndian));
        if header.e_machine(LittleEndian) != elf::EM_X86_64 || !linked {
            return Err(Refusal::Foreign);
        }
        let mut image = Image::default();
        image.read_sections(&file)?;
        image.read_symbols(file.elf_symbol_table())?;
        image.read_symbols(file.elf_dynamic_symbol_table())?;
        image.read_slots(&file)?;
        image.sealed = file
            .elf_program_headers()
            .iter()
            .filter(|program| program.p_type(LittleEndian) == elf::PT_GNU_RELRO)
            .map(|program| {
                let start = program.p_vaddr(LittleEndian);
                start..start.saturating_add(program.p_memsz(LittleEndian))
            })
            .collect();
        Ok(image)
    }

    /// The addresses at which a function of this name starts.
    pub(super) fn named(&self, name: &str) -> Vec<u64> {
        let bears = |symbol: &Symbol| symbol.names.iter().any(|known| known == name);
        let found = self.functions.iter().filter(|(_, symbol)| bears(symbol));
        found.map(|(address, _)| *address).collect()
    }

    /// The code of a range, when all of it is executable and not writable.
    pub(super) fn code(&self, start: u64, size: u64) -> Option<&'a [u8]> {
        let section = self.section(start)?;
        if !section.executable || section.writable {
            return None;
        }
        section.read(start, size)
    }

    /// Eight bytes that nothing changes once this file's code runs.
    pub(super) fn slot(&self, address: u64) -> Option<Target> {
        let section = self.section(address)?;
        let sealed = |range: &Range<u64>| {
            range.contains(&address) && range.contains(&address.saturating_add(7))
        };
        if section.writable && !self.sealed.iter().any(sealed) {
            return None;
        }
        if let Some(target) = self.slots.get(&address) {
            return Some(target.clone());
        }
        let bytes = section.read(address, 8)?.try_into().ok()?;
        Some(Target::Address(u64::from_le_bytes(bytes)))
    }

    /// Four bytes of read-only data.
    pub(super) fn constant_i32(&self, address: u64) -> Option<i32> {
        let section = self.section(address).filter(|found| !found.writable)?;
        let bytes = section.read(address, 4)?.try_into().ok()?;
        Some(i32::from_le_bytes(bytes))
    }

    /// The rest of the linkage stub at an address, if there is one.
    pub(super) fn stub(&self, address: u64) -> Option<&'a [u8]> {
        let section = self.section(address).filter(|found| found.stubs)?;
        let offset = usize::try_from(address.checked_sub(section.address)?).ok()?;
        section.bytes.get(offset..)
    }

    fn section(&self, address: u64) -> Option<&Section<'a>> {
        let holds = |section: &&Section<'_>| {
            let offset = address.checked_sub(section.address);
            offset.is_some_and(|offset| offset < section.bytes.len() as u64)
        };
        self.sections.iter().find(holds)
    }

    fn read_sections(
        &mut self,
        file: &ElfFile64<'a, LittleEndian, &'a [u8]>,
    ) -> Result<(), Refusal> {
        let table = file.elf_section_table();
        for header in table.iter() {
            let flags = header.sh_flags(LittleEndian);
            let thread_local = flags.contains(elf::SHF_TLS);
            if !flags.contains(elf::SHF_ALLOC) || thread_local {
                continue;
            }
            let name = table.section_name(LittleEndian, header)?;
            self.sections.push(Section {
                address: header.sh_addr(LittleEndian),
                bytes: header.data(LittleEndian, file.data())?,
                writable: flags.contains(elf::SHF_WRITE),
                executable: flags.contains(elf::SHF_EXECINSTR),
                stubs: name.starts_with(b".plt") || name == b".iplt",
            });
        }
        Ok(())
    }

    fn read_symbols(
        &mut self,
        table: &SymbolTable<'a, elf::FileHeader64<LittleEndian>, &'a [u8]>,
    ) -> Result<(), Refusal> {
        for symbol in table.iter() {
            let kind = symbol.st_type();
            let chosen_at_load = kind == elf::STT_GNU_IFUNC;
            let is_function = kind == elf::STT_FUNC || chosen_at_load;
            if !is_function || symbol.is_undefined(LittleEndian) {
                continue;
            }
            let name = symbol_name(symbol, table)?;
            let address = symbol.st_value(LittleEndian);
            let known = self.functions.entry(address).or_default();
            known.size = known.size.max(symbol.st_size(LittleEndian));
            known.chosen_at_load |= chosen_at_load;
            if !known.names.contains(&name) {
                known.names.push(name);
            }
        }
        Ok(())
    }

    fn read_slots(&mut self, file: &ElfFile64<'a, LittleEndian, &'a [u8]>) -> Result<(), Refusal> {
        let dynamic = file.elf_dynamic_symbol_table();
        for header in file.elf_section_table().iter() {
            if !header.sh_flags(LittleEndian).contains(elf::SHF_ALLOC) {
                continue;
            }
            let Some((relocations, _)) = header.rela(LittleEndian, file.data())? else {
                continue;
            };
            for relocation in relocations {
                let addend = relocation.r_addend(LittleEndian).cast_unsigned();
                let symbol = || -> Result<Target, Refusal> {
                    let index = relocation.symbol(LittleEndian, false);
                    let index = index.ok_or(Refusal::Relocation)?;
                    let symbol = dynamic.symbol(index)?;
                    Ok(if symbol.is_undefined(LittleEndian) {
                        Target::Import(symbol_name(symbol, dynamic)?)
                    } else {
                        Target::Address(symbol.st_value(LittleEndian).wrapping_add(addend))
                    })
                };
                let target = match relocation.r_type(LittleEndian, false) {
                    elf::R_X86_64_RELATIVE | elf::R_X86_64_IRELATIVE => Target::Address(addend),
                    elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_64 => {
                        symbol()?
                    }
                    _ => continue,
                };
                self.slots.insert(relocation.r_offset(LittleEndian), target);
            }
        }
        Ok(())
    }
}

impl<'a> Section<'a> {
    fn read(&self, address: u64, size: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.bytes.get(start..end)
    }
}

fn symbol_name<'a>(
    symbol: &elf::Sym64<LittleEndian>,
    table: &SymbolTable<'a, elf::FileHeader64<LittleEndian>, &'a [u8]>,
) -> Result<String, Refusal> {
    let name = symbol.name(LittleEndian, table.strings())?;
    Ok(String::from_utf8_lossy(name).into_owned())
}
