//! The smallest library that has a manifest section: what a mutated manifest is put into, so that it gets behind the
//! checks of the file around it.

const NOTE_NAME: &[u8] = b".note.omni.channel\0";
const NAMES: &[u8] = b"\0.note.omni.channel\0.shstrtab\0.dynstr\0.gnu.version_r\0";
const STRINGS: &[u8] = b"\0libc.so.6\0GLIBC_2.2.5\0";
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;

const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
const SHT_GNU_VERNEED: u32 = 0x6fff_fffe;

/// A note as the SDK writes it, around a manifest.
pub(super) fn note(manifest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(manifest.len()).expect("an input is small");
    let mut note = Vec::with_capacity(20 + manifest.len());
    for word in [5, length, 1] {
        note.extend_from_slice(&u32::to_le_bytes(word));
    }
    note.extend_from_slice(b"Omni\0\0\0\0");
    note.extend_from_slice(manifest);
    note
}

/// A shared library for this machine with this manifest section, which needs an old glibc.
pub(super) fn library(section: &[u8]) -> Vec<u8> {
    let mut needs = Vec::new();
    // A Verneed (version, one entry, the file's name, where its entries are, no next one) and its Vernaux.
    needs.extend_from_slice(&[1, 0, 1, 0]);
    needs.extend_from_slice(&[1u32, 16, 0].map(u32::to_le_bytes).concat());
    needs.extend_from_slice(&[0u32, 0, 11, 0].map(u32::to_le_bytes).concat());

    let mut file = vec![0; HEADER + PROGRAM_HEADER];
    let mut put = |bytes: &[u8]| {
        file.resize(file.len().next_multiple_of(8), 0);
        let at = file.len();
        file.extend_from_slice(bytes);
        (at as u64, bytes.len() as u64)
    };
    let (note, names, strings, needs) = (put(section), put(NAMES), put(STRINGS), put(&needs));
    let (table, _) = put(&[]);
    let name = |wanted: &[u8]| {
        let at = NAMES.windows(wanted.len()).position(|name| name == wanted);
        u32::try_from(at.expect("it is in the names")).expect("they are short")
    };
    let sections = [
        (0, 0, (0, 0), 0, 0),
        (name(NOTE_NAME), SHT_NOTE, note, 0, 0),
        (name(b".shstrtab\0"), SHT_STRTAB, names, 0, 0),
        (name(b".dynstr\0"), SHT_STRTAB, strings, 0, 0),
        (name(b".gnu.version_r\0"), SHT_GNU_VERNEED, needs, 3, 1),
    ];
    for (name, kind, (at, size), link, info) in sections {
        let mut header = Vec::with_capacity(SECTION_HEADER);
        header.extend_from_slice(&[name, kind].map(u32::to_le_bytes).concat());
        header.extend_from_slice(&[0, 0, at, size].map(u64::to_le_bytes).concat());
        header.extend_from_slice(&[link, info].map(u32::to_le_bytes).concat());
        header.extend_from_slice(&[4u64, 0].map(u64::to_le_bytes).concat());
        file.extend_from_slice(&header);
    }

    let length = file.len() as u64;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend_from_slice(&[3, machine].map(u16::to_le_bytes).concat());
    header.extend_from_slice(&1u32.to_le_bytes());
    header.extend_from_slice(&[0, HEADER as u64, table].map(u64::to_le_bytes).concat());
    header.extend_from_slice(&0u32.to_le_bytes());
    let sizes = [HEADER, PROGRAM_HEADER, 1, SECTION_HEADER, sections.len(), 2];
    header.extend(sizes.iter().flat_map(|size| (*size as u16).to_le_bytes()));
    // One segment: the whole file.
    header.extend_from_slice(&[1u32, 4].map(u32::to_le_bytes).concat());
    header.extend_from_slice(&[0, 0, 0, length, length, 8].map(u64::to_le_bytes).concat());
    file[..HEADER + PROGRAM_HEADER].copy_from_slice(&header);
    file
}
