//! `meta-cnictl map` and `meta-cnictl ipam`: which pods are in which networks on which nodes, and who holds which addresses.

mod html;
mod model;
mod text;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meta_cni::cluster::manifest;
use meta_cni_kube::{PageSize, Pages, Selector, Shape};
use serde_json::Value;

use self::model::{COLLECTIONS, Map};
use super::lint::Source;

/// Where the facts come from, and which of them are wanted.
#[derive(Debug, PartialEq, Args)]
pub struct Scope {
    /// Reaches the API server by this kubeconfig, instead of by KUBECONFIG, ~/.kube/config or the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Only networks of this namespace.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only this network.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = network)]
    network: Option<String>,
    /// Manifests, as `kubectl get -o json` prints them, in place of the API server; - is stdin.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
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
    if scope.files.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(ask(scope.kubeconfig.clone().or_else(usual_kubeconfig), &mut map))?;
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

/// As kubectl looks for it.
fn usual_kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")).filter(|path| path.is_file());
    named.or_else(home)
}

/// Reads the collections page by page; nothing is kept of an object but what is drawn.
async fn ask(kubeconfig: Option<PathBuf>, map: &mut Map) -> Result<(), String> {
    let (client, _) = meta_cni_kube::client(kubeconfig.as_deref()).await.map_err(|e| e.to_string())?;
    for (kind, path) in COLLECTIONS {
        let size = PageSize { objects: 500, bytes: 4 << 20 };
        let mut pages: Pages<Value> = Pages::new(client.clone(), path, Selector::default(), Shape::Whole, size);
        loop {
            match pages.next().await {
                Ok(Some(objects)) => objects.iter().for_each(|object| map.take(kind, object)),
                Ok(None) => break,
                Err(error) if error.is_absent() => break,
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
    }
    Ok(())
}
