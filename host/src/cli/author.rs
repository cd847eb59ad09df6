//! What an author of plugins needs: `omni plugins new`, `build`, `check`, `pack`, `sign` and `dev`. All but the last work
//! without a host.
//!
//! A project is a folder of one of three languages, and tells by its files which: `Cargo.toml` is Rust, `package.json`
//! JavaScript or TypeScript, `app.py` Python. What builds it are the languages' own tools; what comes out is one file.

use super::{CliError, Exit, Result};
use std::path::{Path, PathBuf};

mod build;
mod check;
mod dev;
mod pack;
mod project;
mod sign;

pub(super) use build::{Build, build};
pub(super) use check::{Check, check};
pub(super) use dev::{Dev, dev};
pub(super) use pack::{Pack, pack};
pub(super) use project::{New, new};
pub(super) use sign::{Sign, sign};

/// What a project is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    /// One source for a native plugin and for WASM
    Rust,
    /// WASM only
    Python,
    /// JavaScript or TypeScript; WASM only
    Js,
}

impl Language {
    /// What a folder is written in.
    fn of(folder: &Path) -> Result<Self> {
        let has = |file: &str| folder.join(file).is_file();
        match (has("Cargo.toml"), has("package.json"), has("app.py")) {
            (true, _, _) => Ok(Self::Rust),
            (_, true, _) => Ok(Self::Js),
            (_, _, true) => Ok(Self::Python),
            _ => {
                let what = format!("{} is no project of a plugin", folder.display());
                Err(CliError::new(Exit::NotFound, what).help(
                    "there is a Cargo.toml, a package.json or an app.py in one; `omni plugins new DIR` makes one",
                ))
            }
        }
    }
}

/// Where the transcripts of a plugin file lie: where it was said, or beside the file.
fn transcripts_of(file: &Path, said: Option<&Path>, folder: &Path) -> Result<Option<PathBuf>> {
    if let Some(said) = said {
        let said = folder.join(said);
        if !said.is_dir() {
            return Err(CliError::new(Exit::NotFound, format!("{} is no folder", said.display())));
        }
        return Ok(Some(said));
    }
    Ok([file.with_extension("transcripts"), file.with_file_name("transcripts")]
        .into_iter()
        .find(|found| found.is_dir()))
}
