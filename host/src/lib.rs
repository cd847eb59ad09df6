//! The Omni host: loads channel plugins, carries their messages into one store, and serves them through one API.

pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data;
pub mod http;
pub mod inbound;
pub mod instances;
pub mod media;
pub mod outbound;
pub mod plugins;
pub mod retention;
pub mod run;
pub mod secrets;
pub mod store;

/// What every part of the host is given: a handful of cheap handles. Functions below the handlers take the part they use.
#[derive(Clone, Debug)]
pub struct Host {
    /// Time.
    pub clock: clock::Clock,
    /// The database.
    pub store: store::Store,
    /// What networks were told that we have.
    pub bus: bus::Bus,
    /// How far the storage consumer is.
    pub inbound: inbound::Inbound,
    /// Plugin files.
    pub plugins: plugins::Plugins,
    /// Instances.
    pub instances: instances::Instances,
    /// Messages to the networks.
    pub outbound: outbound::Outbound,
    /// Files.
    pub media: media::MediaStore,
}
