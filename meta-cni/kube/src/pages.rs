//! Reads a collection page by page: one page is in memory at a time, bounded in objects and in bytes.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use kube::Client;
use kube::api::ListParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::said;
use crate::fetch::page;

/// Longest page of one object, in bytes.
const LONGEST_OBJECT: u64 = 8 << 20;
/// Timeout of one page.
const LIST: Duration = Duration::from_secs(60);

/// What is asked for of each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its metadata.
    Metadata,
    /// All of it.
    Whole,
}

/// The part of a collection that is read; all of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selector<'a> {
    /// A field selector.
    pub fields: Option<&'a str>,
    /// A label selector.
    pub labels: Option<&'a str>,
}

/// The size of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    /// Objects, while they are small.
    pub objects: u32,
    /// Bytes. A longer page is requested again with fewer objects.
    pub bytes: u64,
}

/// Why there is no page.
#[derive(Debug)]
pub enum PageError {
    /// The API server's answer, or none.
    Api(kube::Error),
    /// Something else.
    Other(String),
}

impl From<kube::Error> for PageError {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

impl PageError {
    /// Does the API server not have the kind?
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => f.write_str(&said(error)),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// A collection that is read page by page.
pub struct Pages<T> {
    client: Client,
    path: String,
    fields: Option<String>,
    labels: Option<String>,
    shape: Shape,
    size: PageSize,
    /// Objects of the next page.
    limit: u32,
    at: At,
    version: String,
    of: PhantomData<fn() -> T>,
}

enum At {
    Begin,
    Behind(String),
    End,
}

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMeta,
    /// `null` where there is none.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

impl<T: DeserializeOwned> Pages<T> {
    /// The collection at a path of the API, or the part of it that is selected. Nothing is read yet.
    pub fn new(client: Client, path: &str, selector: Selector<'_>, shape: Shape, size: PageSize) -> Self {
        Self {
            client,
            path: path.to_owned(),
            fields: selector.fields.map(str::to_owned),
            labels: selector.labels.map(str::to_owned),
            shape,
            size,
            limit: size.objects,
            at: At::Begin,
            version: String::new(),
            of: PhantomData,
        }
    }

    /// The next page; nothing after the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, PageError> {
        let token = match &self.at {
            At::Begin => None,
            At::Behind(token) => Some(token.clone()),
            At::End => return Ok(None),
        };
        let json = loop {
            let mut params = ListParams::default().limit(self.limit);
            params.field_selector.clone_from(&self.fields);
            params.label_selector.clone_from(&self.labels);
            params.continue_token.clone_from(&token);
            let longest = if self.limit == 1 { LONGEST_OBJECT } else { self.size.bytes };
            let json =
                timeout(LIST, page(&self.client, &self.path, self.shape == Shape::Whole, &params, longest)).await;
            match json.map_err(|_| PageError::Other(format!("no list within {LIST:?}")))?? {
                Some(json) => break json,
                None if self.limit == 1 => {
                    return Err(PageError::Other(format!("an object of more than {longest} bytes")));
                }
                None => self.limit = (self.limit / 4).max(1),
            }
        };
        let page: Page<T> =
            serde_json::from_slice(&json).map_err(|e| PageError::Other(format!("a list that is none: {e}")))?;
        self.limit = self.limit.saturating_mul(2).min(self.size.objects);
        self.version = page.metadata.resource_version;
        self.at = page.metadata.next.filter(|token| !token.is_empty()).map_or(At::End, At::Behind);
        Ok(Some(page.items.unwrap_or_default()))
    }

    /// The version of the collection that the pages are of; known after the first one.
    pub fn version(&self) -> &str {
        &self.version
    }
}
