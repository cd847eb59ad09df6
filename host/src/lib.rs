//! The Omni host: loads channel plugins, carries their messages into one store, and serves them through one API.

pub mod clock;
pub mod http;
pub mod instances;
pub mod media;
pub mod outbound;
pub mod plugins;
pub mod store;

/// What every part of the host is given: a handful of cheap handles. Functions below the handlers take the part they use.
#[derive(Clone, Debug)]
pub struct Host {
    /// Time.
    pub clock: clock::Clock,
    /// The database.
    pub store: store::Store,
    /// Plugin files.
    pub plugins: plugins::Plugins,
    /// Instances.
    pub instances: instances::Instances,
    /// Messages to the networks.
    pub outbound: outbound::Outbound,
    /// Files.
    pub media: media::MediaStore,
}
