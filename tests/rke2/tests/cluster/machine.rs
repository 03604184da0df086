//! A machine: a directory as its root, an address of its own on the loopback interface, and perhaps a running `rke2`.

use std::fmt::Debug;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;

/// Far longer than anything takes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(40);

static NETWORKS: AtomicU8 = AtomicU8::new(1);

/// Addresses that no other test of this process, and hardly one of another, uses.
pub struct Network {
    prefix: String,
    last: AtomicU8,
}

impl Network {
    pub fn new() -> Self {
        let process = 64 + std::process::id() % 128;
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("127.{process}.{network}"), last: AtomicU8::new(0) }
    }

    /// A machine with a node name, tuned to be quick.
    pub fn machine(&self, name: &str) -> Machine {
        let ip = format!("{}.{}", self.prefix, self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let machine = Machine { root: tempfile::tempdir().unwrap(), name: name.into(), ip, child: None };
        machine.write("etc/rancher/rke2/standin.toml", QUICK);
        machine
    }

    /// An address where nobody is.
    pub fn nobody(&self) -> String {
        format!("https://{}.250:9345", self.prefix)
    }
}

const QUICK: &str = "bind = \"node-ip\"\nnode-ready-delay-ms = 100\npromotion-delay-ms = 100\nheartbeat-ms = 500\n\
    not-ready-after-ms = 3000\nelection-ms = 600\nretry-ms = 300\npod-stop-ms = 100\n";

pub struct Machine {
    pub root: TempDir,
    pub name: String,
    pub ip: String,
    child: Option<Child>,
}

impl Machine {
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn tune(&self, line: &str) {
        let key = line.split('=').next().unwrap();
        let old = self.read("etc/rancher/rke2/standin.toml");
        let kept: String = old.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
        self.write("etc/rancher/rke2/standin.toml", &format!("{kept}{line}\n"));
    }

    pub fn configure(&self, lines: &str) {
        let text = format!("node-name: {}\nnode-ip: {}\n{lines}\n", self.name, self.ip);
        self.write("etc/rancher/rke2/config.yaml", &text);
    }

    pub fn start(&mut self, kind: &str) {
        self.stop();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = self.command().arg(kind).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
    }

    /// Runs a command to its end: whether it succeeded, and what it said.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command().args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rke2"));
        command.env_clear().env("RKE2_STANDIN_ROOT", self.root.path());
        command
    }

    /// The power goes.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What its etcd member tells to its own machine.
    pub fn metrics(&self) -> String {
        let mut stream = std::net::TcpStream::connect((self.ip.as_str(), 2381)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    pub fn log(&self) -> String {
        self.read("log")
    }

    pub fn token(&self) -> String {
        self.read("var/lib/rancher/rke2/server/token").trim().to_owned()
    }

    pub async fn says(&self, text: &str) {
        until(&format!("{} says {text:?}", self.name), || async { self.log().contains(text).then_some(()) })
            .await;
    }

    pub async fn is_up(&self) {
        self.says("is up and running").await;
    }

    /// Ends by itself, with an error.
    pub async fn fails(&mut self) -> String {
        let name = self.name.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                assert!(!status.success());
                self.child = None;
                return self.log();
            }
            assert!(Instant::now() < deadline, "{name} did not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// The administrator's client of this server.
    pub async fn admin(&self) -> Client {
        self.client("etc/rancher/rke2/rke2.yaml").await
    }

    pub async fn client(&self, kubeconfig: &str) -> Client {
        let text =
            until("a kubeconfig", || async { Some(self.read(kubeconfig)).filter(|text| !text.is_empty()) })
                .await;
        let parsed = Kubeconfig::from_yaml(&text).unwrap();
        let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        config.read_timeout = Some(Duration::from_secs(12));
        config.connect_timeout = Some(Duration::from_secs(3));
        // A refusal is what these tests look at; the client would ask again after a 429 or 503.
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    pub async fn is_ready(&self) -> bool {
        let request = http_get("/readyz");
        self.admin().await.request_text(request).await.is_ok_and(|text| text == "ok")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- {} ({})\n{}", self.name, self.ip, self.log());
        }
    }
}

pub fn http_get(path: &str) -> hyper::Request<Vec<u8>> {
    hyper::Request::get(path).body(Vec::new()).unwrap()
}

/// Looks again and again until there is something to see.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Waits until the Node is as `test` wants it.
pub async fn node(client: &Client, name: &str, test: impl Fn(&Node) -> bool) -> Node {
    let nodes: Api<Node> = Api::all(client.clone());
    until(&format!("node {name}"), || async { nodes.get_opt(name).await.ok().flatten().filter(&test) }).await
}

pub fn is_ready(node: &Node) -> bool {
    condition(node) == "True"
}

/// RKE2 says that the Node's etcd member has a vote.
pub fn votes(node: &Node) -> bool {
    status(node, "EtcdIsVoter") == "True"
}

/// The status of the Node's condition Ready.
pub fn condition(node: &Node) -> String {
    status(node, "Ready")
}

fn status(node: &Node, kind: &str) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let condition = conditions.into_iter().flatten().find(|condition| condition.type_ == kind);
    condition.map(|condition| condition.status.clone()).unwrap_or_default()
}

pub fn annotation<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The HTTP code of a refusal.
pub fn code<T: Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A server that founded a cluster and is up.
pub async fn founder(network: &Network) -> Machine {
    let mut founder = network.machine("a");
    founder.configure("token: short-secret");
    founder.start("server");
    founder.is_up().await;
    founder
}

/// A server that joined `first` and is up.
pub async fn joiner(network: &Network, name: &str, first: &Machine) -> Machine {
    let mut machine = network.machine(name);
    machine.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
    machine.start("server");
    machine.is_up().await;
    machine
}

/// An agent that joined `first` and is up.
pub async fn worker(network: &Network, name: &str, first: &Machine) -> Machine {
    let mut machine = network.machine(name);
    machine.configure(&format!("server: https://{}:9345\ntoken: {}", first.ip, first.token()));
    machine.start("agent");
    machine.is_up().await;
    machine
}
