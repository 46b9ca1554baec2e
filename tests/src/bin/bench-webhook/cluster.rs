//! The API server, full, and the webhook beside it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meta_cni_tests::cluster::control_plane::{ADDRESS, PORT};
use meta_cni_tests::cluster::credentials::kubeconfig;
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::{ControlPlane, wait};
use meta_cni_tests::program;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::objects;
use crate::storm::{self, Asked};

/// Where the webhook is asked.
pub const LISTEN: &str = "172.31.0.254:9443";
/// Where its probes and metrics are.
const ADMIN: &str = "127.0.0.1:9464";
/// CPU of the webhook, and CPU of whoever asks it.
pub const CPUS: (usize, usize) = (1, 0);

const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster in which the webhook can be started.
pub struct Cluster {
    pub plane: ControlPlane,
    program: PathBuf,
}

/// The webhook's process.
pub struct Webhook<'a> {
    cluster: &'a Cluster,
    service: Service,
}

/// What a process holds, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub rss: f64,
    /// At most so far.
    pub peak: f64,
    /// Of what it holds now, what is no file: heap and stacks.
    pub heap: f64,
}

impl Cluster {
    /// Starts an API server, makes everything in it, and registers the webhook.
    pub fn start(program: PathBuf) -> Self {
        let plane = ControlPlane::start();
        let deploy = |part: &str| format!("{}/../deploy/{part}", env!("CARGO_MANIFEST_DIR"));
        plane.kubectl(["apply", "-k", &deploy("crds")]);
        plane.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
        let cluster = Self { plane, program };
        eprintln!("making {} definitions and {} pods", objects::NADS, objects::PODS);
        let account = |namespace: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "default"}});
        let namespaces = (0..objects::NAMESPACES).map(objects::namespace);
        let api = cluster.plane.api();
        for namespace in namespaces {
            api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"tenant": namespace}}}))
                .unwrap();
            api.apply(&account(&namespace)).unwrap();
        }
        cluster.make((0..objects::NADS).map(objects::definition).chain(objects::policies()));
        cluster.make((0..objects::PODS).map(objects::pod));
        cluster.plane.kubectl(["apply", "-k", &deploy("kustomize/webhook")]);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": "meta-cni", "name": "meta-cni-webhook-0",
                "labels": {"kubernetes.io/service-name": "meta-cni-webhook"},
            },
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": true}}],
            "ports": [{"name": "webhook", "port": 9443, "protocol": "TCP"}],
        });
        api.apply(&slice).unwrap();
        cluster
    }

    fn make(&self, all: impl Iterator<Item = Value>) {
        let asked = storm::create(&self.plane, all.collect(), None);
        let failed: Vec<&Asked> = asked.iter().filter(|asked| asked.code != 201).collect();
        assert!(failed.is_empty(), "{} objects were not made, the first: {}", failed.len(), failed[0].said);
    }

    /// Starts the webhook. The answer is also the time until it was ready.
    pub fn webhook(&self) -> (Webhook<'_>, Duration) {
        let token = self.plane.token_of("meta-cni", "meta-cni-webhook");
        let path = self.plane.place().path("webhook.kubeconfig");
        fs::write(&path, kubeconfig(&format!("{ADDRESS}:{PORT}"), &self.plane.certificate(), &token).to_string())
            .unwrap();
        let mut command = program::command("taskset");
        command.args(["-c", &CPUS.0.to_string()]).arg(&self.program);
        command.args(["--listen", LISTEN, "--admin", ADMIN, "--shutdown-delay", "0"]);
        command.env("POD_NAME", "replica-0").env("POD_NAMESPACE", "meta-cni").env("KUBECONFIG", path);
        let log = self.plane.place().path("logs/webhook.log");
        let began = Instant::now();
        let service = Service::start("meta-cni-webhook", self.plane.space(), &mut command, &log);
        let mut webhook = Webhook { cluster: self, service };
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            webhook.service.check().unwrap_or_else(|ended| panic!("{ended}"));
            match webhook.get("/readyz") {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => return (webhook, began.elapsed()),
                Ok(answer) | Err(answer) => last = answer,
            }
            std::thread::sleep(Duration::from_millis(4));
        }
        panic!("the webhook was not ready within {PATIENCE:?}: {last}");
    }

    /// The authority that signs the webhook's certificate, as PEM.
    pub fn authority(&self) -> Vec<u8> {
        use base64::Engine;
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meta-cni-webhook";
        let bundle = wait::until("published authority", PATIENCE, || {
            let configuration = self.plane.api().get(path).map_err(|refusal| refusal.to_string())?;
            let bundle =
                configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
            if bundle.is_empty() { Err("none".to_owned()) } else { Ok(bundle) }
        });
        base64::engine::general_purpose::STANDARD.decode(bundle).unwrap()
    }
}

impl Webhook<'_> {
    fn get(&self, path: &str) -> Result<String, String> {
        self.cluster.plane.space().within(|| {
            let mut stream = TcpStream::connect(ADMIN).map_err(|e| e.to_string())?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
            Ok(answer)
        })
    }

    /// Rows of its metrics that begin so, added up.
    pub fn metric(&self, beginning: &str) -> f64 {
        let text = self.get("/metrics").unwrap();
        let rows = text.lines().filter(|line| line.starts_with(beginning));
        rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service.id())).unwrap();
        let mib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().split(' ').next().unwrap().parse::<f64>().unwrap() / 1024.0
        };
        Memory { rss: mib("VmRSS:"), peak: mib("VmHWM:"), heap: mib("RssAnon:") }
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.service.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // utime and stime, in ticks of which Linux shows 100 a second.
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn stop(self) {
        self.service.stop();
    }
}

/// Keeps the thread that calls, and those that it starts, on a CPU.
pub fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}
