//! A device plugin for tests: it registers with a real kubelet, and its devices are what the test says. It hands out identifiers
//! and nothing else.
//!
//! `test-device-plugin DIR RESOURCE DEVICE...`: DIR is the kubelet's device-plugins directory. It registers again when a kubelet
//! that restarts has cleared the directory, as a device plugin must.
//!
//! The messages of `v1beta1.Registration` and `v1beta1.DevicePlugin`, as far as they are written:
//!
//! ```text
//! RegisterRequest            version 1, endpoint 2, resource_name 3
//! ListAndWatchResponse       devices 1*: ID 1, health 2
//! AllocateRequest            container_requests 1*: devices_ids 1*
//! AllocateResponse           container_responses 1*: envs 1*: key 1, value 2
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fixture that fails ends with its reason")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use meta_cni_agent::devices::grpc::{framed, unary};
use meta_cni_agent::devices::protobuf::{fields, put_bytes};
use tokio::net::{UnixListener, UnixStream};

/// Bytes in front of a message.
const HEAD: usize = 5;

#[derive(Clone)]
struct Plugin {
    dir: PathBuf,
    resource: String,
    devices: Vec<String>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(resource)) = (args.next(), args.next()) else {
        eprintln!("usage: test-device-plugin DIR RESOURCE DEVICE...");
        std::process::exit(2);
    };
    let plugin = Plugin { dir: dir.into(), resource, devices: args.collect() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        loop {
            plugin.serve_until_cleared().await;
        }
    });
}

impl Plugin {
    fn endpoint(&self) -> String {
        format!("test-{}.sock", self.resource.replace('/', "-"))
    }

    async fn serve_until_cleared(&self) {
        let socket = self.dir.join(self.endpoint());
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let plugin = self.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(plugin.clone().converse(stream));
            }
        });
        self.register().await;
        while socket.exists() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        server.abort();
    }

    /// A kubelet that starts is not there yet.
    async fn register(&self) {
        let mut request = Vec::new();
        put_bytes(&mut request, 1, b"v1beta1");
        put_bytes(&mut request, 2, self.endpoint().as_bytes());
        put_bytes(&mut request, 3, self.resource.as_bytes());
        while let Err(e) =
            unary(&self.dir.join("kubelet.sock"), "/v1beta1.Registration/Register", &request, 1 << 10).await
        {
            eprintln!("not registered yet: {e}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("registered {}", self.resource);
    }

    async fn converse(self, stream: UnixStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(self.clone().answer(request, respond));
        }
    }

    async fn answer(self, request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let asked = read(request.into_body()).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let Ok(mut body) = respond.send_response(head, false) else { return };
        match method.as_str() {
            "GetDevicePluginOptions" | "PreStartContainer" => say(&mut body, &[]),
            "Allocate" => say(&mut body, &self.allocate(&asked)),
            "ListAndWatch" => {
                let _ = body.send_data(framed(&self.list()), false);
                // Nothing changes, and the kubelet takes the end of the stream for the plugin's.
                std::future::pending::<()>().await;
            }
            other => finish(&mut body, "12", other),
        }
    }

    fn list(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for id in &self.devices {
            let mut device = Vec::new();
            put_bytes(&mut device, 1, id.as_bytes());
            put_bytes(&mut device, 2, b"Healthy");
            put_bytes(&mut message, 1, &device);
        }
        message
    }

    /// Each container is told its devices by the environment, as the SR-IOV device plugin does.
    fn allocate(&self, asked: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        for container in texts_of(asked) {
            let ids: Vec<String> =
                texts_of(container).into_iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect();
            let name = self.resource.to_uppercase().replace(['.', '/', '-'], "_");
            let (mut variable, mut answer) = (Vec::new(), Vec::new());
            put_bytes(&mut variable, 1, format!("DEVICES_{name}").as_bytes());
            put_bytes(&mut variable, 2, ids.join(",").as_bytes());
            put_bytes(&mut answer, 1, &variable);
            put_bytes(&mut message, 1, &answer);
        }
        message
    }
}

/// All values of a message's first field.
fn texts_of(message: &[u8]) -> Vec<&[u8]> {
    let all = fields(message).map(Result::unwrap).filter(|(field, _)| *field == 1);
    all.map(|(_, value)| value.message().unwrap()).collect()
}

async fn read(mut body: h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    all.get(HEAD..).unwrap_or_default().to_vec()
}

fn say(body: &mut SendStream<Bytes>, message: &[u8]) {
    let _ = body.send_data(framed(message), false);
    finish(body, "0", "");
}

fn finish(body: &mut SendStream<Bytes>, code: &str, message: &str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("grpc-message", message.parse().unwrap());
    let _ = body.send_trailers(trailers);
}
