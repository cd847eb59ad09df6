//! What sort of address one is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Anybody's: a host of the internet.
    Public,
    /// Inside of the machine or of its network: loopback, the private ranges, shared address space, unique local.
    Private,
    /// What no program should be sent to: link-local with its metadata services, multicast, broadcast, "this host",
    /// reserved and documentation ranges.
    Special,
}

/// The metadata address that AWS has in a range that is otherwise unique local.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// How far an address reaches. One that holds an IPv4 address (mapped, NAT64, 6to4) reaches as far as that one.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) | (10, ..) | (192, 168, _) => Reach::Private,
        (172, 16..=31, _) => Reach::Private,
        // Shared address space (RFC 6598): carriers, and overlay networks.
        (100, 64..=127, _) => Reach::Private,
        (0, ..) | (169, 254, _) | (192, 0, 0) | (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Reach::Special,
        (192, 88, 99) | (198, 18..=19, _) | (224..=255, ..) => Reach::Special,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    if address == AWS_METADATA {
        return Reach::Special;
    }
    if address.is_loopback() {
        return Reach::Private;
    }
    match segments {
        // Mapped (::ffff:a.b.c.d) and, deprecated, compatible (::a.b.c.d; :: itself among them).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => embedded(high, low),
        // Translated (::ffff:0:a.b.c.d) and NAT64.
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Reach::Special,
        // 6to4: whoever has the IPv4 address gets it. Teredo hides one.
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x100, 0, 0, 0 | 1, ..] => {
            Reach::Special
        }
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Link-local, site-local, multicast, and everything that was never given out.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Special,
    }
}

fn embedded(high: u16, low: u16) -> Reach {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    reach_v4(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &str) -> Vec<(&str, Reach)> {
        texts.split_whitespace().map(|text| (text, reach(text.parse().expect("an address")))).collect()
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        let found = all("1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1 169.253.1.1 \
             149.154.167.220 223.255.255.255 2606:4700::1111 2a00:1450:4001::1 2001:4860:4860::8888 \
             ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1");
        let wrong: Vec<_> = found.into_iter().filter(|(_, reach)| *reach != Reach::Public).collect();
        assert_eq!(wrong, []);
    }

    #[test]
    fn addresses_of_the_inside_are_private_however_they_are_written() {
        let found = all("127.0.0.1 127.255.255.254 10.0.0.1 10.255.0.1 172.16.0.1 172.31.255.255 192.168.1.1 \
             100.64.0.1 100.127.255.255 ::1 fc00::1 fd12:3456::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 \
             64:ff9b::7f00:1 64:ff9b::a00:1 2002:7f00:1:: 2002:c0a8:101:: ::ffff:0:10.0.0.1");
        let wrong: Vec<_> = found.into_iter().filter(|(_, reach)| *reach != Reach::Private).collect();
        assert_eq!(wrong, []);
    }

    #[test]
    fn metadata_multicast_and_the_like_are_special_however_they_are_written() {
        let found = all("0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 224.0.0.1 239.255.255.255 240.0.0.1 \
             255.255.255.255 192.0.2.1 198.51.100.1 203.0.113.9 198.18.0.1 192.0.0.8 :: fe80::1 febf::1 fec0::1 \
             ff02::1 fd00:ec2::254 2001:db8::1 2001::1 64:ff9b:1::1 100::1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 \
             64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: 4000::1");
        let wrong: Vec<_> = found.into_iter().filter(|(_, reach)| *reach != Reach::Special).collect();
        assert_eq!(wrong, []);
    }
}
