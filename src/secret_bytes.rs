//! The one type that holds the bytes of a secret between fetch and apply.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes of a secret: zeroed on drop, and without any `Debug`, `Display` or `Serialize` that shows them or their length.
///
/// There is deliberately no conversion into `String` or `Vec<u8>` besides [`SecretBytes::expose`], so that each place that
/// takes the bytes out can be found by that name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Callers must not put them into a log line, error, event, status, metric or trace.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are UTF-8.
    #[must_use]
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// How many bytes there are: for the cache's bounds only, as a length is a hint about the value.
    #[must_use]
    pub(crate) fn weight(&self) -> usize {
        self.0.capacity()
    }

    /// How many bytes it holds. That says something of a secret, too: it goes into no text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_value_nor_its_length() {
        let short = SecretBytes::from("a");
        let long = SecretBytes::from("canary-canary-canary");
        assert_eq!(format!("{short:?}"), format!("{long:?}"));
        assert!(!format!("{long:#?}").contains("canary"));
    }
}
