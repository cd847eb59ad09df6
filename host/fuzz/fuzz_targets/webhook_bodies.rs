//! Requests of networks: proofs, heads, bodies, and the events that they become.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omni_host::fuzzing::requests(data));
