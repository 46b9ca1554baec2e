//! An API server with the webhook registered as it is shipped, and replicas of the real program with the rights that are shipped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use meta_cni_tests::cluster::control_plane::{ADDRESS, PORT};
use meta_cni_tests::cluster::credentials::kubeconfig;
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::{Api, ControlPlane, Refusal, wait};
use meta_cni_tests::program;
use serde_json::{Value, json};

pub const SOON: Duration = Duration::from_secs(120);
pub const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meta-cni-webhook";
pub const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/meta-cni-webhook";
pub const NADS: &str = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
pub const AUTHORITIES: &str = "/api/v1/namespaces/meta-cni/secrets/meta-cni-webhook-ca";
pub const LEAF: &str = "/api/v1/namespaces/meta-cni/secrets/meta-cni-webhook-tls";
/// Ports of a replica, by its number: of reviews and of probes.
const PORTS: (u16, u16) = (9443, 9543);

pub struct World {
    replicas: BTreeMap<u16, Service>,
    pub plane: ControlPlane,
}

/// The kustomization of the webhook.
pub fn shipped(file: &str) -> String {
    format!("{}/../deploy/{file}", env!("CARGO_MANIFEST_DIR"))
}

impl World {
    /// An API server with everything registered, and nobody who answers.
    pub fn new() -> Self {
        let world = Self::without_definitions();
        world.install_definitions();
        world
    }

    /// One that does not even know what a definition is.
    pub fn without_definitions() -> Self {
        let plane = ControlPlane::start();
        plane.kubectl(["apply", "-k", &shipped("kustomize/webhook")]);
        Self { replicas: BTreeMap::new(), plane }
    }

    /// Lets the API server know what a definition is.
    pub fn install_definitions(&self) {
        self.plane.kubectl(["apply", "-f", &shipped("crds/network-attachment-definitions.yaml")]);
        let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
        self.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", crd]);
    }

    /// Lets the API server know what levels and policies are.
    pub fn install_policies(&self) {
        for (file, crd) in [("attachment-policies", "attachmentpolicies"), ("attachment-levels", "attachmentlevels")] {
            self.plane.kubectl(["apply", "-f", &shipped(&format!("crds/{file}.yaml"))]);
            let crd = format!("crd/{crd}.meta-cni.io");
            self.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", &crd]);
        }
    }

    /// Lets the API server take claims of VNIs.
    pub fn install_claims(&self) {
        self.plane.kubectl(["apply", "-f", &shipped("crds/vni-claims.yaml")]);
        self.plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/vniclaims.meta-cni.io"]);
    }

    /// The same with replicas that are ready.
    pub fn served(replicas: u16) -> Self {
        Self::served_with(replicas, &[])
    }

    /// The same with further flags.
    pub fn served_with(replicas: u16, flags: &[&str]) -> Self {
        let mut world = Self::new();
        for number in 0..replicas {
            world.start_with(number, flags);
        }
        for number in 0..replicas {
            world.until_ready(number);
        }
        world.until_in_force();
        world
    }

    /// Where a replica listens: for reviews, for probes.
    pub fn addresses(number: u16) -> (String, String) {
        (format!("{ADDRESS}:{}", PORTS.0 + number), format!("127.0.0.1:{}", PORTS.1 + number))
    }

    /// A kubeconfig of the webhook's account for programs beside the API server.
    pub fn kubeconfig(&self) -> PathBuf {
        let token = self.plane.token_of("meta-cni", "meta-cni-webhook");
        let text = kubeconfig(&format!("{ADDRESS}:{PORT}"), &self.plane.certificate(), &token).to_string();
        let path = self.plane.place().path("webhook.kubeconfig");
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts a replica beside the API server, in the place of a pod.
    pub fn start(&mut self, number: u16) {
        self.start_with(number, &[]);
    }

    /// The same with further flags.
    pub fn start_with(&mut self, number: u16, flags: &[&str]) {
        let (listen, admin) = Self::addresses(number);
        let mut command = program::command(program::built("meta-cni-webhook"));
        command
            .args([
                "--listen",
                &listen,
                "--admin",
                &admin,
                "--shutdown-delay",
                "0",
                "--log-level",
                "info,webhook=debug",
            ])
            .args(flags)
            .env("POD_NAME", format!("replica-{number}"))
            .env("POD_NAMESPACE", "meta-cni")
            .env("KUBECONFIG", self.kubeconfig());
        let log = self.plane.place().path(format!("logs/webhook-{number}.log"));
        let service = Service::start("meta-cni-webhook", self.plane.space(), &mut command, &log);
        self.replicas.insert(number, service);
        self.serve(number, true);
    }

    /// Lets the Service lead to a replica, or no more, as the endpoints' controller does.
    pub fn serve(&self, number: u16, ready: bool) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": "meta-cni", "name": format!("meta-cni-webhook-{number}"),
                "labels": {"kubernetes.io/service-name": "meta-cni-webhook"},
            },
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": ready}}],
            "ports": [{"name": "webhook", "port": PORTS.0 + number, "protocol": "TCP"}],
        });
        self.plane.api().apply(&slice).unwrap();
    }

    pub fn kill(&mut self, number: u16) {
        self.replicas.remove(&number).unwrap().kill();
        self.serve(number, false);
    }

    pub fn stop(&mut self, number: u16) {
        self.serve(number, false);
        self.replicas.remove(&number).unwrap().stop();
    }

    pub fn log(&self, number: u16) -> String {
        fs::read_to_string(self.plane.place().path(format!("logs/webhook-{number}.log"))).unwrap_or_default()
    }

    /// One GET of a replica's port for probes: status line and body.
    pub fn probe(&self, number: u16, path: &str) -> Result<(String, String), String> {
        let (_, admin) = Self::addresses(number);
        self.plane.space().within(|| {
            let mut stream = TcpStream::connect(&admin).map_err(|e| e.to_string())?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
            let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
            Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
        })
    }

    pub fn until_ready(&self, number: u16) {
        self.until("replica that is ready", || match self.probe(number, "/readyz")? {
            (status, _) if status.contains(" 200 ") => Ok(()),
            (status, body) => Err(format!("{status}: {body}")),
        });
    }

    /// Until the API server asks: it hears of a webhook configuration a moment later.
    pub fn until_in_force(&self) {
        self.until("webhook that is asked", || match self.try_bad(&self.plane.api()) {
            Err(refusal) if refusal.code == 422 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let overlay = nad("overlay", r#"{"cniVersion":"1.0.0","type":"vxlan"}"#);
        self.until("webhook that changes objects", || {
            let tried = self.plane.api().post(&format!("{NADS}?dryRun=All"), &overlay);
            match tried.map_err(|refusal| refusal.to_string())?["spec"]["config"].as_str() {
                Some(text) if text.contains("\"vni\":") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Tries to make a definition that nobody can attach, without leaving it.
    pub fn try_bad(&self, api: &Api) -> Result<Value, Refusal> {
        api.post(
            &format!("{NADS}?dryRun=All"),
            &nad("bad", r#"{"cniVersion":"1.0.0","type":"vlan","master":"eth0","vlanId":5000}"#),
        )
    }

    /// A review of each kind is answered as it should be.
    #[track_caller]
    pub fn must_answer(&self) {
        let api = self.plane.api();
        let refusal = self.try_bad(&api).unwrap_err();
        assert!(refusal.code == 422 && refusal.message.contains("[N26]"), "{refusal}");
        api.post(&format!("{NADS}?dryRun=All"), &good("good")).unwrap();
    }

    /// What `kubectl apply -f -` says of an object: its exit status, and everything that it prints.
    pub fn kubectl_apply(&self, object: &Value) -> (Option<i32>, String) {
        let mut command = self.plane.kubectl_command();
        command.args(["apply", "-f", "-"]);
        let finished = program::start(&mut command, object.to_string().as_bytes()).finish(SOON);
        let text = [finished.stderr, finished.stdout].concat();
        (finished.code, String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits; when it is in vain, the last words of the replicas are shown.
    #[track_caller]
    pub fn until<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        wait::patiently(SOON, attempt).unwrap_or_else(|why| {
            let last = |number: &u16| {
                let log = self.log(*number);
                let lines: Vec<&str> = log.lines().rev().take(12).collect();
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            let words: Vec<String> = self.replicas.keys().map(last).collect();
            panic!("no {what} within {SOON:?}: {why}\nlast words of the replicas:\n{}", words.join("\n--\n"))
        })
    }

    /// The bundles that are published, one text for each webhook, those that judge and those that change.
    pub fn bundles(&self) -> Vec<String> {
        let webhooks = |path| self.plane.api().get(path).unwrap()["webhooks"].as_array().unwrap().clone();
        [webhooks(CONFIGURATION), webhooks(MUTATING)]
            .concat()
            .iter()
            .map(|webhook| webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// A value of a replica's metrics.
    pub fn metric(&self, number: u16, row: &str) -> Option<String> {
        let (_, text) = self.probe(number, "/metrics").ok()?;
        text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ').map(str::to_owned))
    }
}

pub fn nad(name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "default", "name": name}, "spec": {"config": config},
    })
}

pub fn good(name: &str) -> Value {
    nad(name, r#"{"cniVersion":"1.0.0","name":"lan","type":"macvlan","master":"eth1","mode":"bridge"}"#)
}
