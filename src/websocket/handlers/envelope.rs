//! The outside of a JSON message: its top-level fields, found in one borrowed pass.
//!
//! [`Fields`] is a cursor, not a parser. It knows where names and values begin and end, which takes no stack and no memory
//! however deep the values nest, and leaves their inside to whoever wants it. The hard part is that a range it gives out
//! must be exactly one value: it is parsed later, elsewhere, on its own.
//!
//! It goes byte by byte. Eight at a time, in words, was slower on messages of 100 bytes and of 4 KiB alike: quotes and
//! brackets stand too close together.

use std::borrow::Cow;

use crate::websocket::{message::RequestId, protocol::RouteId};

/// The text is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A cursor over the fields of one JSON object, in the order of the text.
///
/// [`next_name`](Self::next_name) and [`value`](Self::value) take turns.
#[derive(Debug, Clone)]
pub(super) struct Fields<'m> {
    text: &'m str,
    // Invariant: on a character boundary. It only ever stops at ASCII bytes and at the end.
    at: usize,
    first: bool,
}

impl<'m> Fields<'m> {
    /// The fields of the object that `text` is.
    pub(super) fn of(text: &'m str) -> Result<Self, Malformed> {
        let mut fields = Self { text, at: 0, first: true };
        fields.skip_space();
        fields.expect(b'{')?;
        Ok(fields)
    }

    /// The fields of the object that the value under the cursor is, if it is one. The cursor stays.
    pub(super) fn nested(&self) -> Option<Self> {
        let mut fields = Self { text: self.text, at: self.at, first: true };
        fields.expect(b'{').ok()?;
        Some(fields)
    }

    /// The name of the next field, with the cursor moved to its value. `None` past the last field.
    pub(super) fn next_name(&mut self) -> Result<Option<Cow<'m, str>>, Malformed> {
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        if !self.first {
            self.expect(b',')?;
            self.skip_space();
        }
        self.first = false;
        let start = self.at;
        let escaped = self.skip_string()?;
        let quoted = self.since(start)?;
        let name = if escaped { unescape(quoted).ok_or(Malformed)? } else { Cow::Borrowed(inside(quoted)) };
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(Some(name))
    }

    /// The value under the cursor, exactly, with the cursor moved past it.
    pub(super) fn value(&mut self) -> Result<&'m str, Malformed> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.skip_string()?;
            }
            Some(b'{' | b'[') => self.skip_container()?,
            _ => self.skip_scalar()?,
        }
        self.since(start)
    }

    /// Checks that nothing follows the object.
    pub(super) fn finish(mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> Result<&'m str, Malformed> {
        self.text.get(start..self.at).ok_or(Malformed)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Moves past a text. True if it holds escapes.
    fn skip_string(&mut self) -> Result<bool, Malformed> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                // What is escaped is one byte, or `u` and digits: none of it a quote of ours.
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
                None => return Err(Malformed),
            }
        }
    }

    /// Moves past an object or array. Counts brackets without telling round which pairs they are: a mismatch within a value
    /// is found by whoever parses it.
    fn skip_container(&mut self) -> Result<(), Malformed> {
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.skip_string()?;
                    continue;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(Malformed);
                    }
                }
                Some(b'}' | b']') => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Err(Malformed),
            }
            self.at += 1;
        }
    }

    /// Moves past a number, `true`, `false` or `null`.
    fn skip_scalar(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(Malformed) } else { Ok(()) }
    }
}

/// How deep a value may nest: serde_json reads no deeper, so nobody could use what is.
const DEPTH_MAX: usize = 127;

/// The first field called `name`. `None` if there is none before the text ends or stops being a JSON object.
pub(super) fn field<'m>(text: &'m str, name: &str) -> Option<&'m str> {
    let mut fields = Fields::of(text).ok()?;
    while let Ok(Some(found)) = fields.next_name() {
        let value = fields.value().ok()?;
        if found == name {
            return Some(value);
        }
    }
    None
}

/// What an id field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id<'m> {
    /// `null`, which is as good as no id.
    Null,
    /// What a request of this connection may have been given.
    Ours(RouteId<'m>),
    /// A value that this crate never makes an id of.
    Foreign,
}

impl<'m> Id<'m> {
    /// The id that the JSON value `value` is.
    pub(super) fn of(value: &'m str) -> Self {
        if value == "null" {
            return Self::Null;
        }
        let ours = match text_of(value) {
            Some(text) => Some(RouteId::Text(text)),
            None => RequestId::parse_canonical(value).map(RouteId::Number),
        };
        ours.map_or(Self::Foreign, Self::Ours)
    }
}

/// The topic that the JSON value `value` is: a text, or a whole number by its digits.
pub(super) fn topic_of(value: &str) -> Option<Cow<'_, str>> {
    match text_of(value) {
        None => RequestId::parse_canonical(value).map(|_| Cow::Borrowed(value)),
        text => text,
    }
}

/// The text that the JSON value `value` is.
pub(super) fn text_of(value: &str) -> Option<Cow<'_, str>> {
    if !value.starts_with('"') {
        None
    } else if value.as_bytes().contains(&b'\\') {
        unescape(value)
    } else {
        Some(Cow::Borrowed(inside(value)))
    }
}

/// `quoted` without its quotes.
fn inside(quoted: &str) -> &str {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

fn unescape(quoted: &str) -> Option<Cow<'static, str>> {
    serde_json::from_str(quoted).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<(String, &str)>, Malformed> {
        let mut fields = Fields::of(text)?;
        let mut found = Vec::new();
        while let Some(name) = fields.next_name()? {
            found.push((name.into_owned(), fields.value()?));
        }
        fields.finish()?;
        Ok(found)
    }

    #[test]
    fn values_are_cut_out_exactly() {
        for value in [
            "0",
            "-1.5e+7",
            "true",
            "null",
            r#""""#,
            r#""a\"}\\""#,
            "{}",
            "[]",
            r#"{"a":["}",{"b":"]"}]}"#,
            "[ 1 , 2 ]",
            r#""é∞""#,
        ] {
            for (before, after) in [("", ""), (" ", " "), ("\n\t", "\r\n")] {
                let text = format!(
                    r#"{before}{{"a":{before}{value}{after},{before}"b"{after}:{value}{after}}}{after}"#
                );
                let fields = all(&text).unwrap();
                assert_eq!(fields, [("a".to_owned(), value), ("b".to_owned(), value)], "{text}");
            }
        }
    }

    #[test]
    fn names_are_compared_unescaped() {
        assert_eq!(
            all(r#"{"\u0069d":1,"a\"b":2}"#).unwrap(),
            [("id".to_owned(), "1"), ("a\"b".to_owned(), "2")]
        );
        assert_eq!(all(r#"{"\ud800":1}"#), Err(Malformed));
    }

    #[test]
    fn what_is_not_one_object_is_malformed() {
        for text in [
            "",
            " ",
            "1",
            "[]",
            "\"a\"",
            "{",
            "{]",
            "}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1",
            "{\"a\" 1}",
            "{\"a\":1 2}",
            "{\"a\":1}{",
            "{\"a\":1} x",
            "{a:1}",
            "{\"a\":[1}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":\"\\\"",
            "{\"a\":1,,\"b\":2}",
            "\u{feff}{}",
            "{\"a\":\u{a0}1}",
        ] {
            assert_eq!(all(text), Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_value_may_nest_as_deep_as_serde_json_reads_and_no_deeper() {
        let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        for depth in [1, 100, DEPTH_MAX, DEPTH_MAX + 1, 1 << 20] {
            let text = nested(depth);
            let value = &text[5..text.len() - 1];
            let readable = serde_json::from_str::<serde_json::Value>(value).is_ok();
            assert_eq!(all(&text).is_ok(), readable, "depth {depth}");
        }
    }

    #[test]
    fn the_first_field_of_a_name_is_found_and_nested_ones_are_not() {
        assert_eq!(field(r#"{"data":{"id":1},"id":2,"id":3}"#, "id"), Some("2"));
        assert_eq!(field(r#"{"data":{"id":1}}"#, "id"), None);
        assert_eq!(field(r#"{"id":1,"#, "id"), Some("1"));
        assert_eq!(field("[", "id"), None);
    }

    #[test]
    fn only_texts_and_whole_numbers_within_53_bits_are_ids_of_ours() {
        let number = |number| Id::Ours(RouteId::Number(number));
        assert_eq!(Id::of("0"), number(0));
        assert_eq!(Id::of("9007199254740991"), number((1 << 53) - 1));
        assert_eq!(Id::of("null"), Id::Null);
        for text in ["7", "", "null", "a b"] {
            assert_eq!(Id::of(&format!("\"{text}\"")), Id::Ours(RouteId::Text(Cow::Borrowed(text))));
        }
        assert_eq!(Id::of(r#""a\u002f\"b""#), Id::Ours(RouteId::Text("a/\"b".into())));
        for value in [
            "9007199254740992",
            "18446744073709551616",
            "99999999999999999999999",
            "-1",
            "-0",
            "1.0",
            "1e3",
            "1E3",
            "00",
            "01",
            "+1",
            "0x1",
            "true",
            "false",
            "{}",
            "[7]",
            r#""\ud800""#,
            r#""\x""#,
            "nullx",
        ] {
            assert_eq!(Id::of(value), Id::Foreign, "{value}");
        }
    }

    #[test]
    fn a_topic_is_borrowed_unless_it_holds_escapes() {
        assert!(matches!(topic_of(r#""trades""#), Some(Cow::Borrowed("trades"))));
        assert!(matches!(topic_of("23784"), Some(Cow::Borrowed("23784"))));
        assert!(matches!(topic_of(r#""a\/b""#), Some(Cow::Owned(topic)) if topic == "a/b"));
        assert_eq!(topic_of("1.5").or(topic_of("{}")).or(topic_of("null")).or(topic_of("true")), None);
    }
}
