//! The types of channels in other languages are those of this crate: written from its schema, and a test keeps them so.

#![cfg(feature = "schema")]

#[path = "languages/python.rs"]
mod python;
#[path = "languages/schema.rs"]
mod schema;
#[path = "languages/typescript.rs"]
mod typescript;

use std::path::PathBuf;

#[test]
fn typescript_has_the_wire_types() {
    committed("js/wire.ts", &typescript::write(&schema::types()));
}

#[test]
fn python_has_the_wire_types() {
    committed("python/omni_channel/wire.py", &python::write(&schema::types()));
}

fn committed(path: &str, wanted: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("OMNI_WRITE").is_some() {
        std::fs::write(&file, wanted).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not what the wire types say; write it anew with\n\
         OMNI_WRITE=1 cargo test -p omni-channel-sdk --test languages --all-features"
    );
}
