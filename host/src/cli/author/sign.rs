//! `omni plugins sign`: a minisign signature beside a plugin file, which hosts ask for under `plugins.trust = "signed"`, and
//! the key that makes it. minisign's own program makes the same.

use super::build::put;
use crate::cli::plugins::read;
use crate::cli::ui::Ui;
use crate::cli::{CliError, Result, World};
use crate::plugins::signature::{comment, signature_file};
use crate::plugins::{admission, signature};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the password of a key comes from when nobody can be asked.
const PASSWORD: &str = "OMNI_SIGNING_PASSWORD";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Sign {
    /// The plugin file
    #[arg(required_unless_present = "new_key")]
    file: Option<PathBuf>,
    /// The secret key; its password is asked for, or taken from OMNI_SIGNING_PASSWORD
    #[arg(long, value_name = "FILE", required_unless_present = "new_key", conflicts_with = "new_key")]
    key: Option<PathBuf>,
    /// Make a key first: the secret one into FILE, the public one into FILE with .pub behind it
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
}

/// Signs a file, and makes the key before where that is asked for.
pub(in crate::cli) fn sign(args: &Sign, world: &mut World) -> Result<()> {
    let secret = match (&args.new_key, &args.key) {
        (Some(new), _) => make(&world.folder.join(new), world)?,
        (None, Some(key)) => open(&world.folder.join(key), world)?,
        (None, None) => return Err(CliError::usage("no key was named")),
    };
    let public = PublicKey::from_secret_key(&secret).map_err(|error| CliError::failed(error.to_string()))?.to_base64();
    let Some(file) = args.file.as_ref().map(|file| world.folder.join(file)) else {
        return if world.ui.json { world.ui.json(&json!({"publicKey": public})) } else { Ok(()) };
    };
    let bytes = read(&file)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let manifest = admission::inspect(&bytes, &sha256)
        .map_err(|refused| CliError::failed(format!("{}: {}; it was not signed", file.display(), refused.reason)))?;
    let trusted = comment(&manifest);
    let signed = minisign::sign(None, &secret, &*bytes, Some(&trusted), Some("signature of an Omni plugin"));
    let signed = signed.map_err(|error| CliError::failed(format!("it could not be signed: {error}")))?.into_string();
    let beside = signature_file(&file);
    put(&beside, signed.as_bytes())?;
    // What a host will say of it.
    let key = signature::Key::parse(&public).map_err(CliError::failed)?;
    let key_id = signature::verify(&file, &bytes, &manifest, &[key]).map_err(CliError::failed)?;
    if world.ui.json {
        return world.ui.json(&json!({"signature": beside, "keyId": key_id, "publicKey": public, "comment": trusted}));
    }
    world.ui.note(&format!("{} says {trusted:?}, by the key {key_id}", beside.display()))?;
    world.ui.note(&format!("hosts trust it with: plugins.trust = \"signed\" and plugins.keys = [\"{public}\"]"))
}

fn password(question: &str, world: &mut World) -> Result<String> {
    match world.env.get(PASSWORD) {
        Some(password) => Ok(password.clone()),
        None if world.ui.terminal.input => world.ui.ask(question, true),
        None => Err(CliError::usage(format!("{question} Nobody can be asked here.")).help(format!("set {PASSWORD}"))),
    }
}

fn make(key: &Path, world: &mut World) -> Result<SecretKey> {
    let password = password("A password for the new key:", world)?;
    if password.is_empty() {
        return Err(CliError::usage("a key needs a password"));
    }
    let failed = |error: minisign::PError| CliError::failed(format!("the key cannot be made: {error}"));
    let KeyPair { pk, sk } = in_a_while("making the key", &world.ui, || {
        KeyPair::generate_encrypted_keypair(Some(password.clone())).map_err(failed)
    })?;
    let written = |error: std::io::Error| CliError::failed(format!("failed to write {}: {error}", key.display()));
    let secret = sk.to_box(Some("omni: secret key")).map_err(failed)?.into_string();
    // Never over another key.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(key);
    file.and_then(|mut file| file.write_all(secret.as_bytes())).map_err(written)?;
    let public = pk.to_box().map_err(failed)?.into_string();
    let mut beside = key.as_os_str().to_owned();
    beside.push(".pub");
    put(Path::new(&beside), public.as_bytes())?;
    if !world.ui.json {
        world.ui.note(&format!("the secret key is {}: keep it where nobody else reads it", key.display()))?;
        world.ui.note(&format!("the public key is {}: give it to whoever is to trust you", pk.to_base64()))?;
    }
    // It was sealed with the password, as it was written.
    let sealed = SecretKeyBox::from_string(&secret).map_err(failed)?;
    in_a_while("opening the key", &world.ui, || sealed.into_secret_key(Some(password)).map_err(failed))
}

fn open(key: &Path, world: &mut World) -> Result<SecretKey> {
    let text = String::from_utf8_lossy(&read(key)?).into_owned();
    let no_key = || CliError::failed(format!("{} is no secret key of minisign", key.display()));
    let sealed = SecretKeyBox::from_string(&text).map_err(|_| no_key())?;
    // One without a password opens by itself.
    if let Ok(open) = SecretKeyBox::from_string(&text).map_err(|_| no_key())?.into_unencrypted_secret_key() {
        return Ok(open);
    }
    // The second line is the key; without it there is none that a password would open.
    if text.lines().nth(1).is_none_or(|line| line.trim().is_empty()) {
        return Err(no_key());
    }
    let password = password(&format!("The password of {}:", key.display()), world)?;
    in_a_while("opening the key", &world.ui, || {
        sealed.into_secret_key(Some(password)).map_err(|error| {
            CliError::failed(format!("{} does not open: {error}", key.display())).help("is it the right password?")
        })
    })
}

/// A key's password is made slow to guess, which takes a moment.
fn in_a_while<T>(what: &str, ui: &Ui, work: impl FnOnce() -> T) -> T {
    let spinner = ui.spinner(what);
    let done = work();
    spinner.finish_and_clear();
    done
}
