//! `omni plugins new`: a project to begin with, in one of three languages. It is the example of its language in the
//! repository, under a name of its own, and passes `check` as it is.

use super::Language;
use crate::cli::{CliError, Exit, Result, World};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of the SDK that a project is made for.
const SDK: &str = omni_channel_sdk::manifest::SDK_VERSION;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// A folder that is not there yet; its name becomes the channel's id
    dir: PathBuf,
    /// What to write it in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Where the SDK for Rust lies, when it is not to come from the registry
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// A file of a project: where it lies, and what is in it.
type File = (&'static str, &'static str);

/// The files of a folder of the repository, each under its own name below another one.
macro_rules! files {
    ($from:literal to $to:literal: $($file:literal),* $(,)?) => {
        &[$((concat!($to, $file), include_str!(concat!("../../../../", $from, "/", $file)))),*]
    };
}

const RUST: &[File] = files!("examples/minimal-channel" to "":
    "channel.json", "src/lib.rs", "tests/conformance.rs", "tests/transcripts/words-come-and-go.json",
    "tests/transcripts/the-server-says-no.json",
);
const PYTHON: &[File] = files!("examples/python-channel" to "":
    "channel.json", "app.py", "pyproject.toml", "requirements.txt", ".gitignore",
    "tests/transcripts/mail-comes-and-goes.json", "tests/transcripts/the-server-says-no.json",
);
const PYTHON_SDK: &[File] = files!("channel-sdk/python/omni_channel" to "omni_channel/":
    "__init__.py", "boundary.py", "build.py", "channel.py", "context.py", "driver.py", "errors.py", "frame.py", "http.py",
    "py.typed", "shape.py", "wire.py",
);
const JS: &[File] = files!("examples/js-channel" to "":
    "channel.json", "src/channel.ts", "package.json", "package-lock.json", "tsconfig.json", ".gitignore",
    "tests/transcripts/what-is-not-right.json", "tests/transcripts/words-come-and-go.json",
);
const JS_SDK: &[File] = files!("channel-sdk/js" to "omni-channel/":
    "build.ts", "channel.ts", "context.ts", "driver.ts", "errors.ts", "frame.ts", "http.ts", "json.ts", "modules.d.ts", "no-timers.ts",
    "omni-channel.ts", "omni-channel.test.mjs", "promise.ts", "shape.ts", "time.ts", "utf8.ts", "wire.ts",
);
const WIT: &[File] = files!("channel-sdk/wit" to "wit/": "channel.wit");

/// What an example calls itself, and what becomes of it.
struct Names<'a> {
    id: &'a str,
    example: &'static str,
    title: &'static str,
}

impl Names<'_> {
    fn put_into(&self, path: &str, text: &str) -> String {
        let quoted = |word: &str| format!("\"{word}\"");
        match path {
            "channel.json" | "package.json" | "package-lock.json" | "pyproject.toml" => {
                text.replace(&quoted(self.example), &quoted(self.id)).replace(&quoted(self.title), &quoted(self.id))
            }
            // Of what is the example's own; the SDK's files stay as they are.
            "tests/conformance.rs" => text.replace("minimal_channel", &self.id.replace('-', "_")),
            _ => text.to_owned(),
        }
    }
}

/// Makes a project.
pub(in crate::cli) fn new(args: &New, world: &mut World) -> Result<()> {
    let dir = world.folder.join(&args.dir);
    let id = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // A crate's name begins with a letter.
    let begins = id.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || id.len() > 50 || !id.chars().all(good) || id.ends_with('-') {
        let what = format!("the folder's name {id:?} is to be the channel's id");
        return Err(CliError::usage(what).help("take 1 to 50 lower-case letters, digits and dashes, a letter first"));
    }
    if dir.exists() {
        let what = format!("{} is there already; nothing was written", dir.display());
        return Err(CliError::new(Exit::Failed, what).help("name a folder that is not there yet"));
    }
    let files = files(args.lang, &id, args.sdk.as_deref().map(|sdk| world.folder.join(sdk)).as_deref())?;
    for (path, text) in &files {
        write(&dir.join(path), text)?;
    }
    if world.ui.json {
        let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        return world.ui.json(&json!({"dir": dir, "channel": id, "files": paths}));
    }
    world.ui.note(&format!("{} is a channel {id:?} to begin with; next:", dir.display()))?;
    world.ui.note(&format!("  omni plugins build {} --out {id}.wasm", args.dir.display()))?;
    world
        .ui
        .note(&format!("  omni plugins check {id}.wasm --transcripts {}", args.dir.join("tests/transcripts").display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, text));
    written.map_err(|error| CliError::failed(format!("failed to write {}: {error}", file.display())))
}

fn files(language: Language, id: &str, sdk: Option<&Path>) -> Result<Vec<(String, String)>> {
    let (files, names): (&[&[File]], _) = match language {
        Language::Rust => (&[RUST], Names { id, example: "minimal", title: "Minimal inbox" }),
        Language::Python => (&[PYTHON, PYTHON_SDK, WIT], Names { id, example: "mailbox", title: "Mailbox" }),
        Language::Js => (&[JS, JS_SDK, WIT], Names { id, example: "webhook-inbox", title: "Webhook inbox" }),
    };
    let files = files.iter().flat_map(|files| files.iter());
    let mut made: Vec<(String, String)> =
        files.map(|(path, text)| ((*path).to_owned(), names.put_into(path, text))).collect();
    if language == Language::Rust {
        made.push(("Cargo.toml".into(), cargo_toml(id, sdk)?));
        made.push((".gitignore".into(), "/target\n/dist\n*.wasm\n".into()));
    }
    Ok(made)
}

fn cargo_toml(id: &str, sdk: Option<&Path>) -> Result<String> {
    let from = match sdk {
        None => format!("version = \"{SDK}\""),
        Some(sdk) => {
            let sdk = sdk.canonicalize().map_err(|error| {
                CliError::new(Exit::NotFound, format!("there is no SDK in {}: {error}", sdk.display()))
            })?;
            format!("path = {}", toml::Value::from(sdk.to_string_lossy().into_owned()))
        }
    };
    Ok(format!(
        r#"[package]
name = "{id}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
omni-channel-sdk = {{ {from} }}
serde = {{ version = "1", features = ["derive"] }}

[dev-dependencies]
omni-channel-sdk = {{ {from}, features = ["testkit"] }}

# A host compiles it: the smaller, the sooner it runs, and the less memory each instance takes.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1

# It stands alone, also in the folder of another one.
[workspace]
"#
    ))
}
