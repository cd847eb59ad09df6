//! Every seed, and everything that a fuzzer ever found, through the function that it is for.

use std::path::Path;

/// Runs a target over the files that are kept for it.
fn holds(target: &str, at_least: usize, check: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut seen = 0;
    for folder in ["seeds", "found"] {
        let Ok(files) = fuzz.join(folder).join(target).read_dir() else { continue };
        for file in files.flatten() {
            // The last one that is named is the one that failed.
            println!("{}", file.path().display());
            check(&std::fs::read(file.path()).expect("it can be read"));
            seen += 1;
        }
    }
    assert!(seen >= at_least, "{seen} seeds of {target} are found");
}

#[test]
fn manifests() {
    holds("manifest", 6, super::manifest);
}

#[test]
fn frames() {
    holds("frames", 80, super::frame);
}

#[test]
fn cursors() {
    holds("cursors", 10, super::cursors);
}

#[test]
fn webhook_bodies() {
    holds("webhook_bodies", 30, super::requests);
}

#[test]
fn files_of_trust() {
    holds("trust", 5, super::trust);
}

#[test]
fn stored_events() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stored = super::Stored::open(folder.path());
    holds("stored_events", 15, |data| stored.check(data));
}

/// The seeds reach what they are made for: a target that only ever refuses finds nothing.
#[test]
fn a_library_around_a_good_manifest_is_admitted() {
    use super::{elf, plugin_files::with_schema};
    let manifest = with_schema(&serde_json::json!({"type": "object"}));
    let library = elf::library(&elf::note(manifest.as_bytes()));
    let admitted = crate::plugins::fuzzing::inspect(&library).expect("it is good");
    assert_eq!(admitted.channel.id, "x");
    let found = crate::plugins::manifest::native(&library).expect("it is good");
    assert_eq!(found.glibc, Some((2, 2)), "what it needs is found as well");
}
