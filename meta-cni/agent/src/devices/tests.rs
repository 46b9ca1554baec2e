//! A fake kubelet: a server of the pod-resources API that answers as a test wants, and a checkpoint file.

use std::fs;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use protobuf::{put_bytes, put_number};

const NIC: &str = "vendor.com/nic";
const GPU: &str = "vendor.com/gpu";

/// How the fake answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// As a kubelet that has Get.
    Gets,
    /// As a kubelet that has List only.
    Lists,
    /// As a kubelet whose Get is off.
    GetIsOff,
    /// It takes the question and never answers.
    Silent,
    /// It does not even read.
    Deaf,
    /// Bytes that are no HTTP/2.
    Garbage,
    /// A message that is none of the API.
    NoMessage,
    /// It promises 50 MB and begins to send them.
    Huge,
    /// It ends in the middle of the message.
    Cut,
}

struct FakeKubelet {
    dir: tempfile::TempDir,
    asked: Arc<AtomicUsize>,
    server: Option<JoinHandle<()>>,
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.server.iter().for_each(JoinHandle::abort);
    }
}

impl FakeKubelet {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pod-resources", "device-plugins"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, asked: Arc::default(), server: None }
    }

    /// It serves these pods from now on.
    fn serving(mut self, manner: Manner, pods: &[Vec<u8>]) -> Self {
        self.serve(manner, pods);
        self
    }

    fn serve(&mut self, manner: Manner, pods: &[Vec<u8>]) {
        self.server.take().iter().for_each(JoinHandle::abort);
        let socket = self.dir.path().join(pod_resources::SOCKET);
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, pods) = (Arc::clone(&self.asked), pods.to_vec());
        self.server = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, manner, pods.clone()));
            }
        }));
    }

    fn holding(self, entries: &[(&str, &str, &[&str])]) -> Self {
        let entry = |(uid, resource, ids): &(&str, &str, &[&str])| serde_json::json!({"PodUID": uid, "ContainerName": "c", "ResourceName": resource, "DeviceIDs": {"-1": ids}});
        let entries: Vec<_> = entries.iter().map(entry).collect();
        self.checkpoint(&serde_json::json!({"Data": {"PodDeviceEntries": entries}, "Checksum": 1}).to_string())
    }

    fn checkpoint(self, text: &str) -> Self {
        fs::write(self.dir.path().join(checkpoint::FILE), text).unwrap();
        self
    }

    fn devices(&self) -> Devices {
        Devices::patient(self.dir.path(), Metrics::of("n1"), Duration::from_millis(300))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn answer(mut stream: UnixStream, manner: Manner, pods: Vec<Vec<u8>>) {
    match manner {
        Manner::Deaf => return std::future::pending().await,
        Manner::Garbage => return stream.write_all(&[0xff; 4096]).await.unwrap_or_default(),
        _ => {}
    }
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let gets = request.uri().path().ends_with("/Get");
        let refused = match (gets, manner) {
            (_, Manner::Silent) => {
                tokio::spawn(async move {
                    let _kept = respond;
                    std::future::pending::<()>().await;
                });
                continue;
            }
            (true, Manner::Lists) => Some(("12", "unknown method Get")),
            (true, Manner::GetIsOff) => Some(("2", "PodResources API Get method disabled")),
            _ => None,
        };
        let mut head = http::Response::new(());
        if let Some((code, message)) = refused {
            head.headers_mut().insert("grpc-status", code.parse().unwrap());
            head.headers_mut().insert("grpc-message", message.parse().unwrap());
            respond.send_response(head, true).unwrap();
            continue;
        }
        let mut body = respond.send_response(head, false).unwrap();
        let mut message = Vec::new();
        let some = if gets { &pods[..pods.len().min(1)] } else { &pods[..] };
        some.iter().for_each(|pod| put_bytes(&mut message, 1, pod));
        let bytes = match manner {
            Manner::NoMessage => grpc::framed(&[0x0a, 0xff, 0xff]),
            Manner::Huge => {
                let mut head = vec![0];
                head.extend_from_slice(&(50u32 << 20).to_be_bytes());
                head.resize(32 << 10, 0x0a);
                Bytes::from(head)
            }
            Manner::Cut => grpc::framed(&message).slice(..5 + message.len() / 2),
            _ => grpc::framed(&message),
        };
        body.send_data(bytes, false).unwrap();
        if manner == Manner::Huge {
            // A stream that is dropped would be reset, and it has more to send.
            tokio::spawn(async move {
                let _kept = body;
                std::future::pending::<()>().await;
            });
            continue;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    }
}

/// Of a container: each device is an entry of its own, as the kubelet tells them.
fn container(devices: &[(&str, &[&str])]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, b"c");
    for (resource, ids) in devices {
        for id in *ids {
            let mut one = Vec::new();
            put_bytes(&mut one, 1, resource.as_bytes());
            put_bytes(&mut one, 2, id.as_bytes());
            put_bytes(&mut message, 2, &one);
        }
    }
    put_number(&mut message, 3, 7);
    message
}

fn pod(name: &str, containers: &[Vec<u8>]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, name.as_bytes());
    put_bytes(&mut message, 2, b"default");
    containers.iter().for_each(|container| put_bytes(&mut message, 3, container));
    message
}

fn claim(name: &str, driver: &str, device: &str, cdi: &[&str]) -> Vec<u8> {
    let (mut resource, mut dynamic, mut container) = (Vec::new(), Vec::new(), Vec::new());
    for name in cdi {
        let mut one = Vec::new();
        put_bytes(&mut one, 1, name.as_bytes());
        put_bytes(&mut resource, 1, &one);
    }
    put_bytes(&mut resource, 2, driver.as_bytes());
    put_bytes(&mut resource, 3, b"pool");
    put_bytes(&mut resource, 4, device.as_bytes());
    put_bytes(&mut dynamic, 2, name.as_bytes());
    put_bytes(&mut dynamic, 3, b"default");
    put_bytes(&mut dynamic, 4, &resource);
    put_bytes(&mut container, 5, &dynamic);
    container
}

async fn ask(devices: &Devices, uid: Option<&str>, resources: &[&str]) -> wire::Devices {
    let pod =
        PodRef { namespace: "default".parse().unwrap(), name: "web".parse().unwrap(), uid: uid.map(str::to_owned) };
    let resources = resources.iter().map(|resource| (*resource).to_owned()).collect();
    devices.of(&pod, None, &resources, Instant::now() + Duration::from_secs(20)).await
}

fn known(all: &[(&str, &[&str])]) -> wire::Devices {
    let ids = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
    wire::Devices::Known { allocated: all.iter().map(|(resource, all)| ((*resource).to_owned(), ids(all))).collect() }
}

fn reason(answer: wire::Devices) -> String {
    match answer {
        wire::Devices::Unknown { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// Two containers with three cards and an accelerator, told in any order.
fn web() -> Vec<u8> {
    pod("web", &[container(&[(NIC, &["d9", "d5"]), (GPU, &["g1"])]), container(&[(NIC, &["d1"])])])
}

const HELD: [(&str, &str, &[&str]); 2] = [("u1", NIC, &["d1", "d5", "d9"]), ("u1", GPU, &["g1"])];

#[tokio::test]
async fn devices_come_by_container_by_either_method_and_the_pod_is_asked_about_once() {
    for manner in [Manner::Gets, Manner::Lists, Manner::GetIsOff] {
        let other = pod("other", &[container(&[(NIC, &["d2"])])]);
        let pods = if manner == Manner::Gets { vec![web()] } else { vec![other, web()] };
        let kubelet = FakeKubelet::new().serving(manner, &pods).holding(&HELD);
        let devices = kubelet.devices();
        let all = known(&[(GPU, &["g1"]), (NIC, &["d5", "d9", "d1"])]);
        assert_eq!(ask(&devices, Some("u1"), &[NIC, GPU]).await, all, "{manner:?}");
        let asked = kubelet.asked();
        assert_eq!(ask(&devices, Some("u1"), &[NIC]).await, known(&[(NIC, &["d5", "d9", "d1"])]));
        assert_eq!(kubelet.asked(), asked, "the pod is known");
        devices.forget(&PodName::from(&PodRef {
            namespace: "default".parse().unwrap(),
            name: "web".parse().unwrap(),
            uid: None,
        }));
        assert_eq!(ask(&devices, Some("u1"), &[NIC, GPU]).await, all);
        assert_eq!(kubelet.asked(), asked + 1, "{manner:?}: once forgotten, and without a method that is not there");
    }
}

#[tokio::test]
async fn a_resource_of_which_the_pod_has_nothing_is_empty_and_asked_about_again() {
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[web()]).holding(&HELD);
    let devices = kubelet.devices();
    for times in 1..=2 {
        assert_eq!(ask(&devices, Some("u1"), &["vendor.com/other"]).await, known(&[("vendor.com/other", &[])]));
        assert_eq!(kubelet.asked(), times);
    }
}

#[tokio::test]
async fn a_pod_made_anew_under_the_name_never_gets_the_old_ones_devices() {
    let mut kubelet = FakeKubelet::new().serving(Manner::Gets, &[web()]).holding(&HELD);
    let devices = kubelet.devices();
    assert!(matches!(ask(&devices, Some("u1"), &[NIC]).await, wire::Devices::Known { .. }));
    // The kubelet still tells of the old one.
    let told = reason(ask(&devices, Some("u2"), &[NIC]).await);
    assert_eq!(told, "the kubelet tells of another pod of this name");
    // It tells of both.
    let new = pod("web", &[container(&[(NIC, &["d3"])])]);
    kubelet.serve(Manner::Lists, &[web(), new.clone()]);
    let both = [HELD[0], HELD[1], ("u2", NIC, &["d3"][..])];
    let kubelet = kubelet.holding(&both);
    assert_eq!(ask(&kubelet.devices(), Some("u2"), &[NIC]).await, known(&[(NIC, &["d3"])]));
    // It tells of both, and nothing says which is which.
    let kubelet = kubelet.checkpoint("garbage");
    let told = reason(ask(&kubelet.devices(), Some("u2"), &[NIC]).await);
    assert!(told.contains("another pod of this name too"), "{told}");
    // It tells of the old one's devices alone, and the new one has others.
    let mut kubelet = kubelet.holding(&both);
    kubelet.serve(Manner::Gets, &[web()]);
    let told = ask(&kubelet.devices(), Some("u2"), &[NIC, GPU]).await;
    assert_eq!(told, known(&[(NIC, &["d3"]), (GPU, &[])]));
}

#[tokio::test]
async fn init_containers_count_and_a_device_that_containers_share_counts_once() {
    let sidecar = container(&[(NIC, &["d5"])]);
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[pod("web", &[sidecar.clone(), sidecar])]).holding(&[
        ("u1", NIC, &["d5"]),
        ("u1", NIC, &["d0", "d5"]),
        ("u2", NIC, &["d7"]),
    ]);
    assert_eq!(ask(&kubelet.devices(), Some("u1"), &[NIC]).await, known(&[(NIC, &["d5", "d0"])]));
}

#[tokio::test]
async fn without_a_uid_the_name_counts() {
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[web()]).holding(&[]);
    let devices = kubelet.devices();
    assert_eq!(ask(&devices, None, &[NIC]).await, known(&[(NIC, &["d5", "d9", "d1"])]));
    let pod = PodRef { namespace: "default".parse().unwrap(), name: "web".parse().unwrap(), uid: None };
    let of = |is_static| Pod { uid: "u2".into(), is_static, ..Pod::default() };
    let nic = BTreeSet::from([NIC.to_owned()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let told = devices.of(&pod, Some(&of(false)), &nic, deadline).await;
    assert!(reason(told).contains("another pod of this name"));
    let told = devices.of(&pod, Some(&of(true)), &nic, deadline).await;
    assert_eq!(told, known(&[(NIC, &["d5", "d9", "d1"])]), "a mirror pod's uid is not the kubelet's");
}

#[tokio::test]
async fn claims_are_named_by_claim_and_by_driver() {
    let containers = [
        claim("web-vf-x7k2p", "sriov.example.com", "dev-1", &["vendor.com/net=0000:3b:02.1"]),
        claim("shared", "sriov.example.com", "dev-2", &[]),
    ];
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[pod("web", &containers)]).holding(&[]);
    let all = ["shared", "sriov.example.com", "web-vf-x7k2p"];
    assert_eq!(
        ask(&kubelet.devices(), Some("u1"), &all).await,
        known(&[
            ("shared", &["dev-2"]),
            ("sriov.example.com", &["0000:3b:02.1", "dev-2"]),
            ("web-vf-x7k2p", &["0000:3b:02.1"])
        ])
    );
}

#[tokio::test]
async fn the_checkpoint_tells_where_the_api_does_not() {
    let manners = [Manner::Silent, Manner::Deaf, Manner::Garbage, Manner::NoMessage, Manner::Huge, Manner::Cut];
    for manner in manners {
        let kubelet = FakeKubelet::new().serving(manner, &[web()]).holding(&HELD);
        let told = ask(&kubelet.devices(), Some("u1"), &[NIC]).await;
        assert_eq!(told, known(&[(NIC, &["d1", "d5", "d9"])]), "{manner:?}");
    }
    let kubelet = FakeKubelet::new().holding(&HELD);
    assert_eq!(ask(&kubelet.devices(), Some("u1"), &[NIC]).await, known(&[(NIC, &["d1", "d5", "d9"])]));
    let told = reason(ask(&kubelet.devices(), Some("u1"), &[NIC, "a-claim"]).await);
    assert!(
        told.ends_with("nor does the checkpoint: it has no such device of the pod"),
        "of claims it cannot tell: {told}"
    );
}

#[tokio::test]
async fn where_nobody_tells_both_reasons_are_said() {
    let cases = [
        (Manner::Silent, "no answer in time"),
        (Manner::Deaf, "no answer in time"),
        (Manner::Garbage, "the connection broke: "),
        (Manner::NoMessage, "no message of the pod-resources API"),
        (Manner::Huge, "got an answer of 52428800 bytes, want at most 4194304"),
        (Manner::Cut, "cut short"),
    ];
    for (manner, why) in cases {
        let kubelet = FakeKubelet::new().serving(manner, &[web()]).checkpoint(r#"{"V9":[]}"#);
        let told = reason(ask(&kubelet.devices(), Some("u1"), &[NIC]).await);
        assert!(told.contains("pod-resources/kubelet.sock") && told.contains(why), "{manner:?}: {told}");
        assert!(told.contains("no checkpoint of a kubelet that is known here"), "{told}");
    }
    let kubelet = FakeKubelet::new();
    let told = reason(ask(&kubelet.devices(), Some("u1"), &[NIC]).await);
    assert!(told.contains("No such file") && told.contains(checkpoint::FILE), "{told}");
}

#[tokio::test]
async fn an_api_that_was_silent_is_left_alone_for_a_while() {
    let kubelet = FakeKubelet::new().serving(Manner::Silent, &[web()]);
    let devices = kubelet.devices();
    for _ in 0..2 {
        reason(ask(&devices, Some("u1"), &[NIC]).await);
    }
    assert_eq!(kubelet.asked(), 1);
}

#[tokio::test]
async fn a_device_of_which_no_plugin_could_be_told_is_not_passed_over() {
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[pod("web", &[container(&[(NIC, &["d 1"])])])]);
    let told = reason(ask(&kubelet.devices(), None, &[NIC]).await);
    assert!(told.starts_with("a device of vendor.com/nic: ") && told.contains("\"d 1\""), "{told}");
}

#[tokio::test]
async fn questions_are_counted_by_who_told() {
    let kubelet = FakeKubelet::new().serving(Manner::Gets, &[web()]).holding(&HELD);
    let devices = kubelet.devices();
    ask(&devices, Some("u1"), &[NIC]).await;
    reason(ask(&devices, Some("u2"), &[NIC]).await);
    let page = devices.0.metrics.text(&crate::metrics::Snapshot::default());
    for source in ["pod-resources", "none"] {
        let line = format!("meta_cni_device_lookup_duration_seconds_count{{source=\"{source}\"}} 1");
        assert!(page.contains(&line), "{line}\n{page}");
    }
}
