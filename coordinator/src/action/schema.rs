//! Action schemas: JSON Schema (2020-12) for the arguments, and a member `cauldron` that says what an action *is*: its class, what
//! it touches, what makes it the same intent as another, and how it is taken back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use cauldron_identity::scope::is_name;
use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ActionError;
use crate::bodies::{Reversibility, RiskClass};

/// The member of a schema document that is ours.
const MEMBER: &str = "cauldron";
const OPERATION_LEN_MAX: usize = 96;

/// What one operation of one connector takes and is.
#[derive(Clone)]
pub struct Schema {
    about: About,
    title: String,
    document: Value,
    validator: Arc<Validator>,
}

/// The member `cauldron` of a schema document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `<module>.<object>.<verb>`.
    pub operation: String,
    /// Third part of a resource.
    pub connector: String,
    /// The class of the action; policy and proposal can only raise it.
    pub class: RiskClass,
    /// Whether it changes anything.
    pub effect: Effect,
    /// JSON Pointer to the argument that is the resource's object.
    pub object: String,
    /// What makes two proposals want the same thing.
    pub intent: Intent,
    /// Whether the resource has versions: a proposal then names the one it was reasoned on.
    #[serde(default)]
    pub versioned: bool,
    /// The best that can be said of taking the effect back.
    pub reversibility: Reversibility,
    /// The action that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
}

/// Whether an action changes anything outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only reads.
    Read,
    /// It changes something.
    Write,
}

/// How the intent key of a proposal is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// JSON Pointers to the arguments that it is made of, e.g. an invoice number.
    pub fields: Vec<String>,
    /// How often the same arguments may be carried out.
    pub each: Each,
}

/// How often one intent may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Each {
    /// Once for ever: the key is the arguments alone.
    Once,
    /// Once for each window that the proposer names behind them.
    Window,
    /// Once for each version of the resource, which stands behind them.
    Version,
}

/// The action that takes an effect back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// An operation of the same connector.
    pub operation: String,
    /// Its arguments: for each name, a JSON Pointer into the arguments of the action that is undone.
    pub args: BTreeMap<String, String>,
}

/// Why a document is no action schema.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("action schema {name}: {why}")]
pub struct SchemaError {
    /// The file, or the class.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.about).finish()
    }
}

impl Schema {
    /// Reads a schema document. `name` is for the error.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, SchemaError> {
        let refused = |why: String| SchemaError { name: name.to_owned(), why };
        let document: Value = serde_json::from_slice(bytes).map_err(|e| refused(format!("is not JSON: {e}")))?;
        let member = document.get(MEMBER).cloned().ok_or_else(|| refused(format!("has no member `{MEMBER}`")))?;
        let about: About = serde_json::from_value(member).map_err(|e| refused(format!("member `{MEMBER}`: {e}")))?;
        about.check().map_err(refused)?;
        let title = document.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        if title.is_empty() {
            return Err(refused("has no `title` for people".to_owned()));
        }
        // What a schema does not name must not slip through to a connector.
        if document.get("type") != Some(&"object".into()) || document.get("additionalProperties") != Some(&false.into())
        {
            return Err(refused("must say `\"type\": \"object\"` and `\"additionalProperties\": false`".to_owned()));
        }
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .with_format("ip-address", is_canonical_ip)
            .with_format("relative-path", is_relative_path)
            .with_format("sentence", says_something)
            .should_ignore_unknown_formats(false)
            .build(&document)
            .map_err(|e| refused(e.to_string()))?;
        Ok(Self { about, title, document, validator: Arc::new(validator) })
    }

    /// What the action is.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// One line for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The whole document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Operation and resource kind, `<operation>/<connector>`: what bundles are indexed by.
    #[must_use]
    pub fn class(&self) -> String {
        format!("{}/{}", self.about.operation, self.about.connector)
    }

    /// The module slice, first part of the operation.
    #[must_use]
    pub fn module(&self) -> &str {
        self.about.operation.split('.').next().unwrap_or_default()
    }

    /// Checks arguments.
    ///
    /// # Errors
    /// The first thing wrong, with the argument it is in.
    pub fn check(&self, args: &Value) -> Result<(), ActionError> {
        // Masked: arguments come from outside, and what is wrong with them is told without repeating them.
        self.validator.validate(args).map_err(|e| {
            let place = e.instance_path().to_string();
            let field = if place.is_empty() { "(all)".to_owned() } else { place.trim_start_matches('/').to_owned() };
            ActionError::Argument { field, why: e.masked().to_string() }
        })
    }

    /// The object that arguments act on.
    ///
    /// # Errors
    /// It is missing, or no text that can be part of a resource.
    pub fn object(&self, args: &Value) -> Result<String, ActionError> {
        let text = text_at(args, &self.about.object)?;
        if super::resource::is_object(&text) {
            Ok(text)
        } else {
            let field = self.about.object.trim_start_matches('/').to_owned();
            Err(ActionError::Argument {
                field,
                why: "cannot be part of a resource: 1 to 256 bytes, no control character".into(),
            })
        }
    }

    /// The part of an intent key that the arguments make.
    ///
    /// # Errors
    /// A field is missing.
    pub fn intent(&self, args: &Value) -> Result<String, ActionError> {
        let parts: Result<Vec<String>, ActionError> =
            self.about.intent.fields.iter().map(|f| text_at(args, f)).collect();
        Ok(parts?.join("/"))
    }

    /// The arguments of the action that takes this one back, where there is one.
    ///
    /// # Errors
    /// A field is missing.
    pub fn undo_args(&self, args: &Value) -> Result<Option<Value>, ActionError> {
        let Some(undo) = &self.about.undo else { return Ok(None) };
        let mut map = Map::new();
        for (name, pointer) in &undo.args {
            let value = args.pointer(pointer).ok_or_else(|| missing(pointer))?;
            map.insert(name.clone(), value.clone());
        }
        Ok(Some(Value::Object(map)))
    }
}

impl About {
    fn check(&self) -> Result<(), String> {
        let parts: Vec<&str> = self.operation.split('.').collect();
        if parts.len() < 3 || self.operation.len() > OPERATION_LEN_MAX || !parts.iter().all(|part| is_name(part)) {
            return Err(format!("operation {:?} is not <module>.<object>.<verb>", self.operation));
        }
        if !is_name(&self.connector) {
            return Err(format!("connector {:?} is no name: a-z, 0-9 and '-'", self.connector));
        }
        if self.intent.fields.is_empty() {
            return Err("`intent.fields` is empty: name the arguments that make it the same intent".to_owned());
        }
        let pointers =
            self.intent.fields.iter().chain([&self.object]).chain(self.undo.iter().flat_map(|u| u.args.values()));
        if let Some(bad) = pointers.into_iter().find(|p| !p.starts_with('/')) {
            return Err(format!("{bad:?} is no JSON Pointer: it begins with '/'"));
        }
        if self.intent.each == Each::Version && !self.versioned {
            return Err("`intent.each` is `version`, and `versioned` is not set".to_owned());
        }
        if self.effect == Effect::Read && self.class > RiskClass::R1 {
            return Err(format!("a read is R0, or R1 for sensitive data; not {:?}", self.class));
        }
        Ok(())
    }
}

/// The text or number at `pointer`.
fn text_at(args: &Value, pointer: &str) -> Result<String, ActionError> {
    match args.pointer(pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(missing(pointer)),
    }
}

fn missing(pointer: &str) -> ActionError {
    ActionError::Argument {
        field: pointer.trim_start_matches('/').to_owned(),
        why: "is missing, or neither text nor number".into(),
    }
}

fn is_canonical_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().to_string() == text)
}

/// Parts separated by `/`; none is empty or begins with a dot, so that no path leaves its folder or meets what a connector hides.
fn is_relative_path(text: &str) -> bool {
    text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && !text.chars().any(|c| c.is_control() || c == '\\')
}

fn says_something(text: &str) -> bool {
    !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "title": "Pay an invoice",
            "type": "object", "additionalProperties": false, "required": ["invoice", "amount"],
            "properties": { "invoice": { "type": "string" }, "amount": { "type": "integer", "minimum": 1 }, "to": { "type": "string" } },
            "cauldron": {
                "operation": "erp.invoice.pay", "connector": "erp", "class": "R3", "effect": "write",
                "object": "/invoice", "intent": { "fields": ["/invoice"], "each": "once" },
                "reversibility": "irreversible"
            }
        })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<Schema, SchemaError> {
        let mut document = document();
        change(&mut document);
        Schema::read("pay.json", document.to_string().as_bytes())
    }

    #[test]
    fn it_says_class_object_and_intent() {
        let schema = read(|_| ()).expect("valid");
        assert_eq!((schema.class().as_str(), schema.module()), ("erp.invoice.pay/erp", "erp"));
        let args = json!({ "invoice": "2026-17", "amount": 900 });
        assert_eq!(schema.check(&args), Ok(()));
        assert_eq!((schema.object(&args), schema.intent(&args)), (Ok("2026-17".into()), Ok("2026-17".into())));
    }

    #[test]
    fn arguments_that_do_not_fit_are_named_and_not_repeated() {
        let schema = read(|_| ()).expect("valid");
        for (args, field) in [
            (json!({ "invoice": "secret-7" }), "(all)"),
            (json!({ "invoice": "secret-7", "amount": 0 }), "amount"),
            (json!({ "invoice": 7, "amount": 1 }), "invoice"),
            (json!({ "invoice": "secret-7", "amount": 1, "force": true }), "(all)"),
        ] {
            let refused = schema.check(&args).expect_err("must be refused");
            assert!(matches!(&refused, ActionError::Argument { field: f, .. } if f == field), "{args}: {refused:?}");
            assert!(!refused.to_string().contains("secret-7"), "{refused}");
        }
    }

    #[test]
    fn a_document_that_says_too_little_is_refused() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 11] = [
            ("no member", |d| drop(d.as_object_mut().map(|d| d.remove("cauldron")))),
            ("title", |d| drop(d.as_object_mut().map(|d| d.remove("title")))),
            ("additionalProperties", |d| drop(d.as_object_mut().map(|d| d.remove("additionalProperties")))),
            ("operation", |d| d["cauldron"]["operation"] = "pay".into()),
            ("connector", |d| d["cauldron"]["connector"] = "ERP".into()),
            ("intent.fields", |d| d["cauldron"]["intent"]["fields"] = json!([])),
            ("JSON Pointer", |d| d["cauldron"]["object"] = "invoice".into()),
            ("versioned", |d| d["cauldron"]["intent"]["each"] = "version".into()),
            ("a read", |d| d["cauldron"]["effect"] = "read".into()),
            ("unknown field", |d| d["cauldron"]["severity"] = "R0".into()),
            ("is not of type", |d| d["properties"]["amount"]["minimum"] = "one".into()),
        ];
        for (why, change) in cases {
            let refused = read(change).expect_err(why);
            assert!(refused.why.contains(why), "{why}: {refused}");
        }
        assert!(Schema::read("x", b"{").expect_err("cut").why.contains("not JSON"));
    }

    #[test]
    fn formats_are_ours() {
        for (text, ok) in
            [("198.51.100.7", true), ("::ffff:198.51.100.7", false), ("2001:DB8::1", false), ("fe80::1%eth0", false)]
        {
            assert_eq!(is_canonical_ip(text), ok, "{text}");
        }
        for (text, ok) in [
            ("a/b.conf", true),
            ("/a", false),
            ("a/../b", false),
            ("a//b", false),
            (".x", false),
            ("a/.x", false),
            ("a\\b", false),
            ("", false),
        ] {
            assert_eq!(is_relative_path(text), ok, "{text:?}");
        }
    }
}
