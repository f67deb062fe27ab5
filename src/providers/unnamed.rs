//! A failure in words that name nobody's object.

use super::ProviderError;

impl ProviderError {
    /// The failure as others read it who use the same store. What stands in double quotes is left out: names do, by `{:?}`.
    #[must_use]
    pub fn unnamed(&self) -> Self {
        Self { retry_after: self.retry_after, ..Self::new(self.kind, without_quoted(&self.detail)) }
    }
}

fn without_quoted(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                left.push_str(if quoted { "...\"" } else { "\"" });
                quoted = !quoted;
            }
            _ if quoted => {}
            _ => left.push(c),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::providers::ErrorKind;

    #[test]
    fn names_are_left_out_and_the_rest_stays() {
        for (detail, left) in [
            (
                r#"Vault path "secret/data/team-a/db": the server failed (500)"#,
                r#"Vault path "...": the server failed (500)"#,
            ),
            (
                r#"secretsmanager:GetSecretValue on "a": InternalServiceError"#,
                r#"secretsmanager:GetSecretValue on "...": InternalServiceError"#,
            ),
            (r#"project "p", secret "a \"b\\": down"#, r#"project "...", secret "...": down"#),
            ("the provider did not answer within 5 s (read)", "the provider did not answer within 5 s (read)"),
            (r"a back\slash outside", r"a back\slash outside"),
            (r#"cut "off"#, r#"cut ""#),
        ] {
            let error = ProviderError::new(ErrorKind::Unavailable, detail).after(Duration::from_secs(7));
            let unnamed = ProviderError::new(ErrorKind::Unavailable, left).after(Duration::from_secs(7));
            assert_eq!(error.unnamed(), unnamed);
        }
    }
}
