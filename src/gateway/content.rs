//! Content as it stands in JSON: text, JSON or base64, whichever the app finds handy.

use data_encoding::BASE64;
use p2pdb_protocol::seal::Content;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::gateway::problem::{Kind, Problem};

/// What an entry says. Exactly one of `text`, `json` and `base64` is there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Content, example = json!({"type": "text/plain", "text": "hello"}))]
pub(super) struct ContentJson {
    /// The media type; by default that of plain text, JSON or bytes.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// Text in UTF-8. Content of a text type is answered so, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// A JSON value. Content of a JSON type is answered so, if it is JSON.
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
    /// Bytes in base64 with padding. Everything else is answered so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// `"json": null` is the JSON value null, and not the lack of one.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::value::RawValue;

    type Raw = Option<Box<RawValue>>;

    pub(super) fn serialize<S: Serializer>(value: &Raw, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    /// As it stands, without the space between its tokens: numbers and names are not touched.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Raw, D::Error> {
        let value = Box::<RawValue>::deserialize(from)?;
        RawValue::from_string(super::compact(value.get())).map(Some).map_err(serde::de::Error::custom)
    }
}

/// JSON without the space between its tokens.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |c: &char| {
        if in_text {
            in_text = escaped || *c != '"';
            escaped = !escaped && *c == '\\';
            return true;
        }
        in_text = *c == '"';
        !matches!(c, ' ' | '\t' | '\n' | '\r')
    };
    json.chars().filter(keep).collect()
}

impl ContentJson {
    /// The bytes to seal.
    pub(super) fn to_content(&self) -> Result<Content, Problem> {
        let (data, usual) = match (&self.text, &self.json, &self.base64) {
            (Some(text), None, None) => (text.clone().into_bytes(), "text/plain; charset=utf-8"),
            (None, Some(json), None) => (json.get().as_bytes().to_vec(), "application/json"),
            (None, None, Some(base64)) => {
                let data = BASE64.decode(base64.as_bytes()).map_err(|error| {
                    let detail = format!("content.base64 is not base64: {error}");
                    Problem::new(Kind::Unfit, detail, "encode the bytes as base64 with padding (RFC 4648, 4)")
                })?;
                (data, "application/octet-stream")
            }
            _ => {
                return Err(Problem::new(
                    Kind::Unfit,
                    "expected exactly one of content.text, content.json and content.base64",
                    "send the content in one form",
                ));
            }
        };
        let media_type = self.media_type.clone().unwrap_or_else(|| usual.to_owned());
        Ok(Content { media_type, data })
    }

    /// The handiest form of a content.
    pub(super) fn of(content: Content) -> Self {
        let Content { media_type, data } = content;
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut shown = Self { media_type: Some(media_type), text: None, json: None, base64: None };
        if essence == "application/json" || essence.ends_with("+json") {
            shown.json = serde_json::from_slice(&data).ok();
        } else if essence.starts_with("text/") {
            match String::from_utf8(data) {
                Ok(text) => shown.text = Some(text),
                Err(error) => shown.base64 = Some(BASE64.encode(error.as_bytes())),
            }
            return shown;
        }
        if shown.json.is_none() {
            shown.base64 = Some(BASE64.encode(&data));
        }
        shown
    }

    /// The beginning of it, for people.
    pub(super) fn excerpt(&self, characters: usize) -> String {
        match (&self.text, &self.json) {
            (Some(text), _) => text.chars().take(characters).collect(),
            (_, Some(json)) => json.get().chars().take(characters).collect(),
            _ => self.media_type.clone().unwrap_or_default(),
        }
    }

    /// How many bytes it takes in memory, besides itself.
    pub(super) fn size(&self) -> usize {
        let json = self.json.as_ref().map_or(0, |json| json.get().len());
        let texts = [&self.text, &self.base64, &self.media_type];
        json + texts.iter().map(|text| text.as_ref().map_or(0, String::capacity)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn round(sent: Value) -> Value {
        let content = serde_json::from_value::<ContentJson>(sent).unwrap().to_content().unwrap();
        serde_json::to_value(ContentJson::of(content)).unwrap()
    }

    #[test]
    fn each_form_comes_back_as_it_was_sent() {
        for sent in [
            json!({"type": "text/plain; charset=utf-8", "text": "grüße"}),
            json!({"type": "application/json", "json": {"a": [1, null]}}),
            json!({"type": "application/json", "json": null}),
            json!({"type": "application/ld+json", "json": "x"}),
            json!({"type": "application/octet-stream", "base64": "AP8="}),
        ] {
            assert_eq!(round(sent.clone()), sent);
        }
        assert_eq!(round(json!({"text": ""}))["type"], "text/plain; charset=utf-8");
        assert_eq!(round(json!({"json": 1}))["type"], "application/json");
    }

    #[test]
    fn json_is_sealed_and_shown_as_it_was_written() {
        let written = r#"{"z": 123456789012345678901234567890, "a": 1.10, "a": "\\\" b\n", "z":[ 1e400 ]}"#;
        let compact = r#"{"z":123456789012345678901234567890,"a":1.10,"a":"\\\" b\n","z":[1e400]}"#;
        let sent = format!(r#"{{ "json": {written} }}"#);
        let content = serde_json::from_str::<ContentJson>(&sent).unwrap().to_content().unwrap();
        assert_eq!(String::from_utf8_lossy(&content.data), compact);
        let shown = serde_json::to_string(&ContentJson::of(content)).unwrap();
        assert_eq!(shown, format!(r#"{{"type":"application/json","json":{compact}}}"#));
    }

    #[test]
    fn what_takes_memory_is_counted() {
        // As a tree, each of these objects would take hundreds of bytes.
        let data = format!("[{}0]", r#"{"a":1},"#.repeat(1000)).into_bytes();
        let length = data.len();
        let shown = ContentJson::of(Content { media_type: "application/json".to_owned(), data });
        assert_eq!(shown.json.as_ref().unwrap().get().len(), length);
        assert!(shown.size() >= length);
    }

    #[test]
    fn what_is_not_of_its_type_comes_as_bytes() {
        for media_type in ["application/json", "text/plain"] {
            let shown = ContentJson::of(Content { media_type: media_type.to_owned(), data: vec![0xff] });
            assert_eq!(serde_json::to_value(shown).unwrap(), json!({"type": media_type, "base64": "/w=="}));
        }
    }

    #[test]
    fn no_form_and_two_forms_are_refused() {
        for sent in [json!({}), json!({"text": "a", "json": 1}), json!({"base64": "?"})] {
            assert!(serde_json::from_value::<ContentJson>(sent).unwrap().to_content().is_err());
        }
    }
}
