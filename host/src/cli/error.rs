//! What a command says when it could not do what was asked, and the exit code that goes with it.

use crate::config::ConfigError;
use std::io;

/// How a command ended, as scripts see it. The numbers are promised in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed, for none of the reasons below.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The API key is missing, wrong, or may not do this.
    NotAuthorised = 4,
    /// No server answered.
    Unreachable = 5,
    /// A message was not delivered, or it is not known whether it was.
    NotDelivered = 6,
    /// Nothing is broken, but something that a plugin declares is not proved.
    NotProved = 7,
}

/// A sentence about what went wrong, and one about what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the program ends.
    pub exit: Exit,
    /// What went wrong. Empty when nobody is left to read it.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl CliError {
    /// An error without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    /// Something that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Something that was asked wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string()).help("`omni config check` shows every value and where it came from")
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough (`omni events | head`).
            return Self::new(Exit::Done, "");
        }
        Self::failed(format!("failed to read or write: {error}"))
    }
}
