//! Server-side apply. The API server reads what is applied as YAML, which does not read every JSON text as JSON does: a line separator in a
//! string is folded into a space, and a control character or byte order mark is refused. Written as escapes, they are the same in both.

use kube::api::{Api, Patch, PatchParams};
use kube::core::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What YAML folds, or does not take, where it stands as it is (§5.1 of YAML 1.2, and line breaks of YAML 1.1).
fn is_special(sign: char) -> bool {
    matches!(sign, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The same JSON, which YAML reads in the same way.
fn escaped(json: Vec<u8>) -> Vec<u8> {
    let text = match String::from_utf8(json) {
        Ok(text) if text.contains(is_special) => text,
        Ok(text) => return text.into_bytes(),
        Err(error) => return error.into_bytes(),
    };
    // such a sign can only be a part of a string
    let mut whole = String::with_capacity(text.len() + 64);
    for sign in text.chars() {
        if is_special(sign) {
            whole.push_str(&format!("\\u{:04x}", u32::from(sign)));
        } else {
            whole.push(sign);
        }
    }
    whole.into_bytes()
}

/// Applies an object of that name.
///
/// # Errors
/// As [`Api::patch`].
pub async fn apply<K>(api: Api<K>, name: &str, params: &PatchParams, body: &impl Serialize) -> kube::Result<K>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let request = Request::new(api.resource_url()).patch(name, params, &Patch::Apply(body));
    let mut request = request.map_err(kube::Error::BuildRequest)?.map(escaped);
    request.extensions_mut().insert("patch");
    api.into_client().request(request).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn special_signs_are_escapes() {
        let plain = "a \u{e9}\u{20ac}\u{1f600} \"\\\n";
        let special = "\u{7f}\u{85}\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}";
        let json = escaped(serde_json::to_vec(&[plain, special]).unwrap());
        let read: Vec<String> = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, [plain, special]);
        let text = String::from_utf8(json).unwrap();
        assert!(text.contains("a \u{e9}\u{20ac}\u{1f600}"), "{text}");
        assert!(text.contains(r"\u007f\u0085\u009f\u2028\u2029\ufeff\ufffe\uffff"), "{text}");
    }
}
