//! Opens a native plugin and speaks to it: the one file with `unsafe` in the host.
//!
//! A library is never closed again: threads and thread-local destructors of its own may still run in it.
#![expect(unsafe_code, reason = "opening foreign code is what this file is for")]

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RErr, ROk, ROption, RSlice, RVec};
use abi_stable::{StableAbi, library};
use libloading::os::unix::{Library as DynamicLibrary, RTLD_LOCAL, RTLD_NOW};
use omni_channel_sdk::native::{ChannelModuleRef, ChannelPortBox, HostPort, HostPort_TO};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// An opened library.
#[derive(Clone, Copy)]
pub struct Library(ChannelModuleRef);

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Library")
    }
}

/// The channel's end of an instance.
pub struct NativePort(ChannelPortBox);

/// Takes frames from a channel, from any of its threads; `false` when nobody reads them any more.
pub trait FrameSink: Send + Sync + 'static {
    /// Takes one frame; waits while there is no room.
    fn deliver(&self, frame: Vec<u8>) -> bool;
}

struct Sink<S>(S);

impl<S: FrameSink> HostPort for Sink<S> {
    fn deliver(&self, frame: RVec<u8>) -> bool {
        self.0.deliver(frame.into_vec())
    }
}

impl Library {
    /// Opens a library that was admitted. The error is a sentence; what the layout check says at length goes to the log.
    pub fn open(copy: &Path) -> Result<Self, String> {
        let header = header_of(copy)?;
        let module = header.init_root_module::<ChannelModuleRef>().or_else(|error| match error {
            // A host that is newer than the plugin has functions more than it; abi_stable's check is for the other
            // direction, so it is asked both ways. Everything else must be equal in either.
            LibraryError::AbiInstability(details) => {
                let plugin =
                    header.layout().ok_or_else(|| "it does not say what its functions look like".to_owned())?;
                if check_layout_compatibility(plugin, <ChannelModuleRef as StableAbi>::LAYOUT).is_err() {
                    tracing::debug!(details = %details, "a plugin's layout does not fit");
                    return Err(
                        "its functions do not look as this host expects; rebuild it with the current SDK".into()
                    );
                }
                // SAFETY: the layouts fit, with the plugin as the older side: every function that the host has more is
                // behind the last prefix field and is looked up before it is called.
                unsafe { header.init_root_module_with_unchecked_layout::<ChannelModuleRef>() }
                    .map_err(|error| explain(&error))
            }
            error => Err(explain(&error)),
        })?;
        Ok(Self(module))
    }

    /// Makes an instance. Its frames go to `sink` from then on.
    pub fn instance(&self, sink: impl FrameSink) -> Result<NativePort, String> {
        let host = HostPort_TO::from_value(Sink(sink), TD_Opaque);
        match (self.0.open())(host) {
            ROption::RSome(port) => Ok(NativePort(port)),
            ROption::RNone => Err("the channel panicked while an instance was made".into()),
        }
    }
}

impl NativePort {
    /// Hands one frame over and returns when all that it caused is done or waits.
    pub fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        match omni_channel_sdk::native::ChannelPort::deliver(&self.0, RSlice::from_slice(frame)) {
            ROk(()) => Ok(()),
            RErr(error) => Err(error.into_string()),
        }
    }
}

/// Opens a library for good and finds what it exports. Everything that it needs is looked up now, so that what is missing
/// is said here and not in the middle of a call.
fn header_of(copy: &Path) -> Result<&'static LibHeader, String> {
    let refused = |error: libloading::Error| format!("the system's loader refused it: {error}");
    // SAFETY: the file was admitted: it is whole, and it is a copy that nobody overwrites. Code that runs while it is
    // opened is the plugin's own, as trusted as the plugin.
    let library = unsafe { DynamicLibrary::open(Some(copy), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
    // SAFETY: a library with our manifest exports an ABI header under this name; the header begins with a magic string
    // and the version of abi_stable, which are looked at before anything else of it.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
    let header = *header.map_err(|_| "it has a manifest but exports no channel".to_owned())?;
    std::mem::forget(library);
    header.upgrade().map_err(|error| explain(&error))
}

/// Closes every descriptor but the first three: whatever the program that started this one forgot to keep to itself.
///
/// For the first moment of a plugin's process, before anything was opened in it.
pub fn close_inherited() {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return };
    let names = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let open: Vec<i32> = names.filter(|number| *number > 2).collect();
    for number in open {
        // SAFETY: it is only asked whether the number is open: the listing's own is among them and is closed by now.
        let is_open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok();
        if is_open {
            // SAFETY: nothing in this process owns a descriptor behind the first three yet.
            unsafe { rustix::io::close(number) };
        }
    }
}

fn explain(error: &library::LibraryError) -> String {
    match error {
        LibraryError::InvalidAbiHeader(_) => "it was built with another version of abi_stable".into(),
        other => {
            tracing::debug!(details = %other, "a plugin could not be opened");
            let text = other.to_string();
            text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it could not be opened").trim().to_owned()
        }
    }
}
