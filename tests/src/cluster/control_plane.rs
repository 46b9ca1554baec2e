//! etcd and the API server, both real, in a space of their own.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::Api;
use super::credentials::{Tokens, kubeconfig, service_account_keys};
use super::place::Place;
use super::programs::{CONTROL_PLANE, Programs};
use super::relay::Order;
use super::service::Service;
use super::space::{Life, Space};
use super::{progress, wait};
use crate::program;

/// Where the API server is reached inside of the cluster's network.
pub const ADDRESS: &str = "172.31.0.254";
/// The same for IPv6.
pub const ADDRESS6: &str = "fd31::fe";
/// Port of the API server, and of the relay in front of it.
pub const PORT: u16 = 6443;
/// The bridge that nodes are wired to.
pub const UNDERLAY: &str = "under";

const START: Duration = Duration::from_secs(180);

/// An API server with its etcd. Everything is gone when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they go.
    api_server: Option<Service>,
    etcd: Service,
    relay: Relay,
    calm: Relay,
    space: Space,
    programs: Programs,
    tokens: Tokens,
    settings: Settings,
    place: Arc<Place>,
}

/// What a control plane can be started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the cluster; by default one that nobody has.
    pub name: Option<String>,
    /// Names of nodes whose kubelets may come.
    pub nodes: Vec<String>,
    /// Further flags of kube-apiserver.
    pub flags: Vec<String>,
    /// Leave it running when this process ends.
    pub lasting: bool,
}

impl ControlPlane {
    /// Starts one with default settings; 3 seconds once its programs are built.
    pub fn start() -> Self {
        Self::start_with(Settings::default())
    }

    /// Starts one. A nameless one that does not come up is started once more in another place: the machine was too busy, and
    /// no test is about that.
    pub fn start_with(settings: Settings) -> Self {
        let start = |settings: Settings| {
            let place = settings.name.as_deref().map_or_else(Place::fresh, Place::named);
            Self::start_in(Arc::new(place), settings, Programs::find(CONTROL_PLANE))
        };
        if settings.name.is_some() {
            return start(settings);
        }
        catch_unwind(AssertUnwindSafe(|| start(settings.clone()))).unwrap_or_else(|_| start(settings))
    }

    /// Starts one in a place.
    pub(super) fn start_in(place: Arc<Place>, settings: Settings, programs: Programs) -> Self {
        progress(&format!("cluster {}: etcd and the API server", place.name()));
        fs::create_dir(place.path("pki")).unwrap();
        let tokens = Tokens::new();
        fs::write(place.path("pki/tokens"), tokens.list(settings.nodes.iter().map(String::as_str))).unwrap();
        service_account_keys(&place.path("pki"));

        let life = if settings.lasting { Life::Own(place.lock()) } else { Life::Ours };
        let mut holder = program::command(program::built("cluster"));
        holder.arg("hold").arg("--remove").arg(place.path("")).arg(place.name());
        let space = Space::new(&life, &place, &mut holder, network);
        let etcd = Service::start("etcd", &space, &mut etcd(&programs, &place), &place.path("logs/etcd.log"));
        let relay = Relay::start(&space, &place, "relay", PORT, settings.lasting);
        // For those who make the weather, and must not stand in it.
        let calm = Relay::start(&space, &place, "calm-relay", PORT + 1, true);
        let mut plane = Self { api_server: None, etcd, relay, calm, space, programs, tokens, settings, place };
        plane.start_api();
        plane
    }

    /// Starts the API server again; returns when it answers.
    pub fn start_api(&mut self) {
        assert!(self.api_server.is_none(), "the API server is running");
        let mut command = program::command(self.programs.path("kube-apiserver"));
        command.args(self.api_flags()).args(&self.settings.flags);
        let log = self.place.path("logs/kube-apiserver.log");
        let mut server = Service::start("kube-apiserver", &self.space, &mut command, &log);
        let certificate = self.place.path("pki/apiserver.crt");
        server.wait_for("certificate of the API server", START, || {
            self.etcd.check()?;
            fs::metadata(&certificate).map_err(|e| e.to_string())
        });
        let api = self.api();
        server.wait_for("API server that is ready", START, || {
            self.etcd.check()?;
            self.relay.service.check()?;
            self.calm.service.check()?;
            api.text("/readyz").map_err(|e| e.to_string())
        });
        self.api_server = Some(server);
    }

    /// Stops the API server; etcd keeps what it held.
    pub fn stop_api(&mut self) {
        self.api_server.take().unwrap().stop();
    }

    /// Kills the API server.
    pub fn kill_api(&mut self) {
        self.api_server.take().unwrap().kill();
    }

    /// The API server's process, for signals. Panics while it is stopped.
    pub fn api_server(&self) -> &Service {
        self.api_server.as_ref().unwrap()
    }

    /// Everything that clients send to the API server arrives this much later, from now on.
    pub fn delay_api(&mut self, time: Duration) {
        self.order(Order::Delay(time));
    }

    /// Breaks every connection to the API server and lets none through.
    pub fn cut_api(&mut self) {
        self.order(Order::Cut);
    }

    /// Undoes [`Self::cut_api`].
    pub fn mend_api(&mut self) {
        self.order(Order::Mend);
    }

    fn order(&mut self, order: Order) {
        self.relay.order(order);
    }

    /// One more way to the API server, from a port of the cluster's network. It is cut alone, and gone when it is dropped.
    pub fn relay(&self, name: &str, port: u16) -> Relay {
        Relay::start(&self.space, &self.place, name, port, false)
    }

    /// A client with the administrator's rights, which no delay and no cut touches.
    pub fn api(&self) -> Api {
        let server = format!("127.0.0.1:{}", self.calm.outside);
        Api::new(&kubeconfig(&server, &self.certificate(), &self.tokens.of("admin")))
    }

    /// The API server makes itself another certificate, of another authority, when it starts again.
    pub fn forget_certificate(&self) {
        for file in ["apiserver.crt", "apiserver.key"] {
            fs::remove_file(self.place.path("pki").join(file)).unwrap();
        }
    }

    /// Text of the API server's certificate, which is its own authority.
    pub fn certificate(&self) -> String {
        fs::read_to_string(self.place.path("pki/apiserver.crt")).unwrap()
    }

    /// `host:port` of the API server for programs of the machine.
    pub fn outside(&self) -> String {
        format!("127.0.0.1:{}", self.relay.outside)
    }

    /// A kubeconfig with the administrator's rights for programs of the machine, as a file.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.place.path("kubeconfig");
        fs::write(&path, self.kubeconfig_with(&self.tokens.of("admin")).to_string()).unwrap();
        path
    }

    /// A kubeconfig with the rights of a service account, which exists, for programs of the machine, as a file.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let path = self.place.path(format!("kubeconfig-{namespace}-{account}"));
        fs::write(&path, self.kubeconfig_with(&self.token_of(namespace, account)).to_string()).unwrap();
        path
    }

    /// A new token of a service account.
    pub fn token_of(&self, namespace: &str, account: &str) -> String {
        let url = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.api().post(&url, &request).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A new token of a service account that is worth something as long as an object exists, and that tells of its node: a
    /// pod of the account, or a node. Such tokens are what the kubelet gives to pods. `object` has been read from the API.
    pub fn token_bound_to(&self, namespace: &str, account: &str, object: &Value) -> String {
        self.token_for(namespace, account, object, Duration::from_secs(3600))
    }

    /// The same for so long; the API server gives none for less than ten minutes.
    pub fn token_for(&self, namespace: &str, account: &str, object: &Value, time: Duration) -> String {
        let url = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let metadata = &object["metadata"];
        let reference = json!({
            "apiVersion": "v1", "kind": object["kind"], "name": metadata["name"], "uid": metadata["uid"],
        });
        let spec = json!({"boundObjectRef": reference, "expirationSeconds": time.as_secs()});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = self.api().post(&url, &request).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A kubeconfig with a token.
    pub fn kubeconfig_with(&self, token: &str) -> Value {
        kubeconfig(&self.outside(), &self.certificate(), token)
    }

    /// Starts one of Kubernetes' controllers beside the API server.
    pub(super) fn controller(&self, name: &str, flags: &[String]) -> Service {
        let config =
            kubeconfig(&format!("127.0.0.1:{PORT}"), &self.certificate(), &self.tokens.of(&format!("system:{name}")));
        let file = self.place.path(format!("pki/{name}.kubeconfig"));
        fs::write(&file, config.to_string()).unwrap();
        let mut command = program::command(self.programs.path(name));
        command.arg("--kubeconfig").arg(file).args(["--leader-elect=false", "--bind-address=127.0.0.1"]).args(flags);
        Service::start(name, &self.space, &mut command, &self.place.path(format!("logs/{name}.log")))
    }

    /// Runs `ip` in the control plane's network, with process ids as this process sees them.
    pub(super) fn wire(&self, line: &str) {
        let enter = format!("--net=/proc/{}/ns/net", self.space.holder());
        program::run("nsenter", [enter.as_str(), "ip"].into_iter().chain(line.split(' ')));
    }

    /// Removes a link, and returns when it is gone.
    pub(super) fn unwire(&self, link: &str) {
        let gone = || {
            let links = self.space.run("ip -o link");
            if !links.contains(&format!(": {link}@")) {
                return Ok(());
            }
            // It may go by itself at any moment.
            let mut ip = program::command("ip");
            self.space.within(|| ip.args(["link", "del", link]).output()).map_err(|e| e.to_string())?;
            Err(links)
        };
        wait::until("end of a wire", Duration::from_secs(10), gone);
    }

    /// A kubeconfig for programs inside of the cluster's network.
    pub fn inside(&self, user: &str) -> Value {
        self.inside_with(&self.tokens.of(user))
    }

    /// The same with a token.
    pub fn inside_with(&self, token: &str) -> Value {
        kubeconfig(&format!("{ADDRESS}:{PORT}"), &self.certificate(), token)
    }

    /// `kubectl` with the administrator's rights, ready for arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = program::command(self.programs.path("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.place.path(""));
        command
    }

    /// Runs `kubectl`, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = self.kubectl_command();
        command.args(args);
        let finished = program::start(&mut command, b"").finish(Duration::from_secs(120));
        let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
        assert!(finished.code == Some(0), "{command:?}: {:?}\n{out}{err}", finished.code);
        out.into_owned()
    }

    /// The namespaces that it runs in: its network is where the nodes' wires come together.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The cluster's directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn api_flags(&self) -> Vec<String> {
        let pki = |file: &str| self.place.path("pki").join(file).display().to_string();
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--advertise-address={ADDRESS}"));
        flags.push(format!("--secure-port={PORT}"));
        flags.push(format!("--cert-dir={}", pki("")));
        flags.push(format!("--token-auth-file={}", pki("tokens")));
        flags.push(format!("--service-account-key-file={}", pki("sa.pub")));
        flags.push(format!("--service-account-signing-key-file={}", pki("sa.key")));
        flags
    }
}

/// What the API server is told in every cluster.
const FLAGS: &[&str] = &[
    "--etcd-servers=http://127.0.0.1:2379",
    // The relay has the same port on the advertised address.
    "--bind-address=127.0.0.1",
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--kubelet-preferred-address-types=InternalIP",
    "--enable-aggregator-routing=true",
    "--profiling=false",
];

/// Links of the control plane's namespace, made inside of it.
fn network() {
    let ip = |line: &str| program::run("ip", line.split(' '));
    ip("link set lo up");
    ip(&format!("link add {UNDERLAY} type bridge"));
    ip(&format!("address add {ADDRESS}/24 dev {UNDERLAY}"));
    ip(&format!("address add {ADDRESS6}/64 dev {UNDERLAY} nodad"));
    ip(&format!("link set {UNDERLAY} up"));
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
}

fn etcd(programs: &Programs, place: &Place) -> Command {
    let mut command = program::command(programs.path("etcd"));
    command.arg("--data-dir").arg(place.path("etcd")).args([
        // A crash of the machine may lose a test cluster.
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
    ]);
    command
}

/// A relay, from a port of the machine's loopback and one of the cluster's network to the API server.
#[derive(Debug)]
pub struct Relay {
    service: Service,
    orders: Option<ChildStdin>,
    outside: u16,
}

impl Relay {
    /// Breaks every connection and lets none through.
    pub fn cut(&mut self) {
        self.order(Order::Cut);
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&mut self) {
        self.order(Order::Mend);
    }

    fn order(&mut self, order: Order) {
        self.orders.as_mut().unwrap().write_all(order.line().as_bytes()).unwrap();
    }

    fn start(space: &Space, place: &Place, name: &str, port: u16, lasting: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = listener.local_addr().unwrap().port();
        let log = place.path(format!("logs/{name}.log"));
        let mut command = program::command(program::built("cluster"));
        command.args(["relay", &format!("{ADDRESS}:{port}"), &format!("127.0.0.1:{PORT}")]);
        command.stdin(if lasting { Stdio::null() } else { Stdio::piped() });
        command.stdout(OwnedFd::from(listener)).stderr(fs::File::create(&log).unwrap());
        let mut child = space.spawn(&mut command);
        let orders = child.stdin.take();
        Self { service: Service::started(name, child, &log), orders, outside }
    }
}

/// Waits until an object is there and `holds`, and gives it.
#[track_caller]
pub fn eventually(api: &Api, path: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Value {
    wait::until(path, limit, || match api.get(path) {
        Ok(object) if holds(&object) => Ok(object),
        Ok(object) => Err(format!("it is {object}")),
        Err(refusal) => Err(refusal.to_string()),
    })
}
