//! `omni plugins build`: one plugin file of a project, by the tools of its language.

use super::Language;
use crate::cli::ui::{Ui, size_of};
use crate::cli::{CliError, Result, World};
use crate::plugins::admission;
use omni_channel_sdk::manifest::{SDK_VERSION, WASM_ABI, WASM_SECTION};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// Comes with every toolchain of rustup's.
const LINKER: (&str, &str) = ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld");
/// What is only of use to a debugger is half of such a file.
const STRIP: (&str, &str) = ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
const COMPONENTIZE_PY: &str = "componentize-py";

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Target {
    /// A component that runs in a sandbox, on any machine
    Wasm,
    /// A library for this machine; of Rust only
    Native,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Build {
    /// The project's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, default_value = "wasm")]
    target: Target,
    /// Where to put the plugin file [default: NAME.wasm or NAME.so in this folder]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Builds and says what came of it.
pub(in crate::cli) fn build(args: &Build, world: &mut World) -> Result<()> {
    let dir = world.folder.join(&args.dir);
    let bytes = plugin(&dir, args.target, world)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let manifest = admission::inspect(&bytes, &sha256).map_err(|refused| {
        CliError::failed(format!("what was built is no plugin that this host would load: {}", refused.reason))
    })?;
    let ending = match args.target {
        Target::Wasm => "wasm",
        Target::Native => std::env::consts::DLL_EXTENSION,
    };
    let out = match &args.out {
        Some(out) => world.folder.join(out),
        None => world.folder.join(format!("{}.{ending}", manifest.channel.id)),
    };
    put(&out, &bytes)?;
    if world.ui.json {
        return world.ui.json(&json!({"file": out, "size": bytes.len(), "sha256": sha256, "manifest": manifest}));
    }
    world.ui.note(&format!(
        "{} {}, {}: {}",
        manifest.channel.id,
        manifest.version,
        size_of(bytes.len() as u64),
        out.display()
    ))?;
    world.ui.note(&format!("next: omni plugins check {}", out.display()))
}

/// Writes a file whole, or not at all: one that a host watches never sees half of it.
pub(super) fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: std::io::Error| CliError::failed(format!("failed to write {}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(format!(".{}.new", std::process::id()));
    let written = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, file));
    if written.is_err() {
        // It may not even be there; the error that counts is the first one.
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(failed)
}

/// The plugin that a project is.
pub(super) fn plugin(dir: &Path, target: Target, world: &mut World) -> Result<Vec<u8>> {
    let ui = &mut world.ui;
    match (Language::of(dir)?, target) {
        (Language::Rust, target) => rust(dir, target, &world.env, ui),
        (Language::Js, Target::Wasm) => js(dir, ui),
        (Language::Python, Target::Wasm) => python(dir, ui),
        (_, Target::Native) => Err(CliError::usage("only projects in Rust can be built as native plugins")
            .help("leave --target away: a component runs on every host")),
    }
}

fn rust(dir: &Path, target: Target, env: &BTreeMap<String, String>, ui: &mut Ui) -> Result<Vec<u8>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    if target == Target::Wasm {
        cargo.args(["--target", WASM_TARGET]);
        for (name, value) in [LINKER, STRIP] {
            if !env.contains_key(name) {
                cargo.env(name, value);
            }
        }
        let before = env.get("PATH").map(String::as_str).unwrap_or_default();
        let found = std::env::join_paths(std::env::split_paths(before).chain(linkers()));
        cargo.env("PATH", found.map_err(|error| CliError::failed(format!("PATH cannot be made longer: {error}")))?);
    }
    let help = match target {
        Target::Wasm => "if std is not found: rustup target add wasm32-unknown-unknown",
        Target::Native => "cargo said what is wrong",
    };
    let said = run(cargo.stdout(Stdio::piped()), dir, ui, help)?;
    let ending = if target == Target::Wasm { "wasm" } else { std::env::consts::DLL_EXTENSION };
    let made = String::from_utf8_lossy(&said);
    let mut files = made.lines().filter_map(library).flatten();
    let file = files.rfind(|file| file.extension() == Some(OsStr::new(ending))).ok_or_else(|| {
        CliError::failed("cargo built no plugin")
            .help("[lib] in Cargo.toml has to say crate-type = [\"cdylib\", \"rlib\"]")
    })?;
    read(&file)
}

/// Where a toolchain of rustup's keeps the linker for components, and the one for WASM that it calls.
fn linkers() -> Vec<PathBuf> {
    let says = |what: &str| {
        let said = Command::new("rustc").args(["--print", what]).stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8(said.stdout).ok()?.trim().to_owned()).filter(|_| said.status.success())
    };
    let (Some(sysroot), Some(host)) = (says("sysroot"), says("host-tuple")) else { return Vec::new() };
    let tools = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin");
    vec![tools.join("gcc-ld"), tools]
}

/// The files of a library that a line of cargo's speaks of.
fn library(line: &str) -> Option<Vec<PathBuf>> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_library = line["target"]["kind"].as_array()?.iter().any(|kind| kind == "cdylib");
    is_library.then(|| serde_json::from_value(line["filenames"].clone()).ok())?
}

fn js(dir: &Path, ui: &mut Ui) -> Result<Vec<u8>> {
    // npm writes this last: without it an installation was broken off.
    if !dir.join("node_modules/.package-lock.json").is_file() {
        ui.note("installing what package.json names")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]);
        // By itself it waits five minutes for a registry that says nothing.
        npm.args(["--fetch-timeout=30000", "--fetch-retries=4"]);
        run(&mut npm, dir, ui, "node 20 or newer with npm is needed")?;
    }
    run(Command::new("npm").args(["run", "--silent", "build"]), dir, ui, "the script `build` of package.json failed")?;
    let package: Value = serde_json::from_slice(&read(&dir.join("package.json"))?)
        .map_err(|error| CliError::failed(format!("package.json: {error}")))?;
    let version = package["version"].as_str().ok_or_else(|| CliError::failed("package.json has no version"))?;
    with_manifest(&read(&dir.join("build/channel.wasm"))?, dir, version)
}

fn python(dir: &Path, ui: &mut Ui) -> Result<Vec<u8>> {
    let local = dir.join(".venv/bin").join(COMPONENTIZE_PY);
    if !local.is_file() {
        ui.note("installing what requirements.txt names into .venv")?;
        let help = "Python 3.10 or newer with venv is needed (package python3-venv)";
        run(Command::new("python3").args(["-m", "venv", ".venv"]), dir, ui, help)?;
        let pip = ["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(dir.join(".venv/bin/pip")).args(pip), dir, ui, "pip failed")?;
    }
    let scratch = tempfile::tempdir()?;
    let made = scratch.path().join("app.wasm");
    // It does not follow a link out of the folder.
    let helpers = dir.join("omni_channel").canonicalize().ok().and_then(|helpers| helpers.parent().map(Path::to_owned));
    let helpers = helpers.ok_or_else(|| {
        CliError::failed(format!("{} has no folder omni_channel", dir.display()))
            .help("it is the SDK for Python; `omni plugins new DIR --lang python` puts it there")
    })?;
    let mut tool = Command::new(&local);
    tool.args(["-d", "wit", "-w", "plugin", "componentize", "--stub-wasi", "app", "-p", ".", "-p"]).arg(helpers);
    run(tool.arg("-o").arg(&made).stdout(Stdio::null()), dir, ui, "componentize-py said what is wrong")?;
    let project = String::from_utf8_lossy(&read(&dir.join("pyproject.toml"))?).into_owned();
    let project: toml::Table =
        project.parse().map_err(|error: toml::de::Error| CliError::failed(format!("pyproject.toml: {error}")))?;
    let version = project.get("project").and_then(|project| project.get("version")).and_then(toml::Value::as_str);
    let version = version.ok_or_else(|| CliError::failed("pyproject.toml has no project.version"))?;
    with_manifest(&read(&made)?, dir, version)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| CliError::failed(format!("failed to read {}: {error}", file.display())))
}

/// Runs a tool in a project; gives back what it printed, where that is piped.
fn run(tool: &mut Command, dir: &Path, ui: &mut Ui, help: &str) -> Result<Vec<u8>> {
    let name = tool.get_program().to_string_lossy().into_owned();
    // What it says is for whoever reads standard error: standard output is ours.
    let said = tool.current_dir(dir).stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().and_then(|child| {
        ui.err.flush()?;
        child.wait_with_output()
    });
    match said {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(CliError::failed(format!("{name} failed ({})", output.status)).help(help)),
        Err(error) => Err(CliError::failed(format!("{name} cannot be run: {error}")).help(help)),
    }
}

/// A component with what the host reads about it before it runs any of it.
fn with_manifest(component: &[u8], dir: &Path, version: &str) -> Result<Vec<u8>> {
    let channel = String::from_utf8(read(&dir.join("channel.json"))?)
        .map_err(|_| CliError::failed("channel.json is not UTF-8"))?;
    let channel: Box<RawValue> =
        serde_json::from_str(&channel).map_err(|error| CliError::failed(format!("channel.json: {error}")))?;
    let manifest = json!({
        "manifest": 1, "version": version, "sdk": SDK_VERSION, "abi": WASM_ABI, "panic": "abort", "target": "wasm32",
        "channel": channel,
    });
    let manifest = manifest.to_string();
    let mut section = leb128(WASM_SECTION.len());
    section.extend_from_slice(WASM_SECTION.as_bytes());
    section.extend_from_slice(manifest.as_bytes());
    let mut bytes = component.to_vec();
    // A custom section: its number, how long it is, and what it is called.
    bytes.push(0);
    bytes.extend(leb128(section.len()));
    bytes.extend(section);
    Ok(bytes)
}

/// A number as WASM writes it.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_wasm_has_them() {
        for (number, bytes) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (624_485, &[0xe5, 0x8e, 0x26])] {
            assert_eq!(leb128(number), bytes, "{number}");
        }
    }

    #[test]
    fn a_manifest_is_put_on_and_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let channel =
            r#"{"id":"tiny","name":"Tiny","capabilities":{"events":["message"]},"configSchema":{"type":"object"}}"#;
        fs::write(dir.path().join("channel.json"), channel).expect("writes");
        let component = wat::parse_str("(component)").expect("it is one");
        let bytes = with_manifest(&component, dir.path(), "1.2.3").expect("it is put on");
        let manifest = crate::plugins::manifest_of(&bytes).expect("it is read");
        assert_eq!((manifest.channel.id.as_str(), manifest.version.as_str()), ("tiny", "1.2.3"));
        assert_eq!(manifest.abi, WASM_ABI);
    }
}
