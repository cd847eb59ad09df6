//! `omni instances export-auth`: what an account logs in with, as files for another program.

use super::client::{Client, segment};
use super::ui::Ui;
use super::{CliError, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct ExportAuth {
    /// Its name or id
    instance: String,
    /// A folder that is not there yet, or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Although it is to be connected
    #[arg(long)]
    force: bool,
}

/// A folder that is being filled; gone unless it was moved to its place.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn run(args: ExportAuth, client: &Client, ui: &mut Ui) -> Result<()> {
    let out = &args.out;
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
        return Err(CliError::usage(format!("{} is not empty; name another folder", out.display())));
    }
    let path = format!("/instances/{}/auth-export", segment(&args.instance));
    let answer = client.post_slowly(&path, json!({ "force": args.force })).await?;
    let files = answer["files"].as_object().cloned().unwrap_or_default();
    let written = write(out, files.iter().map(|(name, content)| (name.as_str(), content)));
    written.map_err(|error| CliError::failed(format!("failed to write {}: {error}", out.display())))?;
    if ui.json {
        return ui.json(&json!({ "out": out, "files": files.len() }));
    }
    ui.note(&format!("wrote {} files to {}; whoever has them has the account", files.len(), out.display()))?;
    ui.note(&format!(
        "two programs with one identity fight: do not connect {} here while another program uses them",
        args.instance
    ))
}

/// All of them, or none.
fn write<'a>(out: &Path, files: impl Iterator<Item = (&'a str, &'a Value)>) -> io::Result<()> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let partial = Partial(out.with_file_name(format!(".{name}.partial-{}", std::process::id())));
    DirBuilder::new().mode(0o700).create(&partial.0)?;
    for (name, content) in files {
        let plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if !plain {
            return Err(io::Error::other(format!("{name:?} is no name of a file")));
        }
        let content = BASE64.decode(content.as_str().unwrap_or_default()).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial.0.join(name))?;
        file.write_all(&content)?;
        file.sync_all()?;
    }
    // Takes the place of an empty folder, and of nothing else.
    fs::rename(&partial.0, out)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn all_files_are_there_for_their_owner_alone_or_none() {
        let home = tempfile::tempdir().expect("a folder");
        let out = home.path().join("out");
        let (good, bad) = (json!(BASE64.encode("x")), json!("%"));
        assert!(write(&out, [("a", &good), ("b", &bad)].into_iter()).is_err());
        assert!(write(&out, [("a", &good), ("../b", &good)].into_iter()).is_err());
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 0, "nothing is left of it");
        fs::create_dir(&out).expect("an empty one");
        write(&out, [("a", &good)].into_iter()).expect("writes");
        let mode = |path: &Path| fs::metadata(path).expect("is there").mode() & 0o777;
        assert_eq!((mode(&out), mode(&out.join("a"))), (0o700, 0o600));
        assert!(write(&out, [("b", &good)].into_iter()).is_err(), "it is not empty");
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 1);
    }
}
