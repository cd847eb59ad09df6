//! What crosses the boundary to a plugin, in both directions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omni_host::fuzzing::frame(data));
