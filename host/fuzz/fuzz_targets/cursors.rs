//! Places in lists and streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omni_host::fuzzing::cursors(data));
