//! A fake API server for Multus, which reads pod and definitions from one and writes the status to it. Real ones are TLS and
//! a network away; this one answers at once, over plain HTTP on the loopback of the node's namespace. That is in Multus's
//! favour. What it is told it forgets.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::NETWORKS;
use serde_json::{Value, json};

use crate::scene::Scene;

/// What it knows: every pod there is wants the same networks.
#[derive(Clone)]
struct Known {
    annotation: String,
    definitions: Vec<(String, Value)>,
}

/// Starts it in a node's namespace; it ends with the bench. Gives its URL.
pub fn start(node: &Netns, scene: &Scene) -> String {
    let further = &scene.networks[1..];
    let names: Vec<&str> = further.iter().map(|network| network.name.as_str()).collect();
    let known = Known {
        annotation: names.join(","),
        definitions: further.iter().map(|network| (network.name.clone(), network.conf())).collect(),
    };
    node.enter();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let known = known.clone();
            // A client that goes away in between is Multus at its end.
            thread::spawn(move || drop(serve(&stream, &known)));
        }
    });
    url
}

/// A kubeconfig for it.
pub fn kubeconfig(url: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    })
    .to_string()
}

fn serve(stream: &TcpStream, known: &Known) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let (code, body) = answer(&method, &path, known);
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        (&*stream).write_all((head + &body).as_bytes())?;
    }
}

fn answer(method: &str, path: &str, known: &Known) -> (&'static str, Value) {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let missing = || {
        (
            "404 Not Found",
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}),
        )
    };
    match (method, parts.as_slice()) {
        ("GET", ["api", "v1", "namespaces", namespace, "pods", name])
        | ("PUT", ["api", "v1", "namespaces", namespace, "pods", name, "status"]) => {
            ("200 OK", pod(namespace, name, &known.annotation))
        }
        ("GET", ["apis", group, version, "namespaces", namespace, "network-attachment-definitions", name]) => {
            let Some((_, conf)) = known.definitions.iter().find(|(known, _)| known == name) else { return missing() };
            let definition = json!({
                "apiVersion": format!("{group}/{version}"), "kind": "NetworkAttachmentDefinition",
                "metadata": {"namespace": namespace, "name": name}, "spec": {"config": conf.to_string()},
            });
            ("200 OK", definition)
        }
        ("POST", ["api", "v1", "namespaces", _, "events"]) => {
            ("201 Created", json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "event"}}))
        }
        _ => missing(),
    }
}

fn pod(namespace: &str, name: &str, annotation: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": "1", "annotations": {NETWORKS: annotation}},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_wants_what_the_definitions_hold() {
        let known = Known {
            annotation: "net-1".to_owned(),
            definitions: vec![("net-1".to_owned(), json!({"type": "bridge"}))],
        };
        let (code, pod) = answer("GET", "/api/v1/namespaces/default/pods/p1", &known);
        assert_eq!((code, &pod["metadata"]["annotations"][NETWORKS]), ("200 OK", &json!("net-1")));
        let definitions = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
        let (_, definition) = answer("GET", &format!("{definitions}/net-1"), &known);
        assert_eq!(definition["spec"]["config"], json!(r#"{"type":"bridge"}"#));
        assert_eq!(answer("GET", &format!("{definitions}/net-2"), &known).0, "404 Not Found");
        assert_eq!(answer("PUT", "/api/v1/namespaces/default/pods/p1/status?timeout=1m", &known).0, "200 OK");
        assert_eq!(answer("DELETE", "/api/v1/namespaces/default/pods/p1", &known).0, "404 Not Found");
    }
}
