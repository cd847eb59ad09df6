//! Events on their way into the store, and out of it.
#![no_main]

use omni_host::fuzzing::Stored;

thread_local! {
    // In memory, where the machine has a folder for that: nothing here is to outlive the fuzzer.
    static FOLDER: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    static STORED: Stored = FOLDER.with(|folder| Stored::open(folder.path()));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| STORED.with(|stored| stored.check(data)));
