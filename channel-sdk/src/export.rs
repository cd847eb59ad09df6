//! The macro that turns a channel into a plugin file, and the bytes of its manifest.

/// Joins the parts of the manifest into the bytes that lie in the file. For [`export_channel!`](crate::export_channel).
#[doc(hidden)]
pub const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut bytes = [b' '; N];
    let mut at = 0;
    let mut part = 0;
    while part < parts.len() {
        let from = parts[part].as_bytes();
        let mut index = 0;
        while index < from.len() {
            bytes[at] = from[index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    bytes
}

/// The length of [`join`]'s result: a multiple of 4, as an ELF note wants it; the rest is spaces.
#[doc(hidden)]
pub const fn joined_len(parts: &[&str]) -> usize {
    let mut length = 0;
    let mut part = 0;
    while part < parts.len() {
        length += parts[part].len();
        part += 1;
    }
    length.next_multiple_of(4)
}

/// An ELF note with a manifest in it.
#[doc(hidden)]
#[repr(C, align(4))]
#[derive(Debug)]
pub struct Note<const N: usize> {
    name_size: u32,
    desc_size: u32,
    note_type: u32,
    name: [u8; 8],
    desc: [u8; N],
}

impl<const N: usize> Note<N> {
    /// A note around a manifest.
    pub const fn new(desc: [u8; N]) -> Self {
        Self { name_size: 5, desc_size: N as u32, note_type: crate::manifest::NOTE_TYPE, name: *b"Omni\0\0\0\0", desc }
    }
}

/// `unwind` or `abort`, as the crate that expands it is built.
#[doc(hidden)]
#[macro_export]
macro_rules! __panic_mode {
    () => {
        if cfg!(panic = "unwind") { "unwind" } else { "abort" }
    };
}

/// What the plugin is built for, in the words of the manifest.
#[doc(hidden)]
pub const TARGET: &str = {
    if cfg!(target_family = "wasm") {
        "wasm32"
    } else if cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")) {
        "x86_64-linux-gnu"
    } else if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        "x86_64-linux-musl"
    } else if cfg!(all(target_arch = "aarch64", target_os = "linux", target_env = "gnu")) {
        "aarch64-linux-gnu"
    } else if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
        "aarch64-linux-musl"
    } else if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
        "aarch64-macos"
    } else if cfg!(all(target_arch = "x86_64", target_os = "macos")) {
        "x86_64-macos"
    } else {
        "unknown"
    }
};

/// The calling convention of what is being built.
#[doc(hidden)]
pub const ABI: &str =
    if cfg!(target_family = "wasm") { crate::manifest::WASM_ABI } else { crate::manifest::NATIVE_ABI };

/// What [`export_channel!`](crate::export_channel) knows of a channel, for the conformance kit.
pub trait Exported: crate::Channel {
    /// The text of its `channel.json`.
    const CHANNEL_JSON: &'static str;
}

/// Makes a plugin of a channel: `export_channel!(MyChannel, "../channel.json");`
///
/// The second argument is the path of the channel's manifest, relative to the file that the line is in. The crate is a
/// `cdylib` (and an `rlib`, for its tests). Once per crate.
#[macro_export]
macro_rules! export_channel {
    ($channel:ty, $manifest:literal) => {
        impl $crate::Exported for $channel {
            const CHANNEL_JSON: &'static str = include_str!($manifest);
        }

        const _: () = {
            const PARTS: &[&str] = &[
                "{\"manifest\":1,\"version\":\"",
                env!("CARGO_PKG_VERSION"),
                "\",\"sdk\":\"",
                $crate::manifest::SDK_VERSION,
                "\",\"abi\":\"",
                $crate::__export::ABI,
                "\",\"panic\":\"",
                $crate::__panic_mode!(),
                "\",\"target\":\"",
                $crate::__export::TARGET,
                "\",\"channel\":",
                include_str!($manifest),
                "}",
            ];
            const LENGTH: usize = $crate::__export::joined_len(PARTS);

            #[cfg(all(not(target_family = "wasm"), not(target_vendor = "apple")))]
            #[used]
            #[unsafe(link_section = ".note.omni.channel")]
            static MANIFEST: $crate::__export::Note<LENGTH> =
                $crate::__export::Note::new($crate::__export::join::<LENGTH>(PARTS));

            #[cfg(target_vendor = "apple")]
            #[used]
            #[unsafe(link_section = "__DATA,__omni_channel")]
            static MANIFEST: $crate::__export::Note<LENGTH> =
                $crate::__export::Note::new($crate::__export::join::<LENGTH>(PARTS));

            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = "omni:channel-manifest")]
            static MANIFEST: [u8; LENGTH] = $crate::__export::join::<LENGTH>(PARTS);

            #[cfg(target_family = "wasm")]
            mod component {
                use super::*;
                use std::sync::OnceLock;

                static INSTANCE: OnceLock<$crate::wasm::Instance<$channel>> = OnceLock::new();

                #[derive(Debug)]
                struct Component;

                impl $crate::wasm::Guest for Component {
                    fn deliver(frame: Vec<u8>) -> Result<(), String> {
                        INSTANCE.get_or_init(Default::default).deliver(&frame)
                    }
                }

        $crate::wasm::bindings::export!(Component with_types_in $crate::wasm::bindings);
            }

            // What abi_stable's `export_root_module` writes, with paths that need no dependency on it.
            #[cfg(not(target_family = "wasm"))]
            mod native {
                use super::*;
                use $crate::abi_stable::library::{self, CheckTypeLayout, IntoRootModuleResult, LibHeader};
                use $crate::abi_stable::prefix_type::PrefixTypeTrait as _;
                use $crate::native::{ChannelModule, ChannelModuleRef};

                fn module() -> ChannelModuleRef {
                    ChannelModule { open: $crate::native::open::<$channel> }.leak_into_prefix()
                }

                extern "C" fn root() -> library::RootModuleResult {
                    library::__call_root_module_loader(module)
                }

                #[unsafe(no_mangle)]
                pub static _1as_0lib_1header_0root_bmodule_bloader: LibHeader = {
                    type Module = <ChannelModuleRef as IntoRootModuleResult>::Module;
                    // SAFETY: `root` gives a reference to exactly this module type.
                    unsafe { LibHeader::from_constructor::<Module>(root, CheckTypeLayout::Yes) }
                };
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Manifest, NATIVE_SECTION, NOTE_OWNER, NOTE_TYPE};

    const PARTS: &[&str] = &[
        "{\"manifest\":1,\"version\":\"",
        "0.1.0",
        "\",\"sdk\":\"1.0.0\",\"abi\":\"native-1\",\"panic\":\"unwind\",\"target\":\"",
        TARGET,
        "\",\"channel\":",
        "{\"id\": \"x\", \"name\": \"Ü\", \"capabilities\": {}}\n",
        "}",
    ];
    const LENGTH: usize = joined_len(PARTS);
    static NOTE: Note<LENGTH> = Note::new(join::<LENGTH>(PARTS));

    /// What a component imports and exports never changes within 1.x: plugins of others hang on it. A function may be added
    /// to what the host gives, and then here.
    #[test]
    fn the_world_of_components_is_the_one_that_was_promised() {
        let world = include_str!("../wit/channel.wit");
        let lines: Vec<&str> = world.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let code: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("///")).collect();
        let promised = [
            "package omni:channel@1.0.0;",
            "interface host {",
            "deliver: func(frame: list<u8>) -> bool;",
            "}",
            "interface channel {",
            "deliver: func(frame: list<u8>) -> result<_, string>;",
            "}",
            "world plugin {",
            "import host;",
            "export channel;",
            "}",
        ];
        assert_eq!(code, promised);
    }

    /// The loader looks for this symbol, and the macro writes it by hand.
    #[test]
    fn the_exported_symbol_is_the_one_that_the_loader_looks_for() {
        let name = abi_stable::library::ROOT_MODULE_LOADER_NAME;
        let written = include_str!("export.rs");
        assert!(written.contains(&format!("pub static {name}: LibHeader")), "{name} is not exported");
        assert!(written.contains(&format!("link_section = \"{NATIVE_SECTION}\"")));
    }

    #[test]
    fn the_note_is_a_well_formed_elf_note() {
        // An ELF note: three words, the owner with its NUL, padded to 4, then the description, padded to 4.
        assert_eq!(size_of::<Note<LENGTH>>(), 12 + 8 + LENGTH, "there is no padding that the section would not expect");
        assert_eq!(align_of::<Note<LENGTH>>(), 4);
        assert_eq!(LENGTH % 4, 0);
        assert_eq!(NOTE.name_size as usize, NOTE_OWNER.len() + 1);
        assert_eq!(NOTE.name.strip_prefix(NOTE_OWNER.as_bytes()), Some(&b"\0\0\0\0"[..]));
        assert_eq!(NOTE.name_size.next_multiple_of(4) as usize, NOTE.name.len());
        assert_eq!(NOTE.desc_size as usize, NOTE.desc.len());
        assert_eq!(NOTE.note_type, NOTE_TYPE);
    }

    #[test]
    fn the_note_holds_the_manifest() {
        let manifest: Manifest = serde_json::from_slice(&NOTE.desc).expect("the description is the manifest");
        assert_eq!(manifest.channel.name, "Ü");
        assert_eq!(manifest.target, TARGET);
        assert_eq!(&NOTE.desc[..PARTS[0].len()], PARTS[0].as_bytes());
    }
}
