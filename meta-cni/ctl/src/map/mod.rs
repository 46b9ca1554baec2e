//! `meta-cnictl map` and `meta-cnictl ipam`: which pods are in which networks on which nodes, and who holds which addresses.

mod html;
mod model;
mod text;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meta_cni::cluster::manifest;
use meta_cni_kube::Selector;

use self::model::COLLECTIONS;
pub use self::model::Map;
use super::access::{self, Api, block_on};
use super::lint::Source;

/// Where the facts come from, and which of them are wanted.
#[derive(Debug, PartialEq, Args)]
pub struct Scope {
    #[command(flatten)]
    api: Api,
    /// Only networks of this namespace.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only this network.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = network)]
    network: Option<String>,
    /// Manifests, as `kubectl get -o json` prints them, in place of the API server; - is stdin.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same.
    #[arg(long, short, value_name = "FILE")]
    filename: Vec<PathBuf>,
}

impl Scope {
    /// The files that take the place of the API server.
    pub fn manifests(&self) -> Vec<PathBuf> {
        [&self.files[..], &self.filename].concat()
    }
}

/// The picture.
#[derive(Debug, PartialEq, Args)]
pub struct MapOptions {
    #[command(flatten)]
    pub scope: Scope,
    /// Text; a graph for Graphviz; one page with a picture for a browser; or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = MapFormat::Text)]
    output: MapFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum MapFormat {
    #[value(alias = "human")]
    Text,
    Dot,
    Html,
    Json,
}

fn network(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("want namespace/name of a definition, as shop/blue".to_owned()),
    }
}

/// Draws the map.
pub fn draw(options: &MapOptions, sources: &[Source]) -> Result<String, String> {
    let map = gather(&options.scope, sources)?;
    Ok(match options.output {
        MapFormat::Text => text::text(&map),
        MapFormat::Dot => text::dot(&map),
        MapFormat::Html => html::html(&map),
        MapFormat::Json => text::json(&map),
    })
}

/// Lists the pools.
pub fn pools(scope: &Scope, sources: &[Source]) -> Result<String, String> {
    gather(scope, sources).map(|map| text::pools(&map))
}

fn gather(scope: &Scope, sources: &[Source]) -> Result<Map, String> {
    let mut map = Map::default();
    if scope.manifests().is_empty() {
        block_on(ask(&scope.api, &mut map))?;
    }
    for source in sources {
        for document in manifest::documents(&source.text) {
            let object = manifest::value(document).map_err(|e| format!("{}: {e}", source.name))?;
            map.take(object["kind"].as_str().unwrap_or_default(), &object);
        }
    }
    map.limit(scope.namespace.as_deref(), scope.network.as_deref());
    Ok(map)
}

/// Reads the collections page by page; nothing is kept of an object but what is drawn.
async fn ask(api: &Api, map: &mut Map) -> Result<(), String> {
    let access = api.open().await?;
    for (kind, path) in COLLECTIONS {
        access::list(&access, path, Selector::default(), |object| map.take(kind, &object)).await?;
    }
    Ok(())
}
