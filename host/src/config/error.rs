//! Why a configuration was refused: which file or variable, which line, which key, what was expected, what was meant.

use super::load::Origin;
use std::path::PathBuf;

/// A configuration that cannot be used. Secrets are never in the sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("failed to read the configuration file {file}: {source}")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{file}:{line}: this is not TOML: {message}")]
    Syntax {
        /// Which.
        file: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A key or section is not known.
    #[error("{origin}: there is no {what} `{name}`{}", meant(nearest.as_deref()))]
    Unknown {
        /// Where it was found.
        origin: Origin,
        /// `key` or `section`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The one that was most likely meant.
        nearest: Option<String>,
    },
    /// A value does not fit its key.
    #[error("{origin}: `{key}`: {problem}")]
    Value {
        /// Where it was found.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => "; examples/omni.toml lists every key".into(),
    }
}
