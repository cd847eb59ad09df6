//! The guide in the README is the example, word for word: what a stranger copies from it is what is tested.

use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code that the guide shows for a file.
fn shown(readme: &str, file: &str) -> String {
    let heading = format!("**`{file}`**\n\n```");
    let (_, rest) = readme.split_once(&heading).unwrap_or_else(|| panic!("the guide does not show {file}"));
    let (_, code) = rest.split_once('\n').expect("a fence ends its line");
    code.split_once("```").expect("a fence is closed").0.to_owned()
}

#[test]
fn the_guide_shows_the_example() {
    let readme = read("README.md");
    for file in [
        "channel.json",
        "src/lib.rs",
        "tests/conformance.rs",
        "tests/transcripts/words-come-and-go.json",
        "tests/transcripts/the-server-says-no.json",
    ] {
        assert_eq!(shown(&readme, file), read(&format!("../examples/minimal-channel/{file}")), "{file}");
    }
}

#[test]
fn the_guide_shows_the_examples_cargo_toml() {
    // The example is built against the sources beside it, and is not published.
    let example = read("../examples/minimal-channel/Cargo.toml")
        .replace("{ path = \"../../channel-sdk\" }", "\"1\"")
        .replace("{ path = \"../../channel-sdk\",", "{ version = \"1\",")
        .replace("publish = false\n", "");
    let (example, _) = example.split_once("\n# It stands alone").expect("the example is its own workspace");
    assert_eq!(shown(&read("README.md"), "Cargo.toml"), example);
}

#[test]
fn the_other_languages_show_the_core_of_their_examples() {
    let readme = read("README.md");
    for (file, example) in [("app.py", "python-channel"), ("src/channel.ts", "js-channel")] {
        let shown = shown(&readme, file);
        let (core, _) = shown.split_once("\n  // … send").unwrap_or((&shown, ""));
        assert!(read(&format!("../examples/{example}/{file}")).contains(core), "{file}");
    }
}

#[test]
fn the_transcripts_of_the_example_are_all_shown() {
    let readme = read("README.md");
    let folder = root().join("../examples/minimal-channel/tests/transcripts");
    for entry in std::fs::read_dir(folder).expect("the example has transcripts") {
        let name = entry.expect("the folder can be read").file_name();
        assert!(readme.contains(&format!("`tests/transcripts/{}`", name.to_string_lossy())), "{name:?} is not shown");
    }
}
