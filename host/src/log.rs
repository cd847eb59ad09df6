//! What the host says about itself: started once, turned up and down while it runs.
//!
//! Deliberately not here: what is worth a line.

use crate::config::LogFormat;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

/// Why the log was not started or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level means nothing.
    #[error(
        "{level:?} is no log level: write error, warn, info, debug or trace, or by part: info,omni_host::outbound=debug ({reason})"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be started or changed.
    #[error("failed to set up the log: {0}")]
    Failed(String),
}

type Set = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// The handle with which the log is turned up and down. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    set: Arc<Set>,
    level: Arc<Mutex<String>>,
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogLevel({})", self.get())
    }
}

impl LogLevel {
    /// With what a new filter is given to.
    pub fn new(level: &str, set: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { set: Arc::new(set), level: Arc::new(Mutex::new(level.to_owned())) }
    }

    /// What is said now.
    pub fn get(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, at once and until the host ends.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        (self.set)(filter).map_err(LogError::Failed)?;
        level.clone_into(&mut current);
        drop(current);
        tracing::info!(log.level = level, "the log level is changed");
        Ok(())
    }
}

/// A level, checked. Unlike the filter itself it takes no word for the name of a part.
pub fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = |reason: String| LogError::Level { level: level.to_owned(), reason };
    let words = ["off", "error", "warn", "info", "debug", "trace"];
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    for part in parts.iter().filter(|part| !part.contains(['=', ':', '['])) {
        if !words.contains(&part.to_ascii_lowercase().as_str()) {
            return Err(wrong(format!("{part:?} is none")));
        }
    }
    EnvFilter::try_new(parts.join(",")).map_err(|error| wrong(error.to_string()))
}

/// Starts the log. Only the first call in a process does anything.
pub fn start(level: &str, format: LogFormat, colour: bool) -> Result<LogLevel, LogError> {
    let log = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_ansi(colour).with_writer(std::io::stderr);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| LogError::Failed(error.to_string());
    match format {
        LogFormat::Pretty => {
            let log = log.with_target(false).with_filter_reloading();
            let handle = log.reload_handle();
            log.try_init().map_err(failed)?;
            Ok(LogLevel::new(level, setter(handle)))
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.try_init().map_err(failed)?;
            Ok(LogLevel::new(level, setter(handle)))
        }
    }
}

fn setter<S: 'static>(handle: Handle<EnvFilter, S>) -> impl Fn(EnvFilter) -> Result<(), String> + Send + Sync {
    move |filter| handle.reload(filter).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_a_list_by_part() {
        for good in ["info", "DEBUG", "off", "info,omni_host::outbound=debug", "warn, omni_host=trace"] {
            filter(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", "loud", "info,loud", "omni_host=loud"] {
            let error = filter(bad).expect_err(bad).to_string();
            assert!(error.contains("is no log level") && error.contains("omni_host::outbound=debug"), "{error}");
        }
    }

    #[test]
    fn a_refused_level_changes_nothing() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&heard);
        let level = LogLevel::new("info", move |filter| {
            ear.lock().expect("no panic").push(filter.to_string());
            Ok(())
        });
        level.set("debug").expect("a level");
        assert!(level.set("loud").is_err());
        assert_eq!(
            (level.get().as_str(), heard.lock().expect("no panic").as_slice()),
            ("debug", &["debug".to_owned()][..])
        );
    }
}
