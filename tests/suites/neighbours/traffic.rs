//! What pods of a scene reach: each other, the Service, its name, and a node's port.

use std::collections::BTreeSet;
use std::time::Duration;

use meta_cni_tests::cluster::pods::PATIENCE;
use meta_cni_tests::cluster::wait;
use meta_cni_tests::program;

use crate::scene::{NODE_PORT, PORT, SHOP, Scene};

impl Scene {
    /// Runs a line of a shell in a pod.
    pub fn tries(&self, pod: &str, line: &str) -> Result<String, String> {
        let mut command = self.cluster.plane().kubectl_command();
        command.args(["exec", "-n", SHOP, pod, "--", "busybox", "sh", "-c", line]);
        let finished = program::start(&mut command, b"").finish(Duration::from_secs(30));
        let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
        if finished.code == Some(0) { Ok(out.into_owned()) } else { Err(format!("{pod}: {line}: {out}{err}")) }
    }

    /// Does one echo come back?
    pub fn pings(&self, pod: &str, address: &str) -> Result<String, String> {
        self.tries(pod, &format!("ping -c 1 -W 1 {address}"))
    }

    /// Gets the page that is served at an address.
    pub fn page(&self, from: &str, address: &str, port: u16) -> Result<String, String> {
        // Not wget: a static busybox looks names up by libraries that the pods do not have.
        let line = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port} | tail -n 1");
        match self.tries(from, &line)?.trim() {
            "" => Err(format!("{from}: nothing from {address}:{port}")),
            page => Ok(page.to_owned()),
        }
    }

    #[track_caller]
    pub fn soon(&self, what: &str, attempt: impl FnMut() -> Result<String, String>) -> String {
        wait::until(what, PATIENCE, attempt)
    }

    /// A pod reaches another across nodes by eth0, and both by the Service.
    pub fn serves(&self, from: &str, to: &str) {
        let address = &self.addresses(to)[0];
        self.soon("echo by eth0", || self.pings(from, address));
        assert_eq!(self.soon("page by eth0", || self.page(from, address, PORT)), to);
        let service = self.api.get(&format!("/api/v1/namespaces/{SHOP}/services/web")).unwrap();
        let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let mut served = BTreeSet::new();
        wait::until("pages of both pods by the Service", PATIENCE, || {
            served.insert(self.page(from, &cluster_ip, 80)?);
            if served.contains(to) { Ok(()) } else { Err(format!("{served:?}")) }
        });
    }

    /// A pod resolves the Service's name, as pods write it, to its address.
    pub fn resolves(&self, from: &str) {
        let service = self.api.get(&format!("/api/v1/namespaces/{SHOP}/services/web")).unwrap();
        let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        self.soon("address by DNS", || {
            // It asks with each suffix that kubelet wrote, and ends with an error when one of them knows nothing.
            let answer = self.tries(from, "nslookup -type=a web || true")?;
            if answer.lines().any(|line| line == format!("Address: {cluster_ip}")) { Ok(answer) } else { Err(answer) }
        });
    }

    /// A pod is reached by its `hostPort` at its node.
    pub fn serves_at_the_node(&self, pod: &str, node: &str, from: &str) {
        let address = self.node(node).address();
        assert_eq!(self.soon("page by the node's port", || self.page(from, &address, NODE_PORT)), pod);
    }
}
