//! Addresses that a manifest must not lead the operator to: its own, and those that only its node can reach.
//!
//! Who may write a store or a generator names a URL, and the operator calls it from inside its Pod. There, loopback and the
//! metadata services of the clouds answer to it alone, the latter with the node's own credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Metadata services outside the link-local ranges: Alibaba Cloud, Azure's host, Oracle Cloud.
const METADATA_V4: &[Ipv4Addr] =
    &[Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same for IPv6: AWS and the agent of its EKS Pod Identity, Google Cloud.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address is one of the machine's surroundings: loopback, link-local, unspecified, multicast, or a cloud's
/// metadata service; also where IPv6 only wraps such an IPv4 address.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_local_v4(ip),
        IpAddr::V6(ip) => is_local_v6(ip),
    }
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || METADATA_V4.contains(&ip)
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_unicast_link_local()
        || ip.is_multicast()
        || METADATA_V6.contains(&ip)
        || wrapped(ip).is_some_and(is_local_v4)
}

/// The IPv4 address inside of one that a translator or tunnel would unwrap: NAT64, 6to4, and the old "compatible" form.
fn wrapped(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether an address is this machine's own. The kernel is asked: what is its own it reaches from that same address. Nothing
/// is sent.
#[must_use]
pub fn is_own(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let route = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.local_addr()
    };
    route().is_ok_and(|from| from.ip().to_canonical() == address.ip().to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_are_refused_in_every_spelling() {
        for local in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:0:0:0:0:0:254",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
    }

    #[test]
    fn others_are_not() {
        for remote in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.253.255.255",
            "169.255.0.1",
            "8.8.8.8",
            "fd00:ec2::253",
            "fd12:3456::1",
            "2001:db8::1",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_local(remote.parse().unwrap()), "{remote}");
        }
    }

    #[test]
    fn the_machines_own_address_is_known_without_a_list() {
        assert!(is_own("127.0.0.1:443".parse().unwrap()));
        // 192.0.2.0/24 is nobody's; whatever address leads there is ours.
        assert!(!is_own("192.0.2.1:443".parse().unwrap()));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:443").is_ok() {
            assert!(is_own((socket.local_addr().unwrap().ip(), 443).into()));
        }
    }
}
