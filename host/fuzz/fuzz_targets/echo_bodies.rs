//! What is posted to the echo.
#![no_main]

#[path = "../../../plugins/echo/tests/fuzz/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::check(data));
