//! Who a request is from when it comes by way of proxies that the operator trusts (`http.trusted_proxies`).
//!
//! A proxy writes whom it speaks for at the end of `X-Forwarded-For`; what stands before that is what it was told. So the
//! list is read from its end for as long as the one who wrote an entry is trusted, and what a stranger wrote, about itself or
//! others, is never believed.
//!
//! Deliberately not here: `X-Forwarded-Proto` and `X-Forwarded-Host`. The host makes no address out of a request (they
//! come from `http.public_url`) and treats http and https alike. Nor `Forwarded` (RFC 7239): two headers about one thing
//! would be one that a stranger can choose.

use crate::egress::parse_range;
use axum::http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const HEADER: &str = "x-forwarded-for";

/// The address of whoever asks; an extension of every request that came over a connection. An IPv4 address is never
/// written as an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(pub(crate) IpAddr);

/// The proxies whose word about their clients is taken; none by default. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Those at these addresses and in these networks.
    pub fn new(ranges: &[String]) -> Result<Self, String> {
        Ok(Self(ranges.iter().map(|range| parse_range(range)).collect::<Result<_, _>>()?))
    }

    /// Whether the word of this address is taken.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whom a peer speaks for: itself, or, when it is trusted, the last in its list that is not. What cannot be read
    /// ends the list, as does its beginning: then it is whoever was told of last.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        // Several headers are one list, in their order.
        let lists: Vec<_> = headers.get_all(HEADER).iter().collect();
        let mut entries = lists.iter().rev().flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b','));
        while self.trust(client) {
            match entries.next().and_then(address) {
                Some(told) => client = told,
                None => break,
            }
        }
        client
    }
}

/// One entry of the list. Some proxies write the port as well.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.or_else(|| in_brackets().map(IpAddr::V6)).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn proxies() -> TrustedProxies {
        let ranges = ["10.0.0.0/8", "::1", "2001:db8::/32"].map(str::to_owned);
        TrustedProxies::new(&ranges).expect("ranges")
    }

    /// Who it is that a peer speaks for with these headers.
    fn client(peer: &str, lists: &[impl AsRef<[u8]>]) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(HEADER, HeaderValue::from_bytes(list.as_ref()).expect("a header"));
        }
        proxies().client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn a_trusted_proxy_speaks_for_the_last_one_that_is_not_trusted() {
        for (peer, lists, expected) in [
            ("10.0.0.1", &["203.0.113.7"] as &[&str], "203.0.113.7"),
            ("::1", &["203.0.113.7"], "203.0.113.7"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            // What stands before it is what the stranger says.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["10.0.0.9,203.0.113.7"], "203.0.113.7"),
            // By way of several.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7,10.0.0.2 ,\t2001:db8::7"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.7, 10.0.0.3", "10.0.0.2"], "203.0.113.7"),
            // Ports, brackets, and one address in two ways of writing.
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["[2001:db9::5]:443, [2001:db8::1]"], "2001:db9::5"),
            ("10.0.0.1", &["::ffff:203.0.113.7, ::ffff:10.1.1.1"], "203.0.113.7"),
            // Nobody but proxies: the first of them.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, lists), expected, "{peer} {lists:?}");
        }
    }

    #[test]
    fn a_stranger_speaks_for_itself_only() {
        for lists in [&[] as &[&str], &["198.51.100.1"], &["198.51.100.1, 10.0.0.1"], &["10.0.0.1", "::1"]] {
            assert_eq!(client("203.0.113.7", lists), "203.0.113.7");
        }
        assert_eq!(client("::ffff:203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
        let nobody = TrustedProxies::default();
        let headers = HeaderMap::from_iter([(HEADER.parse().expect("a name"), HeaderValue::from_static("1.2.3.4"))]);
        let peer = "127.0.0.1".parse().expect("an address");
        assert_eq!(nobody.client(peer, &headers), peer, "nobody is trusted unless the operator says so");
    }

    #[test]
    fn what_cannot_be_read_ends_the_list_at_the_last_good_one() {
        for bad in [
            &b""[..],
            b" ",
            b"unknown",
            b"_hidden",
            b"203.0.113",
            b"203.0.113.7.1",
            b"203.0.113.7:",
            b"203.0.113.7:99999",
            b"[203.0.113.7]",
            b"[::1",
            b"203.0.113.7 198.51.100.1",
            b"\"203.0.113.7\"",
            b"203.0.113.\xff",
            b"for=203.0.113.7",
        ] {
            assert_eq!(client("10.0.0.1", &[bad]), "10.0.0.1", "{bad:?}");
            let list = [b"198.51.100.1,", bad, b",10.0.0.2"].concat();
            assert_eq!(client("10.0.0.1", &[list]), "10.0.0.2", "{bad:?}");
            assert_eq!(client("10.0.0.1", &[bad, &b"203.0.113.7"[..]]), "203.0.113.7", "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_address_or_network_is_told() {
        let problem = TrustedProxies::new(&["10.0.0.0/8".into(), "proxy.example.org".into()]).expect_err("a name");
        assert!(problem.contains("\"proxy.example.org\" is no range of addresses"), "{problem}");
        assert!(TrustedProxies::new(&["10.0.0.0/33".into()]).is_err());
    }
}
