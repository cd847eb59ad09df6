//! `omni plugins pack`: what is published of a plugin. Its file under a name that says what it is, its transcripts beside
//! it, and its SHA-256 in the format of `sha256sum`.

use super::build::put;
use super::transcripts_of;
use crate::cli::plugins::read;
use crate::cli::{CliError, Result, World};
use crate::plugins::admission;
use crate::plugins::manifest::is_wasm;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Pack {
    /// The plugin file
    file: PathBuf,
    /// The folder of its transcripts [default: as `check` finds them]
    #[arg(long, value_name = "DIR")]
    transcripts: Option<PathBuf>,
    /// Where to put it
    #[arg(long, short, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
}

/// Packs a file.
pub(in crate::cli) fn pack(args: &Pack, world: &mut World) -> Result<()> {
    let file = world.folder.join(&args.file);
    let bytes = read(&file)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let manifest = admission::inspect(&bytes, &sha256)
        .map_err(|refused| CliError::failed(format!("{}: {}", file.display(), refused.reason)))?;
    semver::Version::parse(&manifest.version)
        .map_err(|error| CliError::failed(format!("its version {:?} is not semver: {error}", manifest.version)))?;
    let stem = format!("{}-{}", manifest.channel.id, manifest.version);
    let (stem, ending) = if is_wasm(&bytes) {
        (stem, "wasm")
    } else {
        (format!("{stem}-{}", manifest.target), file.extension().and_then(|end| end.to_str()).unwrap_or("so"))
    };
    let out = world.folder.join(&args.out);
    let packed = out.join(format!("{stem}.{ending}"));
    put(&packed, &bytes)?;
    let mut beside = 0;
    if let Some(transcripts) = transcripts_of(&file, args.transcripts.as_deref(), &world.folder)? {
        for entry in std::fs::read_dir(&transcripts)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let name = path.file_name().unwrap_or_default();
                put(&out.join(format!("{stem}.transcripts")).join(name), &std::fs::read(&path)?)?;
                beside += 1;
            }
        }
    }
    put(&out.join(format!("{stem}.{ending}.sha256")), format!("{sha256}  {stem}.{ending}\n").as_bytes())?;
    if world.ui.json {
        return world.ui.json(&json!({"file": packed, "sha256": sha256, "transcripts": beside}));
    }
    world.ui.note(&format!("{} with {beside} transcripts, SHA-256 {sha256}", packed.display()))?;
    world.ui.note(&format!("next: omni plugins sign {} --key YOUR.key", packed.display()))
}
