//! Addresses to listen on, in controller-runtime's form.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use tokio::net::TcpListener;

/// Where to listen: `:8080` (all interfaces), `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `0` or nothing: nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// Nowhere.
    Off,
    /// A port on all interfaces.
    Port(u16),
    /// A port on one host's address. IPv6 addresses keep their brackets.
    Host(String, u16),
}

impl ListenAddr {
    /// Binds it; `None` when it is off.
    ///
    /// # Errors
    /// The system's, when the port is taken or the host unknown.
    pub async fn listen(&self) -> io::Result<Option<TcpListener>> {
        match self {
            Self::Off => Ok(None),
            // The IPv6 wildcard takes IPv4 too, as Go's does; a node without IPv6 has the other one only.
            Self::Port(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await.map(Some)
                }
                bound => bound.map(Some),
            },
            Self::Host(host, port) => TcpListener::bind(format!("{host}:{port}")).await.map(Some),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HELP: &str = "give host:port, :port or 0 for none";
        if text.is_empty() || text == "0" {
            return Ok(Self::Off);
        }
        let (host, port) = text.rsplit_once(':').ok_or(HELP)?;
        let port = port.parse().map_err(|_| HELP)?;
        let bracketed = host.starts_with('[') && host.ends_with(']') && host[1..host.len() - 1].parse::<Ipv6Addr>().is_ok();
        match host {
            "" => Ok(Self::Port(port)),
            _ if bracketed || !host.contains([':', '[', ']', '/', ' ']) => Ok(Self::Host(host.to_owned(), port)),
            _ => Err(HELP.into()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::Port(port) => write!(f, ":{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, expected) in [
            ("0", ListenAddr::Off),
            ("", ListenAddr::Off),
            (":8080", ListenAddr::Port(8080)),
            (":0", ListenAddr::Port(0)),
            ("0.0.0.0:8080", ListenAddr::Host("0.0.0.0".into(), 8080)),
            ("localhost:1", ListenAddr::Host("localhost".into(), 1)),
            ("[::1]:8080", ListenAddr::Host("[::1]".into(), 8080)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["8080", ":", ":http", ":65536", "::1:80", "[x]:80", "[]:80", "[:80", "http://a:80", "a b:80"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
        }
    }
}
