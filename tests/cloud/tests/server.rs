//! The cloud on the network: bytes as a client sees them, and the operator's port.
#![expect(clippy::disallowed_methods, reason = "its clients are here")]

use std::net::SocketAddr;

use oneke_cloud::server::Server;
use oneke_cloud::{Cloud, Options, Templates, VmId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

struct Ports {
    server: Server,
    onegate: SocketAddr,
    admin: SocketAddr,
}

/// A cloud a hundred times as fast as the world, with one service just instantiated.
async fn serve() -> Ports {
    let server = Server::new(Cloud::new(Options::default()), Templates::oneke(), 100.0);
    let listen = || async { TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports") };
    let (onegate, admin) = (listen().await, listen().await);
    let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
    let ports = Ports { server: server.clone(), onegate: address(&onegate), admin: address(&admin) };
    tokio::spawn(server.run(onegate, admin));
    ports
}

impl Ports {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.onegate).await.expect("somebody listens")
    }

    fn request(&self, vm: u32, line: &str, body: &str) -> String {
        let token = self.server.with(|cloud, _| cloud.vm(VmId(vm)).expect("it was created").token.clone());
        let length = body.len();
        format!(
            "{line} HTTP/1.1\r\nHost: gate:5030\r\nX-ONEGATE-VMID: {vm}\r\nX-ONEGATE-TOKEN: {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.admin).await.expect("somebody listens");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head ends");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    async fn do_it(&self, command: Value) -> Value {
        self.admin("POST", "/do", &command).await
    }
}

/// Sends a request and reads until the answer is whole, or the connection ends.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let expected = length.map_or(0, |length| length.parse().expect("a number"));
            if request.starts_with("HEAD") || body.len() >= expected {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
        }
    }
}

fn instantiate() -> Value {
    json!({"do": "instantiate", "networks": {"Public": "public", "Private": "private"}})
}

#[tokio::test]
async fn answers_look_like_pumas() {
    let ports = serve().await;
    assert_eq!(ports.do_it(instantiate()).await, json!({"service": 1}));
    let mut stream = ports.connect().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
    let root = exchange(&mut stream, &ports.request(0, "GET /", "")).await;
    let body = r#"{"vm_info":"http://gate:5030/vm","service_info":"http://gate:5030/service"}"#;
    assert_eq!(root, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    // The same connection serves on.
    let update = exchange(&mut stream, &ports.request(0, "PUT /vm", "A=two words")).await;
    assert_eq!(update, format!("{head}Content-Length: 0\r\n\r\n"));
    let own = exchange(&mut stream, &ports.request(0, "GET //vm", "")).await;
    assert!(own.contains(r#""A":"two words""#), "{own}");
    let head_only = exchange(&mut stream, &ports.request(0, "HEAD //vm", "")).await;
    assert_eq!(Some(head_only.as_str()), own.split_inclusive("\r\n\r\n").next());
    let rename = r#"{"action":{"perform":"rename","params":"x"}}"#;
    let renamed = exchange(&mut stream, &ports.request(0, "POST /vms/0/action", rename)).await;
    assert_eq!(renamed, "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\n\r\n");
}

#[tokio::test]
async fn damage_is_real() {
    let ports = serve().await;
    ports.do_it(instantiate()).await;
    let whole = exchange(&mut ports.connect().await, &ports.request(0, "GET /", "")).await;
    ports.do_it(json!({"do": "faults", "cut_one_in": 1})).await;
    let cut = exchange(&mut ports.connect().await, &ports.request(0, "GET /", "")).await;
    assert!(whole.starts_with(&cut) && cut.len() < whole.len(), "{cut}");
    assert!(cut.contains("Content-Length"), "it promised more than it sent: {cut}");
    ports.do_it(json!({"do": "faults", "refuse_until": 1e9})).await;
    let refused = exchange(&mut ports.connect().await, &ports.request(0, "GET /", "")).await;
    assert_eq!(refused, "");
    ports.do_it(json!({"do": "faults"})).await;
    assert_eq!(exchange(&mut ports.connect().await, &ports.request(0, "GET /", "")).await, whole);
}

#[tokio::test]
async fn an_operator_drives_the_cloud() {
    let ports = serve().await;
    assert_eq!(ports.admin("GET", "/events", &json!(null)).await, json!([]));
    ports.do_it(instantiate()).await;
    let events = ports.admin("GET", "/events?after=0&wait=30", &json!(null)).await;
    let first = &events[0];
    assert_eq!(
        (&first["number"], &first["event"], &first["role"]),
        (&json!(1), &json!("power_on"), &json!("vnf"))
    );
    assert!(
        first["context_sh"].as_str().is_some_and(|text| text.contains("\nONEAPP_VNF_DNS_ENABLED='YES'\n"))
    );

    let token = first["token"].as_str().expect("a token");
    let request = format!(
        "PUT /vm HTTP/1.1\r\nHost: a\r\nX-Onegate-Vmid: 0\r\nX-Onegate-Token: {token}\r\nContent-Length: 9\r\n\r\n\
         READY=YES"
    );
    assert!(exchange(&mut ports.connect().await, &request).await.starts_with("HTTP/1.1 200"));
    let events = ports.admin("GET", "/events?after=1&wait=30", &json!(null)).await;
    assert_eq!((&events[0]["number"], &events[0]["vm"]), (&json!(2), &json!(1)), "the children follow");

    let refused = ports.do_it(json!({"do": "scale", "service": 1, "role": "worker", "cardinality": 2})).await;
    assert_eq!(refused, json!({"error": "service 1 cannot scale while it is in Deploying"}));
    let unknown = ports.do_it(json!({"do": "dance"})).await;
    assert!(
        unknown["error"].as_str().is_some_and(|error| error.contains("unknown variant `dance`")),
        "{unknown}"
    );
    let received = ports.admin("GET", "/received", &json!(null)).await;
    assert_eq!(
        (received[0]["body"].as_str(), received.as_array().map(Vec::len)),
        (Some("READY=YES"), Some(1))
    );
    let requests = ports.admin("GET", "/requests", &json!(null)).await;
    assert_eq!(requests, json!([{"vm": 0, "kind": "own_write", "count": 1}]));
    let state = ports.admin("GET", "/state", &json!(null)).await;
    assert_eq!(state["services"][0]["state"], "Deploying");
}
