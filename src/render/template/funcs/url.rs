//! URLs, as Go's `net/url` takes them apart and puts them together.

use std::collections::BTreeMap;

use super::Type::{Dict, Str as Text};
use super::{Function, entries, fixed, text};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::runes;
use crate::render::template::value::{Str, Value};

pub(crate) const FUNCTIONS: &[Function] = &[fixed("urlParse", &[Text], parse), fixed("urlJoin", &[Dict], join)];

/// Parts of a URL that have rules of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    UserPassword,
    Query,
    Fragment,
}

/// For a query: spaces become `+`.
pub(crate) fn escape_query(text: &[u8]) -> Vec<u8> {
    escape(text, Part::Query)
}

fn must_escape(byte: u8, part: Part) -> bool {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => false,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'[' | b']' | b'<' | b'>'
        | b'"'
            if matches!(part, Part::Host | Part::Zone) =>
        {
            false
        }
        b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' => match part {
            Part::Path => byte == b'?',
            Part::UserPassword => matches!(byte, b'@' | b'/' | b'?' | b':'),
            Part::Query | Part::Host | Part::Zone => true,
            Part::Fragment => false,
        },
        b'!' | b'(' | b')' | b'*' if part == Part::Fragment => false,
        _ => true,
    }
}

fn escape(text: &[u8], part: Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b' ' && part == Part::Query {
            out.push(b'+');
        } else if must_escape(*byte, part) {
            out.extend(format!("%{byte:02X}").bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

fn unescape(text: &[u8], part: Part) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while at < text.len() {
        match text[at] {
            b'%' => {
                let (high, low) = digit(at + 1).zip(digit(at + 2)).ok_or("invalid URL escape")?;
                let byte = high << 4 | low;
                if part == Part::Host && high < 8 && byte != b'%' {
                    return Err("invalid URL escape in the host".into());
                }
                if part == Part::Zone && byte != b'%' && byte != b' ' && must_escape(byte, Part::Host) {
                    return Err("invalid URL escape in the zone".into());
                }
                out.push(byte);
                at += 2;
            }
            byte if matches!(part, Part::Host | Part::Zone) && byte < 0x80 && must_escape(byte, part) => {
                return Err("invalid character in host name".into());
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Ok(out)
}

/// A URL in parts.
#[derive(Default)]
struct Url {
    scheme: Vec<u8>,
    opaque: Vec<u8>,
    user: Option<(Vec<u8>, Option<Vec<u8>>)>,
    host: Vec<u8>,
    path: Vec<u8>,
    raw_path: Vec<u8>,
    force_query: bool,
    query: Vec<u8>,
    fragment: Vec<u8>,
    raw_fragment: Vec<u8>,
    omit_host: bool,
}

/// Splits at the first such byte, which goes.
fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| *b == at) {
        Some(found) => (&text[..found], Some(&text[found + 1..])),
        None => (text, None),
    }
}

/// What stands before the colon, if it can be a scheme.
fn scheme(text: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok((b"", text))
}

impl Url {
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        let (rest, fragment) = cut(text, b'#');
        if text.iter().any(|b| *b < b' ' || *b == 0x7f) {
            return Err("invalid control character in URL".into());
        }
        let mut url = Self::parse_reference(rest)?;
        if let Some(fragment) = fragment {
            url.fragment = unescape(fragment, Part::Fragment)?;
            if escape(&url.fragment, Part::Fragment) != fragment {
                url.raw_fragment = fragment.to_vec();
            }
        }
        Ok(url)
    }

    fn parse_reference(text: &[u8]) -> Result<Self, Fault> {
        let mut url = Self::default();
        if text == b"*" {
            url.path = text.to_vec();
            return Ok(url);
        }
        let (found, mut rest) = scheme(text)?;
        url.scheme = found.to_ascii_lowercase();
        if rest.ends_with(b"?") && rest.iter().filter(|b| **b == b'?').count() == 1 {
            url.force_query = true;
            rest = &rest[..rest.len() - 1];
        } else {
            let (before, query) = cut(rest, b'?');
            rest = before;
            url.query = query.unwrap_or_default().to_vec();
        }
        if !rest.starts_with(b"/") {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_vec();
                return Ok(url);
            }
            let (segment, _) = cut(rest, b'/');
            if segment.contains(&b':') {
                return Err("first path segment in URL cannot contain colon".into());
            }
        }
        if (!url.scheme.is_empty() || !rest.starts_with(b"///")) && rest.starts_with(b"//") {
            let (authority, _) = cut(&rest[2..], b'/');
            rest = &rest[2 + authority.len()..];
            url.authority(authority)?;
        } else if !url.scheme.is_empty() && rest.starts_with(b"/") {
            url.omit_host = true;
        }
        url.path = unescape(rest, Part::Path)?;
        if escape(&url.path, Part::Path) != rest {
            url.raw_path = rest.to_vec();
        }
        Ok(url)
    }

    fn authority(&mut self, text: &[u8]) -> Result<(), Fault> {
        let at = text.iter().rposition(|b| *b == b'@');
        let strict = matches!(self.scheme.as_slice(), b"http" | b"https");
        self.host = host(&text[at.map_or(0, |at| at + 1)..], strict)?;
        let Some(at) = at else { return Ok(()) };
        let user = &text[..at];
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || br"-._:~!$&'()*+,;=%@".contains(byte);
        if !user.iter().all(valid) {
            return Err("invalid userinfo".into());
        }
        let (name, password) = cut(user, b':');
        let password = password.map(|password| unescape(password, Part::UserPassword)).transpose()?;
        self.user = Some((unescape(name, Part::UserPassword)?, password));
        Ok(())
    }

    fn hostname(&self) -> &[u8] {
        if self.host.starts_with(b"[") {
            let end = self.host.iter().position(|b| *b == b']').unwrap_or(self.host.len());
            return &self.host[1..end];
        }
        let digits = self.host.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let colon = self.host.len() - digits;
        if colon > 0 && self.host[colon - 1] == b':' { &self.host[..colon - 1] } else { &self.host }
    }

    fn user_text(&self) -> Vec<u8> {
        let Some((name, password)) = &self.user else { return Vec::new() };
        let mut out = escape(name, Part::UserPassword);
        if let Some(password) = password {
            out.push(b':');
            out.extend(escape(password, Part::UserPassword));
        }
        out
    }

    fn escaped_path(&self) -> Vec<u8> {
        let valid = |byte: &u8| br"!$&'()*+,;=:@[]%".contains(byte) || !must_escape(*byte, Part::Path);
        if !self.raw_path.is_empty()
            && self.raw_path.iter().all(valid)
            && unescape(&self.raw_path, Part::Path).is_ok_and(|path| path == self.path)
        {
            return self.raw_path.clone();
        }
        if self.path == b"*" { b"*".to_vec() } else { escape(&self.path, Part::Path) }
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.scheme.is_empty() {
            out.extend_from_slice(&self.scheme);
            out.push(b':');
        }
        if self.opaque.is_empty() {
            self.write_hierarchy(&mut out);
        } else {
            out.extend_from_slice(&self.opaque);
        }
        if self.force_query || !self.query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push(b'#');
            out.extend(escape(&self.fragment, Part::Fragment));
        }
        out
    }

    fn write_hierarchy(&self, out: &mut Vec<u8>) {
        if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
            let omitted = self.omit_host && self.host.is_empty() && self.user.is_none();
            if !omitted && (!self.host.is_empty() || !self.path.is_empty() || self.user.is_some()) {
                out.extend_from_slice(b"//");
            }
            if self.user.is_some() {
                out.extend(self.user_text());
                out.push(b'@');
            }
            out.extend(escape(&self.host, Part::Host));
        }
        let path = self.escaped_path();
        if !path.is_empty() && path[0] != b'/' && !self.host.is_empty() {
            out.push(b'/');
        }
        if out.is_empty() && cut(&path, b'/').0.contains(&b':') {
            out.extend_from_slice(b"./");
        }
        out.extend_from_slice(&path);
    }
}

/// Host and port. Where it is strict, only one colon may stand outside of brackets.
fn host(text: &[u8], strict: bool) -> Result<Vec<u8>, Fault> {
    let open = text.iter().position(|b| *b == b'[');
    let (address, port) = match open {
        Some(0) => {
            let close = text.iter().rposition(|b| *b == b']').ok_or("missing ']' in host")?;
            (&text[..close], &text[close + 1..])
        }
        Some(_) => return Err("invalid IP-literal".into()),
        None => match text
            .iter()
            .rposition(|b| *b == b':')
            .and_then(|last| if strict { text.iter().position(|b| *b == b':') } else { Some(last) })
        {
            Some(colon) => (&text[..colon], &text[colon..]),
            None => (text, &b""[..]),
        },
    };
    let valid_port = port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit));
    if !valid_port {
        return Err("invalid port after host".into());
    }
    if open == Some(0) {
        let zone = runes::find(address, b"%25").unwrap_or(address.len());
        let literal = unescape(&address[1..zone], Part::Host)?;
        let plain = std::str::from_utf8(&literal).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
        if plain.is_none() {
            return Err("invalid host: not an IPv6 address".into());
        }
        let zone_name = unescape(&address[zone..], Part::Zone)?;
        return Ok([b"[", literal.as_slice(), &zone_name, b"]", port].concat());
    }
    unescape(text, Part::Host)
}

fn parse(cx: &Context<'_>, args: &[Value]) -> Answer {
    let url = Url::parse(text(args, 0)).map_err(|fault| format!("unable to parse url: {fault}"))?;
    let parts = [
        ("scheme", url.scheme.clone()),
        ("host", url.host.clone()),
        ("hostname", url.hostname().to_vec()),
        ("path", url.path.clone()),
        ("query", url.query.clone()),
        ("opaque", url.opaque.clone()),
        ("fragment", url.fragment.clone()),
        ("userinfo", url.user_text()),
    ];
    let entry = |(name, text): (&str, Vec<u8>)| cx.piece(text).map(|text| (Str::from(name), Value::Str(text)));
    let entries: Result<BTreeMap<Str, Value>, Fault> = parts.into_iter().map(entry).collect();
    Ok(cx.dict(entries?))
}

fn join(cx: &Context<'_>, args: &[Value]) -> Answer {
    let entries = entries(cx, args, 0)?;
    let get = |name: &str| match entries.get(name.as_bytes()) {
        None => Ok(Vec::new()),
        Some(Value::Str(text)) => Ok(text.bytes().to_vec()),
        Some(other) => Err(format!("unable to parse {name} key, must be of type string, but {} found", other.kind_name())),
    };
    let mut url = Url {
        scheme: get("scheme")?,
        host: get("host")?,
        path: get("path")?,
        query: get("query")?,
        opaque: get("opaque")?,
        fragment: get("fragment")?,
        ..Url::default()
    };
    let user = get("userinfo")?;
    if !user.is_empty() {
        let whole = [b"proto://", user.as_slice(), b"@host"].concat();
        url.user = Url::parse(&whole).map_err(|fault| format!("unable to parse userinfo in dict: {fault}"))?.user;
    }
    Ok(Value::bytes(url.write()))
}
