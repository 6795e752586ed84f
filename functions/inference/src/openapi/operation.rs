//! What one route takes and gives.

use axum::http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator};

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A method of a path: what it does, takes and gives.
#[derive(Debug, Clone)]
pub struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) summary: &'static str,
    pub(super) query: Option<SchemaOf>,
    /// Names, and what they say.
    pub(super) headers: Vec<(HeaderName, &'static str)>,
    pub(super) takes: Vec<Content>,
    pub(super) needs_body: bool,
    pub(super) gives: Vec<Content>,
    pub(super) refusal: Option<SchemaOf>,
}

/// A body in one media type.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) media: &'static str,
    pub(super) shape: Shape,
    pub(super) example: Option<&'static str>,
}

/// What is known of a body's shape.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Json(SchemaOf),
    /// Text, or bytes.
    Opaque,
}

/// The media types that a picture comes in.
const PICTURES: [&str; 3] = ["image/png", "image/jpeg", "application/octet-stream"];

impl Operation {
    /// One that reads.
    #[must_use]
    pub fn get(path: &str, summary: &'static str) -> Self {
        Self::new("get", path, summary)
    }

    /// One that does.
    #[must_use]
    pub fn post(path: &str, summary: &'static str) -> Self {
        Self::new("post", path, summary)
    }

    fn new(method: &'static str, path: &str, summary: &'static str) -> Self {
        let path = path.to_owned();
        Self {
            method,
            path,
            summary,
            query: None,
            headers: Vec::new(),
            takes: Vec::new(),
            needs_body: true,
            gives: Vec::new(),
            refusal: None,
        }
    }

    /// It takes these fields in its query.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// It takes a number in this header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, what: &'static str) -> Self {
        self.headers.push((name, what));
        self
    }

    /// It takes JSON. Said twice: of either shape.
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self, example: &'static str) -> Self {
        let shape = Shape::Json(SchemaGenerator::subschema_for::<T>);
        self.takes.push(Content { media: "application/json", shape, example: Some(example) });
        self
    }

    /// It takes JSON, or no body at all.
    #[must_use]
    pub fn may_take<T: JsonSchema>(self, example: &'static str) -> Self {
        Self { needs_body: false, ..self.takes::<T>(example) }
    }

    /// It takes a picture's bytes.
    #[must_use]
    pub fn takes_a_picture(mut self) -> Self {
        self.takes.extend(PICTURES.map(|media| Content { media, shape: Shape::Opaque, example: None }));
        self
    }

    /// It takes bytes of a kind.
    #[must_use]
    pub fn takes_bytes(mut self, media: &'static str) -> Self {
        self.takes.push(Content { media, shape: Shape::Opaque, example: None });
        self
    }

    /// It gives JSON. Said twice: of either shape.
    #[must_use]
    pub fn gives<T: JsonSchema>(mut self, example: &'static str) -> Self {
        let shape = Shape::Json(SchemaGenerator::subschema_for::<T>);
        self.gives.push(Content { media: "application/json", shape, example: Some(example) });
        self
    }

    /// It gives text or bytes of a kind.
    #[must_use]
    pub fn gives_bytes(mut self, media: &'static str) -> Self {
        self.gives.push(Content { media, shape: Shape::Opaque, example: None });
        self
    }

    /// It says what is wrong in a shape of its own.
    #[must_use]
    pub fn refuses<T: JsonSchema>(mut self) -> Self {
        self.refusal = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Its path's pattern.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its method, in lower case.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// A name that no other has: the method and the path's words.
    pub(super) fn id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        [self.method].into_iter().chain(words).collect::<Vec<_>>().join("_")
    }

    pub(super) fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}
