//! What lies in the plugins folder: the library, its manifest section, the schema of its configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omni_host::fuzzing::manifest(data));
