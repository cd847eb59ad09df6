//! Which crate may be used in which module, as the map in `lib.rs` says.

use std::path::{Path, PathBuf};

/// A crate, and where it may be named.
const PLACES: &[(&str, &[&str])] = &[
    ("sqlx", &["store.rs", "store/", "migrate/"]),
    ("axum", &["http.rs", "http/"]),
    ("hyper", &["http.rs", "http/"]),
    ("libloading", &["plugins/native.rs"]),
    ("abi_stable", &["plugins/native.rs"]),
    ("landlock", &["plugins/sandbox.rs"]),
    ("wasmtime", &["plugins/wasm.rs"]),
    ("wasmparser", &["plugins/manifest.rs"]),
    ("async_nats", &["bus/nats.rs", "bus/nats/"]),
    ("minisign_verify", &["plugins/signature.rs"]),
    ("tokio_tungstenite", &["instances/websocket.rs"]),
    ("clap", &["cli.rs", "cli/"]),
    ("comfy_table", &["cli.rs", "cli/"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            // Tests use what they need.
        } else if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_crate_is_used_where_the_map_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources are found");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (used, places) in PLACES {
                let named = code.contains(&format!("{used}::")) || code.contains(&format!("use {used};"));
                let inner = code.contains(&format!("_{used}::")) || code.contains(&format!("::{used}::"));
                if named && !inner && !places.iter().any(|place| name.starts_with(place)) {
                    wrong.push(format!("{name}:{}: {used} is for {}", number + 1, places.join(", ")));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_module_says_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let silent: Vec<_> =
        files.into_iter().filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!")).collect();
    assert_eq!(silent, Vec::<PathBuf>::new());
}

#[test]
fn the_conformance_kit_takes_ids_as_long_as_the_host_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let number = |file: &str, name: &str| -> String {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let rest = text.split(&format!("{name}: usize = ")).nth(1).unwrap_or_else(|| panic!("no {name} in {file}"));
        rest.split(';').next().unwrap().to_owned()
    };
    assert_eq!(number("../channel-sdk/src/testkit/limits.rs", "ID_BYTES"), number("src/bus/door.rs", "MAX_ID"));
}
