//! Runs the fuzz target over its seeds and over everything that a fuzzer ever broke the channel with.

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

#[test]
fn whatever_was_posted_before_is_still_taken_or_refused() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/fuzz");
    let mut seen = 0;
    for folder in ["seeds", "found"] {
        let Ok(files) = fuzz.join(folder).join("echo_bodies").read_dir() else { continue };
        for file in files.flatten() {
            println!("{}", file.path().display());
            bodies::check(&std::fs::read(file.path()).expect("it can be read"));
            seen += 1;
        }
    }
    assert!(seen > 3, "the seeds are found");
}
