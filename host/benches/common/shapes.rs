//! The shapes in which an installation runs: everything in one file, the log in Postgres, or the log in NATS before it.
//!
//! The servers are started here, for this machine alone, in temporary folders on the disk that was calibrated, and end with
//! the measurement. Postgres has its own defaults, and NATS flushes as it does by default, or always.

use crate::{nats_server, postgres_server};
use omni_host::config::{BusUrl, Config, DatabaseUrl};

/// A shape.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Log and store in one file of SQLite.
    Embedded,
    /// Log and store in Postgres.
    Postgres,
    /// The log in NATS, which flushes every two minutes, and the store in Postgres.
    Nats,
    /// The same, with NATS flushing before it acknowledges.
    NatsAlways,
}

impl Shape {
    const ALL: [Self; 4] = [Self::Embedded, Self::Postgres, Self::Nats, Self::NatsAlways];

    /// Its name, which is the argument that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
            Self::Nats => "nats",
            Self::NatsAlways => "nats-always",
        }
    }

    /// Those that the arguments ask for, or all of them.
    pub fn chosen() -> Vec<Self> {
        // cargo has an argument of its own.
        let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
        for word in &asked {
            let known = Self::ALL.map(Self::name);
            assert!(known.contains(&word.as_str()), "there is no shape `{word}`; there are {}", known.join(", "));
        }
        Self::ALL
            .into_iter()
            .filter(|shape| asked.is_empty() || asked.iter().any(|word| word == shape.name()))
            .collect()
    }

    /// Starts its servers; `None` when they are not installed, or `OMNI_TEST_NATS` does not say where they are.
    pub fn servers(self) -> Option<Servers> {
        let sync = match self {
            Self::Embedded => return Some(Servers { postgres: None, nats: None }),
            Self::Postgres => None,
            Self::Nats => Some("2m"),
            Self::NatsAlways => Some("always"),
        };
        let nats = match sync {
            Some(sync) => Some(nats_server::Server::start(sync)?),
            None => None,
        };
        let postgres = postgres_server::Server::start(&[])?;
        postgres.create("omni", None);
        Some(Servers { postgres: Some(postgres), nats })
    }
}

/// The servers of a shape. They end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    postgres: Option<postgres_server::Server>,
    nats: Option<nats_server::Server>,
}

impl Servers {
    /// Tells a host of them.
    pub fn configure(&self, config: &mut Config) {
        if let Some(postgres) = &self.postgres {
            config.database.url = postgres.url("omni").parse::<DatabaseUrl>().expect("an address");
        }
        if let Some(nats) = &self.nats {
            config.bus.url = nats.url(0).parse::<BusUrl>().expect("an address");
        }
    }
}
