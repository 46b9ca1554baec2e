//! Takes secrets out of what goes into an archive. What may be one is left out: an archive is sent to others.

use serde_json::Value;

/// What stands in the place of a secret.
pub const REDACTED: &str = "REDACTED";

/// Parts of keys whose values are secrets.
const SECRET: [&str; 11] = [
    "token",
    "passw",
    "secret",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "privatekey",
    "private_key",
    "client-key",
    "bearer",
];

/// Keys that hold copies of the whole object, or nothing of use.
const COPIES: [&str; 2] = ["managedFields", "kubectl.kubernetes.io/last-applied-configuration"];

/// A JSON value without secrets: by their keys, and within texts.
pub fn value(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(key, _)| !COPIES.contains(&key.as_str()));
            let each = |(key, inside): (&String, &Value)| {
                let hides = is_secret(key) && !matches!(inside, Value::Null | Value::Bool(_));
                (key.clone(), if hides { Value::from(REDACTED) } else { self::value(inside) })
            };
            Value::Object(kept.map(each).collect())
        }
        Value::Array(items) => items.iter().map(self::value).collect(),
        Value::String(text) => Value::from(self::text(text)),
        other => other.clone(),
    }
}

/// A text without secrets. One that is JSON, as `spec.config` of a definition, by its keys too.
pub fn text(text: &str) -> String {
    if text.trim_start().starts_with(['{', '['])
        && let Ok(read) = serde_json::from_str::<Value>(text)
        && (read.is_object() || read.is_array())
    {
        return serde_json::to_string_pretty(&value(&read)).unwrap_or_default();
    }
    let mut out = String::new();
    let mut is_in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            is_in_key = true;
            out.push_str(REDACTED);
            out.push('\n');
        }
        if !is_in_key {
            out.push_str(&self::line(line));
        }
        if line.contains("-----END") {
            is_in_key = false;
        }
    }
    out
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET.iter().any(|part| key.contains(part))
}

/// Without what follows a key that says secret, what follows `Bearer`, and tokens by their shape.
fn line(line: &str) -> String {
    let mut out = String::new();
    let mut is_next = false;
    for word in line.split_inclusive([' ', '\t', ',', ';', '&', '\n']) {
        let end = word.trim_end_matches([' ', '\t', ',', ';', '&', '\n']).len();
        let (body, behind) = word.split_at(end);
        let parts = body.find([':', '=']).map(|at| body.split_at(at + 1));
        let (key, rest) = parts.unwrap_or((body, ""));
        let bare = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match (is_next && !body.is_empty(), parts.is_some() && is_secret(bare)) {
            (true, _) => {
                // `Authorization: Bearer TOKEN` has two words to go.
                is_next = bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic");
                out.push_str(if is_next { body } else { REDACTED });
            }
            (false, true) => {
                is_next = rest.trim_matches('"').is_empty();
                out.push_str(key);
                out.push_str(if is_next { rest } else { REDACTED });
            }
            (false, false) => {
                is_next = bare.eq_ignore_ascii_case("bearer")
                    || (parts.is_some() && bare.eq_ignore_ascii_case("authorization"));
                out.push_str(if is_token(body) { REDACTED } else { body });
            }
        }
        out.push_str(behind);
    }
    out
}

/// A JSON Web Token anywhere in a word: three parts of base64url, the first of which begins with `{"`.
fn is_token(word: &str) -> bool {
    let Some(at) = word.find("eyJ") else { return false };
    let body = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut parts = word[at..].split('.');
    let long = |part: Option<&str>, least: usize| {
        part.is_some_and(|part| part.chars().take_while(|c| body(*c)).count() >= least)
    };
    long(parts.next(), 10) && long(parts.next(), 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLWl0";

    #[test]
    fn secrets_go_by_their_keys() {
        let object = json!({
            "spec": {"config": json!({"type": "x", "apiKey": "s1", "args": {"password": "s2"}}).to_string()},
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "s3", "note": "plain"}, "managedFields": ["s4"]},
            "clientToken": ["s5"], "automountServiceAccountToken": false, "client-key-data": "s6",
        });
        let clean = value(&object).to_string();
        for secret in ["s1", "s2", "s3", "s4", "s5", "s6"] {
            assert!(!clean.contains(secret), "{secret}: {clean}");
        }
        assert!(
            clean.contains("plain")
                && clean.contains("\"automountServiceAccountToken\":false")
                && clean.contains("type"),
            "{clean}"
        );
    }

    #[test]
    fn secrets_go_from_texts() {
        for (written, want) in [
            ("Authorization: Bearer abc.def\n", "Authorization: Bearer REDACTED\n"),
            ("x token=abc y\n", "x token=REDACTED y\n"),
            ("password: hunter2, user: me\n", "password: REDACTED, user: me\n"),
            ("GET /x?access_token=abc&b=1\n", "GET /x?access_token=REDACTED&b=1\n"),
            ("sent Bearer abcdef\n", "sent Bearer REDACTED\n"),
            ("net1 10.0.0.1/24 fe80::1 mtu: 1500\n", "net1 10.0.0.1/24 fe80::1 mtu: 1500\n"),
        ] {
            assert_eq!(text(written), want);
        }
        assert_eq!(text(&format!("got {JWT} here")), "got REDACTED here");
        assert_eq!(text(&format!("got \"{JWT}\"")), "got REDACTED");
        let key = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb\n";
        assert_eq!(text(key), "a\nREDACTED\nb\n");
    }
}
