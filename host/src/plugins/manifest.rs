//! Reads what a plugin file says about itself, from its bytes, without running any of it.
//!
//! Deliberately no judgement: whether the manifest fits this host is [`super::admission`]'s to say.

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, Object, ObjectSection, SectionIndex};
use omni_channel_sdk::manifest::{Manifest, NATIVE_SECTION, NOTE_OWNER, NOTE_TYPE, WASM_SECTION};
use serde_json::value::RawValue;
use wasmparser::{Parser, Payload};

/// A manifest is a few kilobytes; one of a megabyte is no manifest.
const MAX_MANIFEST: usize = 1 << 20;
/// A library has some forty sections, whose names fill a kilobyte or two.
const MAX_SECTIONS: u16 = 1_024;
const MAX_NAMES: u64 = 1 << 20;
/// A library needs some forty versions of symbols, with names like `GLIBC_2.34`.
const MAX_VERSIONS: usize = 4_096;
const MAX_VERSION_NAME: usize = 64;
/// Modules and components that one component is made of; a guest of any language has a handful.
const MAX_PARTS: usize = 256;

/// What was found in a native library.
#[derive(Debug)]
pub struct NativeFile {
    /// What it says about itself.
    pub manifest: Manifest,
    /// The same as its author wrote it.
    pub json: Vec<u8>,
    /// The newest `GLIBC_x.y` that it needs, if it needs any.
    pub glibc: Option<(u32, u32)>,
}

/// The manifest in a plugin file. The error is a sentence that says what was found instead.
pub fn manifest_of(bytes: &[u8]) -> Result<Manifest, String> {
    if is_wasm(bytes) { component(bytes) } else { native(bytes).map(|file| file.manifest) }
}

/// What the author of a channel wrote in `channel.json`, word for word, with what this version does not know.
pub fn channel_json(bytes: &[u8]) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Written {
        channel: Box<RawValue>,
    }
    let json = if is_wasm(bytes) { component_json(bytes)?.to_vec() } else { native(bytes)?.json };
    let written: Written = serde_json::from_slice(&json).map_err(not_a_manifest)?;
    Ok(written.channel.get().to_owned())
}

fn not_a_manifest(error: serde_json::Error) -> String {
    format!("its manifest is not what it should be: {error}")
}

/// Whether a file is WASM, of whatever kind.
pub fn is_wasm(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm")
}

/// Checks how a component is built up and reads its manifest, which lies in it or in a module of it.
pub fn component(bytes: &[u8]) -> Result<Manifest, String> {
    serde_json::from_slice(component_json(bytes)?).map_err(not_a_manifest)
}

fn component_json(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.get(4..8) == Some(&[1, 0, 0, 0]) {
        return Err("it is a WASM module and no component; see the SDK's guide on how to build one".into());
    }
    let mut manifest = None;
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| format!("it is WASM that is damaged or cut off ({error})"))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                if depth > MAX_PARTS {
                    return Err(format!("it is made of more than {MAX_PARTS} modules and components"));
                }
            }
            Payload::CustomSection(section) if section.name() == WASM_SECTION => {
                if section.data().len() > MAX_MANIFEST {
                    return Err(format!("its manifest has {} bytes, which is no manifest", section.data().len()));
                }
                if manifest.replace(section.data()).is_some() {
                    return Err("it has two manifests".into());
                }
            }
            _ => {}
        }
    }
    manifest.ok_or_else(|| "it is a WASM component but no channel plugin (it has no manifest)".to_owned())
}

/// What a component imports from whoever runs it, by name and in its order.
pub fn imports(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Behind what is damaged there is nothing to show.
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                found.extend(section.into_iter().map_while(Result::ok).map(|import| import.name.name.to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// Checks the headers of a native library and reads its manifest.
pub fn native(bytes: &[u8]) -> Result<NativeFile, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err("it is not a shared library (no ELF header)".into());
    }
    if bytes.get(4) != Some(&elf::ELFCLASS64.0) {
        return Err("it is not a 64-bit library".into());
    }
    if bytes.get(5) != Some(&elf::ELFDATA2LSB.0) {
        return Err("it is not a little-endian library".into());
    }
    let file = ElfFile64::<Endianness>::parse(bytes)
        .map_err(|error| format!("its ELF headers are damaged or cut off ({error})"))?;
    let endian = file.endian();
    let header = file.elf_header();
    if header.e_type(endian) != elf::ET_DYN {
        return Err("it is an ELF file but not a shared library".into());
    }
    let machine = header.e_machine(endian);
    let (wanted, wanted_name) =
        if cfg!(target_arch = "aarch64") { (elf::EM_AARCH64, "aarch64") } else { (elf::EM_X86_64, "x86_64") };
    if machine != wanted {
        let name = if machine == elf::EM_AARCH64 {
            "aarch64".to_owned()
        } else if machine == elf::EM_X86_64 {
            "x86_64".to_owned()
        } else {
            format!("machine {}", machine.0)
        };
        return Err(format!("it is built for {name}, this machine is {wanted_name}"));
    }
    // The loader maps these without looking whether the file is long enough: a short one kills the process.
    for segment in file.elf_program_headers() {
        let end = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        if end.is_none_or(|end| end > bytes.len() as u64) {
            return Err(format!("it is cut off: it has {} bytes, its headers speak of more", bytes.len()));
        }
    }
    let sections_end =
        header.e_shoff(endian).checked_add(u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian)));
    if sections_end.is_none_or(|end| end > bytes.len() as u64) {
        return Err(format!("it is cut off: it has {} bytes, its section table lies behind", bytes.len()));
    }
    // Every section's name is looked at, each to its end: tables that are made for it would take hours.
    let names = header.shstrndx(endian, bytes).ok().map(|index| SectionIndex(index as usize));
    let names = names.and_then(|index| file.elf_section_table().section(index).ok());
    let names_size = names.map_or(0, |names| names.sh_size(endian));
    if !(1..=MAX_SECTIONS).contains(&header.e_shnum(endian)) || names_size > MAX_NAMES {
        return Err("it is no library that a compiler made: it has no section table, or one beyond all measure".into());
    }
    let section = file
        .section_by_name(NATIVE_SECTION)
        .ok_or_else(|| "it is a library but no channel plugin (it has no manifest section)".to_owned())?;
    let data = section.data().map_err(|error| format!("its manifest section is damaged ({error})"))?;
    let json = parse_note(data)?;
    let manifest = serde_json::from_slice(json).map_err(not_a_manifest)?;
    Ok(NativeFile { manifest, json: json.to_vec(), glibc: newest_glibc(&file, endian) })
}

fn parse_note(data: &[u8]) -> Result<&[u8], String> {
    let damaged = || "its manifest section is not a well-formed note".to_owned();
    let word =
        |at: usize| -> Option<usize> { Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize) };
    let name_size = word(0).ok_or_else(damaged)?;
    let desc_size = word(4).ok_or_else(damaged)?;
    let note_type = word(8).ok_or_else(damaged)?;
    if name_size > 64 || desc_size > MAX_MANIFEST || note_type != NOTE_TYPE as usize {
        return Err(damaged());
    }
    let desc_at = 12 + name_size.next_multiple_of(4);
    let name = data.get(12..12 + name_size).ok_or_else(damaged)?;
    if name.strip_suffix(b"\0") != Some(NOTE_OWNER.as_bytes()) {
        return Err(damaged());
    }
    data.get(desc_at..desc_at + desc_size).ok_or_else(damaged)
}

/// The newest version of glibc whose symbols a library asks for.
fn newest_glibc(file: &ElfFile64<'_, Endianness>, endian: Endianness) -> Option<(u32, u32)> {
    let sections = file.elf_section_table();
    let data = file.data();
    let (mut needs, link) = sections.gnu_verneed(endian, data).ok()??;
    let strings = sections.section(link).ok()?.data(endian, data).ok()?;
    let mut newest = None;
    let mut left = MAX_VERSIONS;
    while let Ok(Some((_, mut auxiliaries))) = needs.next() {
        while let Ok(Some(auxiliary)) = auxiliaries.next() {
            // Files overlap their lists as they like.
            left = left.checked_sub(1)?;
            let name = strings.get(auxiliary.vna_name.get(endian) as usize..).unwrap_or_default();
            let end = name.iter().take(MAX_VERSION_NAME).position(|byte| *byte == 0);
            newest = newest.max(end.and_then(|end| glibc_version(&name[..end])));
        }
        left = left.checked_sub(1)?;
    }
    newest
}

/// `GLIBC_2.34` → (2, 34).
fn glibc_version(name: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// The version of glibc that this program runs on, read from the library itself; `None` where there is none.
pub fn glibc_here() -> Option<(u32, u32)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.ends_with("/libc.so.6"))?;
    let bytes = std::fs::read(path).ok()?;
    let file = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
    let endian = file.endian();
    let sections = file.elf_section_table();
    let (mut definitions, link) = sections.gnu_verdef(endian, &*bytes).ok()??;
    let strings = sections.strings(endian, &*bytes, link).ok()?;
    let mut newest = None;
    while let Ok(Some((_, mut auxiliaries))) = definitions.next() {
        while let Ok(Some(auxiliary)) = auxiliaries.next() {
            newest = newest.max(auxiliary.name(endian, strings).ok().and_then(glibc_version));
        }
    }
    newest
}
