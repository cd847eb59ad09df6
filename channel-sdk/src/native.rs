//! The native calling convention, over abi_stable: two functions that carry frames, and how to get at them.
//!
//! Everything that may grow is in the frames; what is here is meant never to change. A new function may only be
//! appended behind the `last_prefix_field`, with a default.
#![expect(
    unsafe_code,
    reason = "abi_stable's derives implement unsafe traits: the layout they state is theirs to check"
)]
#![allow(non_local_definitions, clippy::allow_attributes, reason = "abi_stable's derives are from 2023")]

use crate::channel::Channel;
use crate::context::HostSink;
use crate::driver::{Driver, panic_message};
use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RString, RVec};
use abi_stable::{StableAbi, package_version_strings, sabi_trait};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The host's end: takes frames from an instance, from any thread.
#[sabi_trait]
pub trait HostPort: Send + Sync {
    /// Takes one frame; waits while the host has no room. `false` when the instance has ended for the host.
    #[sabi(last_prefix_field)]
    fn deliver(&self, frame: RVec<u8>) -> bool;
}

/// The channel's end: takes frames for one instance.
#[sabi_trait]
pub trait ChannelPort: Send + Sync {
    /// Takes one frame and returns when all that it caused is done or waits. Called from one thread at a time. An error
    /// says why the bytes were no frame.
    #[sabi(last_prefix_field)]
    fn deliver(&self, frame: RSlice<'_, u8>) -> RResult<(), RString>;
}

/// The host's end as it is handed over.
pub type HostPortBox = HostPort_TO<'static, RBox<()>>;
/// The channel's end as it is handed over.
pub type ChannelPortBox = ChannelPort_TO<'static, RBox<()>>;

/// What a native plugin exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ChannelModuleRef, prefix_fields = ChannelModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct ChannelModule {
    /// Makes an instance that waits for its start. `None` when making it panicked.
    #[sabi(last_prefix_field)]
    pub open: extern "C" fn(HostPortBox) -> ROption<ChannelPortBox>,
}

impl abi_stable::library::RootModule for ChannelModuleRef {
    abi_stable::declare_root_module_statics! {ChannelModuleRef}

    const BASE_NAME: &'static str = "omni_channel";
    const NAME: &'static str = "omni_channel";
    const VERSION_STRINGS: abi_stable::sabi_types::VersionStrings = package_version_strings!();
}

struct NativeSink(HostPortBox);

impl HostSink for NativeSink {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        self.0.deliver(RVec::from(frame))
    }
}

struct NativePort<C: Channel>(Driver<C>);

impl<C: Channel> ChannelPort for NativePort<C> {
    fn deliver(&self, frame: RSlice<'_, u8>) -> RResult<(), RString> {
        // Calls into the channel are caught one by one in the driver; this is for the driver itself.
        match catch_unwind(AssertUnwindSafe(|| self.0.deliver(frame.as_slice()))) {
            Ok(Ok(())) => RResult::ROk(()),
            Ok(Err(error)) => RResult::RErr(RString::from(error.to_string())),
            Err(panic) => RResult::RErr(RString::from(panic_message(panic.as_ref()))),
        }
    }
}

/// What the export macro puts into [`ChannelModule::open`].
pub extern "C" fn open<C: Channel>(host: HostPortBox) -> ROption<ChannelPortBox> {
    let made = catch_unwind(AssertUnwindSafe(move || {
        let sink: Arc<dyn HostSink> = Arc::new(NativeSink(host));
        ChannelPort_TO::from_value(NativePort(Driver::<C>::new(sink)), sabi_trait::TD_Opaque)
    }));
    made.ok().into()
}
