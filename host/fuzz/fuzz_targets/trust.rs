//! The small files that decide what is loaded, and `Retry-After`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omni_host::fuzzing::trust(data));
