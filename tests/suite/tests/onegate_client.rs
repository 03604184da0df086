//! The client, held to the recorded exchanges: what it sends, and what it makes of what comes.

use std::time::Duration;

use oneke_agent::context::OneGateConfig;
use oneke_agent::facts::FaultKind;
use oneke_agent::plan::{Attributes, Secret};
use oneke_agent::service::{AttributeName, AttributeValue, Service, VmId};
use oneke_agent::world::onegate::{Action, Client, Limits, OneGateError};
use oneke_suite::captures::{Capture, all, load};
use oneke_suite::replay::{Reply, Server};

const TOKEN: &str = "c2VjcmV0LXRva2VuLW9mLTAh";

fn limits() -> Limits {
    Limits { pause: Duration::from_millis(1), ..Limits::default() }
}

fn once() -> Limits {
    Limits { attempts: 1, ..limits() }
}

fn client_at(endpoint: &str, vm: u32, limits: Limits) -> Result<Client, OneGateError> {
    let config = OneGateConfig { endpoint: Some(endpoint.into()), ca: None, verify: true };
    // As token.txt has it: with a line break.
    Client::new(&config, VmId(vm), &Secret::new(format!("{TOKEN}\n")), limits)
}

fn client(server: &Server, vm: u32, limits: Limits) -> Client {
    client_at(&format!("http://{}", server.address()), vm, limits).expect("a plain endpoint")
}

/// A client of VM 0 and a server with this script.
async fn scripted(limits: Limits, script: impl IntoIterator<Item = Reply>) -> (Client, Server) {
    let server = Server::start(script).await;
    (client(&server, 0, limits), server)
}

fn recorded(name: &str) -> Reply {
    Reply::recorded(&load(name).response)
}

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    let pair = |(name, value): &(&str, &str)| {
        (AttributeName::new(*name).expect("a name"), AttributeValue::new(*value).expect("a value"))
    };
    pairs.iter().map(pair).collect()
}

#[track_caller]
fn check_fault<T: std::fmt::Debug>(answer: Result<T, OneGateError>, kind: FaultKind, says: &str) {
    let error = answer.expect_err("no answer");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
}

/// Asks what the capture asked; `None` if the client cannot ask so.
async fn ask(client: &Client, capture: &Capture) -> Option<Result<(), OneGateError>> {
    let (path, query) = capture.request.path.split_once('?').unwrap_or((&capture.request.path, ""));
    let extended = query == "extended=true";
    if !query.is_empty() && !extended {
        return None;
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    Some(match segments.as_slice() {
        [""] => client.get_root().await,
        ["vm"] => client.get_vm().await.map(drop),
        ["service"] => client.get_service(extended).await.map(drop),
        ["vms", id] => client.get_vms(VmId(id.parse().ok()?)).await.map(drop),
        ["vrouter"] => client.get_vrouter().await.map(drop),
        ["vnet", id] => client.get_vnet(id.parse().ok()?, extended).await.map(drop),
        _ => return None,
    })
}

#[tokio::test]
async fn every_recorded_question_is_asked_alike_and_its_answer_understood() {
    let mut checked = 0;
    for (name, capture) in all("").into_iter().filter(|(_, capture)| capture.request.method == "GET") {
        let vm = capture.request.headers.iter().find(|(name, _)| name == "X-ONEGATE-VMID");
        let Some(vm) = vm.and_then(|(_, vm)| vm.parse().ok()) else { continue };
        let server = Server::start([Reply::recorded(&capture.response)]).await;
        let client = client(&server, vm, once());
        let Some(answer) = ask(&client, &capture).await else { continue };

        let asked = &server.asked()[0];
        assert_eq!(asked.line, format!("GET {} HTTP/1.1", capture.request.path), "{name}");
        assert_eq!(asked.header("x-onegate-vmid"), Some(vm.to_string().as_str()), "{name}");
        assert_eq!(asked.header("x-onegate-token"), Some(TOKEN), "{name}");
        let expected = match capture.response.status {
            200 => {
                assert_eq!(answer, Ok(()), "{name}");
                checked += 1;
                continue;
            }
            400 => FaultKind::BadRequest,
            401 => FaultKind::NotAuthorized,
            404 => FaultKind::NotFound,
            other => panic!("{name}: no GET was answered with {other}"),
        };
        check_fault(answer, expected, &format!("{} {}", capture.response.status, capture.response.body));
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}

#[tokio::test]
async fn publishing_sends_the_recorded_bytes() {
    let cases = [
        (
            "put-vm-several-lines",
            attributes(&[("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "YWJj=="), ("E", "last")]),
        ),
        ("put-vm-ready-yes-raw", attributes(&[("READY", "YES")])),
    ];
    for (name, attributes) in cases {
        let capture = load(name);
        let (client, server) = scripted(once(), [Reply::recorded(&capture.response)]).await;
        assert_eq!(client.put_vm(&attributes).await, Ok(()), "{name}");
        let asked = &server.asked()[0];
        assert_eq!(
            (asked.line.as_str(), Some(&asked.body)),
            ("PUT /vm HTTP/1.1", capture.request.body.as_ref())
        );
        assert_eq!(asked.header("content-type"), Some("text/plain"));
    }
}

#[tokio::test]
async fn publishing_elsewhere_names_the_vm_and_nothing_is_not_sent() {
    let (client, server) = scripted(once(), [recorded("put-vms-id-same-service")]).await;
    assert_eq!(client.put_vms(VmId(2), &attributes(&[("FROM_VNF", "1")])).await, Ok(()));
    assert_eq!(server.asked()[0].line, "PUT /vms/2 HTTP/1.1");
    assert_eq!(server.asked()[0].body, load("put-vms-id-same-service").request.body.unwrap());
    assert_eq!(client.put_vm(&Attributes::new()).await, Ok(()));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_opens_the_gate_by_accident_is_not_sent() {
    let (client, server) = scripted(once(), []).await;
    let answer = client.put_vm(&attributes(&[("NOT_READY", "YES")])).await;
    check_fault(answer, FaultKind::BadRequest, "READY gate");
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn scaling_and_actions_send_the_recorded_bytes() {
    let script = ["put-service-role-scale-down", "post-action-rename", "put-service-role-while-cooldown"];
    let (client, server) = scripted(once(), script.map(recorded)).await;
    let service = Service::from_json(&load("get-service").response.body).unwrap();
    let role = service.role("worker").unwrap();
    assert_eq!(client.put_role_cardinality(role, 1).await, Ok(()));
    assert_eq!(client.post_action(VmId(0), Action::Hold).await, Ok(()));
    let refused = client.put_role_cardinality(role, 2).await;
    check_fault(refused, FaultKind::BadRequest, "400 Error performing action on service 1 role worker");

    let asked = server.asked();
    assert_eq!(asked[0].line, "PUT /service/role/worker HTTP/1.1");
    assert_eq!(asked[0].body, load("put-service-role-scale-down").request.body.unwrap());
    assert_eq!(asked[1].line, "POST /vms/0/action HTTP/1.1");
    assert_eq!(asked[1].body, load("post-action-hold-invalid-state").request.body.unwrap());
}

#[tokio::test]
async fn a_role_with_an_odd_name_stays_one_path_segment() {
    let (client, server) = scripted(once(), [recorded("put-service-role-scale-down")]).await;
    let service = Service::from_json(&load("get-service").response.body).unwrap();
    let mut role = service.role("worker").unwrap().clone();
    role.name = "../vm?x y".into();
    client.put_role_cardinality(&role, 1).await.unwrap();
    assert_eq!(server.asked()[0].line, "PUT /service/role/..%2Fvm%3Fx%20y HTTP/1.1");
}

#[tokio::test]
async fn what_can_pass_is_asked_again() {
    let (client, server) = scripted(limits(), ["oned-down-get-vm", "get-vm"].map(recorded)).await;
    assert_eq!(client.get_vm().await.map(|vm| vm.id), Ok(VmId(0)));
    assert_eq!(server.asked().len(), 2);
    assert_eq!(client.counts().own, 2);

    let (client, server) =
        scripted(limits(), ["oneflow-down-get-service", "get-service"].map(recorded)).await;
    assert_eq!(client.get_service(false).await.map(|service| service.id), Ok(1));
    assert_eq!(server.asked().len(), 2);

    let half =
        Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 345\r\n\r\n{\"VM\":{\"NAME\"".to_vec());
    let script = [half, Reply::SendAndClose(Vec::new()), recorded("get-vm")];
    let (client, _) = scripted(limits(), script).await;
    assert_eq!(client.get_vm().await.map(|vm| vm.id), Ok(VmId(0)));

    let (client, _) =
        scripted(limits(), ["post-action-hold-invalid-state", "put-vm-several-lines"].map(recorded)).await;
    assert_eq!(client.put_vm(&attributes(&[("A", "1")])).await, Ok(()));
}

#[tokio::test]
async fn what_lasts_is_told_after_three_attempts() {
    let (client, server) = scripted(limits(), [(); 4].map(|()| recorded("oned-down-get-vm"))).await;
    check_fault(client.get_vm().await, FaultKind::NotAuthorized, "3 times in a row");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn what_will_not_pass_is_asked_once() {
    let (client, server) = scripted(limits(), [recorded("get-service-self-done")]).await;
    check_fault(client.get_service(true).await, FaultKind::BadRequest, "does not contain VM 9");
    assert_eq!(server.asked().len(), 1);

    // Nothing but OneFlow has passing 404s.
    let (client, server) = scripted(limits(), [Reply::new("404 Not Found", "nothing here")]).await;
    check_fault(client.get_vm().await, FaultKind::NotFound, "404 nothing here");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_must_not_happen_twice_is_not_repeated() {
    let (client, server) = scripted(limits(), [recorded("post-action-hold-invalid-state")]).await;
    check_fault(client.post_action(VmId(0), Action::Hold).await, FaultKind::Server, "500");
    assert_eq!(server.asked().len(), 1);

    let (client, server) = scripted(limits(), [Reply::SendAndClose(Vec::new())]).await;
    check_fault(client.post_action(VmId(0), Action::Reboot).await, FaultKind::Tcp, "broke");
    assert_eq!(server.asked().len(), 1);

    // A 401 was refused before anything was done.
    let script = ["oned-down-put-vm", "post-action-rename"].map(recorded);
    let (client, server) = scripted(limits(), script).await;
    assert_eq!(client.post_action(VmId(0), Action::Hold).await, Ok(()));
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_none_is_nonsense() {
    let html = "<html><body>Please log in</body></html>";
    let vm = &load("get-vm").response.body;
    let bytes = |text: &str| Reply::SendAndClose(text.as_bytes().to_vec());
    let cases = [
        (Reply::new("200 OK", html), "not whole JSON"),
        (Reply::new("200 OK", ""), "not whole JSON"),
        (Reply::new("200 OK", &vm[..200]), "not whole JSON"),
        (Reply::new("200 OK", &load("get-service").response.body), "VM: expected an object"),
        (Reply::new("200 OK", &load("get-vms-id-same-service").response.body), "about VM 2"),
        (
            bytes(&format!("HTTP/1.1 200 OK\r\nContent-Length: 345\r\n\r\n{}", &vm[..200])),
            "broke off after 200 bytes",
        ),
        (bytes(&format!("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{vm}")), "not whole JSON"),
        (bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"VM\""), "broke off"),
        (bytes("220 mail.example.com ESMTP\r\n"), "not HTTP"),
        (bytes("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/vm\r\nContent-Length: 0\r\n\r\n"), "302"),
        (Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec()), "UTF-8"),
    ];
    for (reply, says) in cases {
        let (client, _) = scripted(once(), [reply]).await;
        check_fault(client.get_vm().await, FaultKind::Nonsense, says);
    }
}

#[tokio::test]
async fn a_service_without_the_one_who_asks_is_nonsense() {
    let server = Server::start([recorded("get-service")]).await;
    let answer = client(&server, 77, once()).get_service(false).await;
    check_fault(answer, FaultKind::Nonsense, "does not list VM 77");
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_not_kept() {
    let vm = &load("get-vm").response.body;
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{vm}\r\n0\r\n\r\n", vm.len());
    for reply in [Reply::new("200 OK", vm), Reply::SendAndClose(chunked.into_bytes())] {
        let limits = Limits { body_bytes: vm.len() - 1, ..once() };
        let (client, _) = scripted(limits, [reply.clone()]).await;
        check_fault(client.get_vm().await, FaultKind::Nonsense, "longer than 344 bytes");
        let (client, _) = scripted(Limits { body_bytes: vm.len(), ..once() }, [reply]).await;
        assert_eq!(client.get_vm().await.map(|vm| vm.id), Ok(VmId(0)));
    }
}

#[tokio::test]
async fn silence_ends_in_time() {
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 345\r\n\r\n{\"VM\""]
    {
        let limits = Limits { total: Duration::from_millis(200), ..limits() };
        let (client, server) = scripted(limits, [Reply::SendAndStall(begun.as_bytes().to_vec())]).await;
        check_fault(client.get_vm().await, FaultKind::Timeout, "within 200ms");
        assert!(server.asked().len() < 2, "{begun:?} was asked for again");
    }
}

#[tokio::test]
async fn nobody_there_and_no_such_name_differ() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = server.local_addr().unwrap();
    drop(server);
    let nobody = client_at(&format!("http://{free}"), 0, limits()).unwrap();
    check_fault(nobody.get_vm().await, FaultKind::Tcp, "onegate-server runs");

    // A label of more than 63 characters: the resolver refuses it without asking the network.
    let unknown = client_at(&format!("http://{}.invalid", "x".repeat(64)), 0, limits()).unwrap();
    check_fault(unknown.get_vm().await, FaultKind::Dns, "does not resolve");
}

#[test]
fn an_unusable_endpoint_or_token_is_told_at_once() {
    for endpoint in
        ["", "10.0.0.1:5030", "ftp://h", "http://user:topsecret@h", "http://h/?a=1", "file:///etc/passwd"]
    {
        let error = client_at(endpoint, 0, limits()).expect_err(endpoint);
        assert_eq!(error.kind(), FaultKind::NoEndpoint, "{endpoint}");
        assert!(!error.to_string().contains("topsecret"));
    }
    let config = OneGateConfig { endpoint: Some("http://h".into()), ca: None, verify: true };
    for (token, kind, what) in [
        ("", FaultKind::NoEndpoint, "no token.txt; the context needs"),
        ("\n", FaultKind::NoEndpoint, "TOKEN=YES"),
        ("two\nlines", FaultKind::NotAuthorized, "expected one line of base64"),
    ] {
        let error = Client::new(&config, VmId(0), &Secret::new(token), limits()).expect_err(token);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(what), "{error}");
    }
    let nowhere = OneGateConfig { endpoint: None, ..config };
    let error = Client::new(&nowhere, VmId(0), &Secret::new(TOKEN), limits()).unwrap_err();
    assert_eq!(error.kind(), FaultKind::NoEndpoint);
}

#[tokio::test]
async fn an_endpoint_may_have_a_path() {
    let server = Server::start([recorded("get-vm")]).await;
    let client = client_at(&format!("http://{}/onegate/", server.address()), 0, once()).unwrap();
    client.get_vm().await.unwrap();
    assert_eq!(server.asked()[0].line, "GET /onegate/vm HTTP/1.1");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (client, server) =
        scripted(limits(), ["get-vm", "get-service", "put-vm-several-lines", "get-vm"].map(recorded)).await;
    client.get_vm().await.unwrap();
    client.get_service(false).await.unwrap();
    client.put_vm(&attributes(&[("A", "1")])).await.unwrap();
    client.get_vm().await.unwrap();
    assert_eq!((server.connections(), server.asked().len()), (1, 4));
    let counts = client.counts();
    assert_eq!((counts.own, counts.service, counts.others, counts.writes), (2, 1, 0, 1));
}

#[tokio::test]
async fn the_token_is_not_printed() {
    let (client, _) = scripted(limits(), []).await;
    assert!(!format!("{client:?}").contains(TOKEN));
}
