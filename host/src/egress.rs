//! Where the host may connect to on behalf of others: the one guard for webhooks, files that messages name, and the
//! calls and sockets of channels.
//!
//! What is checked is the address that the connection is made to, at the moment it is made, so that a name cannot
//! answer one thing to the check and another to the connection. Private addresses are refused unless the operator
//! granted them: by range in the configuration (`network.allow_private`), or by pointing a thing at one with a key that
//! may do everything ([`Destination::granted`]).
//!
//! With a proxy (the configuration's, or one of an instance's own) everything goes by way of it, sockets too. It looks names
//! up, so that what they lead to is its own affair; addresses that are written out are checked here all the same. A proxy
//! of an instance's own must itself be let through; the configuration's may lie anywhere.
//!
//! Deliberately not here: what is sent, and how often. Channels that bring a network library of their own
//! do not come by here; they are told which way to go ([`Egress::told`]).

pub mod address;
pub mod proxy;
pub mod tls;

use crate::config::Network;
use address::{Reach, reach};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use omni_channel_sdk::frame;
use proxy::{Proxy, Stream};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, ClientBuilder, Url};
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A redirect chain of a file that is fetched.
const MAX_REDIRECTS: usize = 5;
/// How long a connection may take to be made; and as long again a proxy to open a way.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why a connection is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// It is no address that can be called.
    #[error("{0}")]
    Unusable(String),
    /// It leads into the machine or its network.
    #[error(
        "{host} leads to the private address {address}; the operator can grant it: network.allow_private = [\"{address}\"]"
    )]
    Private {
        /// As it was asked for.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// The name leads nowhere.
    #[error("{host} cannot be resolved: {reason}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// The proxy opens no way: the sentence says which, and why, and never its password.
    #[error("{0}")]
    Proxy(String),
}

/// Looks a name up.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The guard. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    granted: Arc<[IpNet]>,
    proxy: Option<Proxy>,
    /// Trusted beside those that the machine trusts.
    authorities: Arc<[CertificateDer<'static>]>,
    lookup: Lookup,
    connect_within: Duration,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Default for Egress {
    /// One that grants nothing private.
    fn default() -> Self {
        let lookup: Lookup = Arc::new(|name| Box::pin(look_up(name)));
        Self { granted: Arc::from([]), proxy: None, authorities: Arc::from([]), lookup, connect_within: CONNECT_WITHIN }
    }
}

async fn look_up(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// What one thing (an instance, a webhook) was granted by the operator beyond public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Public addresses, and what the configuration grants.
    #[default]
    Public,
    /// Private addresses as well, because the operator named this very address. Special ones are not among them.
    Granted,
}

impl Destination {
    /// By whether the operator granted it.
    pub fn granted(granted: bool) -> Self {
        if granted { Self::Granted } else { Self::Public }
    }
}

/// Reads a range (`10.0.0.0/8`) or a single address (`127.0.0.1`).
pub fn parse_range(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    range.map_err(|_| format!("{text:?} is no range of addresses; write one such as \"10.0.0.0/8\" or \"127.0.0.1\""))
}

impl Egress {
    /// One that grants these ranges to everything, and goes by way of a proxy when there is one.
    pub fn new(granted: &[String], proxy: Option<&str>) -> Result<Self, EgressError> {
        let granted = granted.iter().map(|range| parse_range(range)).collect::<Result<Vec<_>, _>>();
        let granted = granted.map_err(EgressError::Unusable)?.into();
        // The address may hold a password, so it is not repeated.
        let wrong = |what| EgressError::Unusable(format!("network.proxy {what}"));
        let proxy = proxy.map(|proxy| proxy::parse(proxy).map_err(wrong)).transpose()?;
        let proxy = proxy.map(|url| Proxy { url, place: None });
        Ok(Self { granted, proxy, ..Self::default() })
    }

    /// One as the configuration says.
    pub fn of(network: &Network) -> Result<Self, EgressError> {
        let egress = Self::new(&network.allow_private, network.proxy.as_ref().map(|proxy| proxy.expose()))?;
        match &network.ca_file {
            Some(file) => egress.with_ca_file(file),
            None => Ok(egress),
        }
    }

    /// The proxy that everything goes by way of, without user and password.
    pub fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy::shown(&proxy.url))
    }

    /// What a channel is told that connects by itself. The proxy's address is looked at here, since nobody does so later.
    pub async fn told(&self) -> Result<frame::Egress, EgressError> {
        if let Some(proxy) = &self.proxy {
            self.addresses_of(proxy).await?;
        }
        let proxy = self.proxy.as_ref().map(|proxy| proxy.url.to_string());
        let authorities = self.authorities.iter().map(|der| BASE64.encode(der)).collect();
        Ok(frame::Egress { proxy, authorities })
    }

    /// One that goes by way of another proxy, which may lie where `place` says.
    pub fn by_way_of(&self, url: Url, place: Destination) -> Result<Self, EgressError> {
        self.check(&url, place)?;
        Ok(Self { proxy: Some(Proxy { url, place: Some(place) }), ..self.clone() })
    }

    /// With authorities whose certificates are trusted, in a PEM file.
    pub fn with_ca_file(mut self, file: &Path) -> Result<Self, EgressError> {
        self.authorities = tls::read(file)?.into();
        Ok(self)
    }

    /// How TLS is spoken by what is not HTTP.
    pub fn tls(&self) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
        tls::config(&self.authorities).map(Arc::new)
    }

    /// With another way to look names up.
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }

    /// With more or less patience.
    pub fn with_patience(mut self, connect_within: Duration) -> Self {
        self.connect_within = connect_within;
        self
    }

    /// How far an address reaches once the configuration's grants are counted.
    fn effective(&self, address: IpAddr) -> Reach {
        let plain = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        if self.granted.iter().any(|range| range.contains(&plain) || range.contains(&address)) {
            return Reach::Public;
        }
        reach(address)
    }

    fn lets_through(&self, address: IpAddr, destination: Destination) -> bool {
        match self.effective(address) {
            Reach::Public => true,
            Reach::Private => destination == Destination::Granted,
            Reach::Special => false,
        }
    }

    /// Checks all that can be known of an address without looking its name up.
    pub fn check(&self, url: &Url, destination: Destination) -> Result<(), EgressError> {
        if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
            return Err(EgressError::Unusable(format!("{:?} is not a scheme that is called", url.scheme())));
        }
        let Some(host) = url.host_str() else {
            return Err(EgressError::Unusable("the address names no host".into()));
        };
        self.check_literal(host, destination)
    }

    /// Checks a host that is written as an address; a name passes.
    fn check_literal(&self, host: &str, destination: Destination) -> Result<(), EgressError> {
        match literal(host) {
            Some(address) if !self.lets_through(address, destination) => {
                Err(EgressError::Private { host: host.to_owned(), address })
            }
            _ => Ok(()),
        }
    }

    /// How far an address that somebody wants to set reaches, at this moment.
    pub async fn reach_of(&self, url: &Url) -> Result<Reach, EgressError> {
        self.check(url, Destination::Granted)?;
        let host = url.host_str().unwrap_or_default();
        if let Some(address) = literal(host) {
            return Ok(self.effective(address));
        }
        let addresses = self.addresses(host).await?;
        // With a proxy it is the proxy that looks names up; what it reaches is its own affair.
        let farthest = addresses.into_iter().map(|address| self.effective(address)).max();
        Ok(farthest.unwrap_or(Reach::Public))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, EgressError> {
        let unresolved = |reason: String| EgressError::Unresolved { host: host.to_owned(), reason };
        let found = (self.lookup)(host.to_owned()).await.map_err(|error| unresolved(error.to_string()))?;
        if found.is_empty() {
            return Err(unresolved("the name has no address".into()));
        }
        Ok(found)
    }

    /// The addresses of a host that may be connected to. At least one, or an error.
    async fn allowed(&self, host: &str, destination: Destination) -> Result<Vec<IpAddr>, EgressError> {
        let found = match literal(host) {
            Some(address) => vec![address],
            None => self.addresses(host).await?,
        };
        let refused = found.iter().copied().find(|address| !self.lets_through(*address, destination));
        let allowed: Vec<IpAddr> =
            found.into_iter().filter(|address| self.lets_through(*address, destination)).collect();
        match refused {
            Some(address) if allowed.is_empty() => Err(EgressError::Private { host: host.to_owned(), address }),
            _ => Ok(allowed),
        }
    }

    /// A client whose every connection goes through the guard; it follows no redirect. A literal address is not looked
    /// up and must be checked before each request, with [`check`](Self::check).
    pub fn client(&self, destination: Destination) -> Result<ClientBuilder, reqwest::Error> {
        let resolver = Guarded { egress: self.clone(), destination };
        let builder = reqwest::Client::builder()
            // An address may hold a token: it goes to nobody else.
            .referer(false)
            .user_agent(concat!("omni/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_within)
            .redirect(Policy::none())
            .dns_resolver(Arc::new(resolver))
            // A proxy is the configuration's to name: nothing below `main` reads the environment.
            .no_proxy();
        let builder = match self.authorities.is_empty() {
            true => builder,
            false => {
                let read = self.authorities.iter().map(|der| Certificate::from_der(der));
                builder.tls_certs_merge(read.collect::<Result<Vec<_>, _>>()?)
            }
        };
        match &self.proxy {
            Some(proxy) => Ok(builder.proxy(reqwest::Proxy::all(proxy.url.clone())?)),
            None => Ok(builder),
        }
    }

    /// Follows redirects, each of which is checked like the first address. From an address that was granted it goes to
    /// that host only.
    pub fn redirects(&self, destination: Destination) -> Policy {
        let egress = self.clone();
        Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                return attempt.error(EgressError::Unusable("too many redirects".into()));
            }
            match egress.next_hop(&attempt, destination) {
                Ok(()) => attempt.follow(),
                Err(error) => attempt.error(error),
            }
        })
    }

    fn next_hop(&self, attempt: &Attempt<'_>, destination: Destination) -> Result<(), EgressError> {
        let from = attempt.previous().first();
        if destination == Destination::Granted && from.map(origin) != Some(origin(attempt.url())) {
            let host = attempt.url().host_str().unwrap_or_default();
            return Err(EgressError::Unusable(format!(
                "a redirect leads away, to {host}, from an address that was granted"
            )));
        }
        self.check(attempt.url(), destination)
    }

    /// The addresses of a proxy that may be connected to.
    async fn addresses_of(&self, proxy: &Proxy) -> Result<Vec<IpAddr>, EgressError> {
        match (proxy.place, literal(proxy.host())) {
            (Some(place), _) => self.allowed(proxy.host(), place).await,
            (None, Some(address)) => Ok(vec![address]),
            (None, None) => self.addresses(proxy.host()).await,
        }
    }

    /// Opens a connection to a host, checked, for what is not HTTP; by way of the proxy when there is one.
    pub async fn connect(&self, host: &str, port: u16, destination: Destination) -> io::Result<Stream> {
        let host = host.trim_matches(['[', ']']);
        let Some(proxy) = &self.proxy else {
            let addresses = self.allowed(host, destination).await.map_err(io::Error::other)?;
            return Ok(Box::new(self.dial(addresses, port).await?));
        };
        let through = async {
            self.check_literal(host, destination)?;
            let addresses = self.addresses_of(proxy).await?;
            let stream = self.dial(addresses, proxy.port()).await.map_err(|error| proxy.unreachable(error))?;
            proxy.open(stream, || self.tls(), (host, port), self.connect_within).await
        };
        through.await.map_err(io::Error::other)
    }

    async fn dial(&self, addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let connecting = TcpStream::connect(addresses.as_slice());
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = tokio::time::timeout(self.connect_within, connecting).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The address that a host is when it is written as one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Scheme-independent: host and port.
fn origin(url: &Url) -> (String, u16) {
    (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(0))
}

/// Where one instance may go: the hosts and ports inside that the operator pointed it at, and for a plugin in a sandbox
/// the hosts that it named. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    private: Arc<[(String, u16)]>,
    /// What it says that it goes to; all when absent.
    only: Option<Arc<[String]>>,
    /// What the operator lets it go to; all when absent.
    granted: Option<Arc<[String]>>,
}

impl Origins {
    /// Those of these addresses; what is none is left out.
    pub fn of<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        let private = urls.into_iter().filter_map(|url| Url::parse(url).ok()).map(|url| origin(&url)).collect();
        Self { private, only: None, granted: None }
    }

    /// And nowhere else but to these hosts, which it names: `example.org`, `*.example.org` for what is below it, `*` for
    /// any, and with a scheme in front (`wss://example.org`) by that scheme alone.
    pub fn only(self, hosts: impl IntoIterator<Item = String>) -> Self {
        Self { only: Some(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()), ..self }
    }

    /// And of all that, only to these, which the operator grants; written in the same way.
    pub fn granted_only(self, hosts: impl IntoIterator<Item = String>) -> Self {
        Self { granted: Some(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()), ..self }
    }

    /// What may be reached under an address.
    pub fn destination(&self, url: &Url) -> Destination {
        Destination::granted(self.private.contains(&origin(url)))
    }

    /// Whether it may go there at all. The error is a sentence.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let let_through = |list: &Option<Arc<[String]>>| {
            list.as_ref().is_none_or(|list| list.iter().any(|pattern| is_host(pattern, url.scheme(), &host)))
        };
        let named = |list: &Option<Arc<[String]>>| match list.as_deref() {
            None | Some([]) => "none".to_owned(),
            Some(list) => list.join(", "),
        };
        if !let_through(&self.only) {
            return Err(format!(
                "the plugin may not go to {host:?}: in a sandbox it goes only to the hosts that it names ({})",
                named(&self.only)
            ));
        }
        if !let_through(&self.granted) {
            return Err(format!(
                "the plugin may not go to {host:?}: it was granted {} only (omni plugins grant)",
                named(&self.granted)
            ));
        }
        Ok(())
    }
}

/// Whether a host, called by a scheme, is one of a pattern.
fn is_host(pattern: &str, scheme: &str, host: &str) -> bool {
    let pattern = match pattern.split_once("://") {
        Some((only, pattern)) if only == scheme => pattern,
        Some(_) => return false,
        None => pattern,
    };
    let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    pattern == "*" || pattern == host || pattern.strip_prefix("*.").is_some_and(below)
}

/// Looks names up for one client and lets only those addresses through that it may connect to.
struct Guarded {
    egress: Egress,
    destination: Destination,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (egress, destination) = (self.egress.clone(), self.destination);
        Box::pin(async move {
            let host = name.as_str();
            let addresses = match &egress.proxy {
                Some(proxy) if proxy.host() == host => egress.addresses_of(proxy).await?,
                _ => egress.allowed(host, destination).await?,
            };
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests;
