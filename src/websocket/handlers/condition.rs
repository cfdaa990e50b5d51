//! What tells pings, pongs and answers to the authentication from other messages.

use serde_json::Value;

use super::envelope::{field, text_of};

/// How a ping or pong is known: by all of its text, or by one field.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    pub(super) text: Option<Box<str>>,
    pub(super) condition: Option<Condition>,
}

impl Mark {
    /// True if `text` is the whole text it is known by.
    pub(super) fn is_text(&self, text: &str) -> bool {
        self.text.as_deref() == Some(text)
    }

    /// Whether the condition holds. `None` if it isn't about this field.
    pub(super) fn holds(&self, name: &str, value: &str) -> Option<bool> {
        let condition = self.condition.as_ref()?;
        (*condition.field == *name).then(|| condition.holds(value))
    }
}

/// A field and the value it must have.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    field: Box<str>,
    expected: Expected,
}

#[derive(Debug, Clone)]
enum Expected {
    /// A text, however it is escaped.
    Text(Box<str>),
    /// Anything else, as it is written.
    Literal(Box<str>),
}

impl Condition {
    /// The condition that `field` is `value`.
    pub(super) fn new(field: &str, value: Value) -> Self {
        let expected = match value {
            Value::String(text) => Expected::Text(text.into()),
            other => Expected::Literal(other.to_string().into()),
        };
        Self { field: field.into(), expected }
    }

    fn holds(&self, value: &str) -> bool {
        match &self.expected {
            Expected::Text(expected) => text_of(value).is_some_and(|text| *text == **expected),
            Expected::Literal(expected) => *value == **expected,
        }
    }
}

/// True if there are conditions and `text` meets all of them.
pub(super) fn all_hold(conditions: &[Condition], text: &str) -> bool {
    let holds =
        |condition: &Condition| field(text, &condition.field).is_some_and(|value| condition.holds(value));
    !conditions.is_empty() && conditions.iter().all(holds)
}
