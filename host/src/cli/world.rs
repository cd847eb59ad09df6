//! Everything outside that a command may touch. `main` takes it from the process, tests make their own.

use super::{Result, Ui};
use crate::clock::Clock;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments, environment, folder, terminal and clock.
#[derive(Debug)]
pub struct World {
    /// The arguments, the program's name first.
    pub args: Vec<OsString>,
    /// The environment. What is not Unicode is left out.
    pub env: BTreeMap<String, String>,
    /// The process's folder.
    pub folder: PathBuf,
    /// This program's own file.
    pub program: PathBuf,
    /// What is printed and typed.
    pub ui: Ui,
    /// Time.
    pub clock: Clock,
}

impl World {
    /// That of the running process.
    pub fn of_this_process() -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            args: std::env::args_os().collect(),
            env,
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            program: std::env::current_exe().and_then(|file| file.canonicalize()).unwrap_or_else(|_| "omni".into()),
            ui: Ui::of_this_process(),
            clock: Clock::system(),
        }
    }
}

/// Runs a client command. One thread is enough for one question.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}
