//! The real HAProxy: servers come, drain and go while clients connect all the time, and no connection fails. Left out
//! where HAProxy is not installed, unless `ONEKE_OWNERS=1` makes that a failure.
#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a test opens connections")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use oneke_agent::facts::{Observed, ServerState};
use oneke_agent::plan::{Decision, Effect, Status};
use oneke_agent::service::Vm;
use oneke_agent::world::ports;
use oneke_suite::haproxy::{Daemon, free_port};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::machine::{Machine, status};
use super::scenarios::{machine_of, offering, service};

/// The balancer's address, and the masters' but for the last part.
const FRONT: &str = "127.0.77.1";
const BACK: &str = "127.0.78";
/// Connections that HAProxy has handed over show within this.
const MOMENT: Duration = Duration::from_millis(20);

/// A machine whose HAProxy is real.
struct Real {
    machine: Machine,
    daemon: Daemon,
    /// Where the balancer listens, and where the masters do.
    front: u16,
    back: u16,
}

impl Real {
    fn find(extra: &str) -> Option<Self> {
        let Some(daemon) = Daemon::find().unwrap() else {
            assert!(
                std::env::var_os("ONEKE_OWNERS").is_none(),
                "ONEKE_OWNERS is set, but there is no HAProxy"
            );
            println!("left out: haproxy is not installed");
            return None;
        };
        let (front, back) = (free_port(FRONT.parse().unwrap()), free_port("127.0.78.8".parse().unwrap()));
        let (front, back) = (front.unwrap(), back.unwrap());
        let machine = machine_of(&context(front, extra));
        Some(Self { machine, daemon, front, back })
    }

    fn master(&self, vm: u32) -> Vm {
        let mut vm = offering(vm, &format!("{BACK}.{vm}"), &self.back.to_string());
        set(&mut vm, "IP", FRONT);
        set(&mut vm, "PORT", &self.front.to_string());
        vm
    }

    fn told(&mut self, masters: Vec<Vm>) {
        self.machine.later(30);
        self.machine.told(service(masters));
    }

    /// Looks, decides and applies: what concerns HAProxy for real.
    async fn pass(&mut self) -> (Decision, Result<(), String>) {
        self.machine.facts.haproxy = self.daemon.read().await;
        let decision = self.machine.decide();
        for effect in &decision.effects {
            let done = match effect {
                Effect::WriteFile(file) if file.path == "/etc/haproxy/haproxy.cfg" => {
                    // As the checker does, which the file meets first.
                    match ports::taken(file.content.as_str()) {
                        Some(taken) => return (decision, Err(taken)),
                        None => Ok(()),
                    }
                }
                Effect::LoadConfig { unit, .. } if unit == "haproxy.service" => {
                    let file = self.machine.file("/etc/haproxy/haproxy.cfg").to_owned();
                    self.daemon.load(&file).await
                }
                Effect::SetServers { changes, .. } => {
                    let done = self.daemon.change(changes).await;
                    self.machine.done.push(effect.clone());
                    done.unwrap();
                    continue;
                }
                _ => Ok(()),
            };
            self.machine.apply(effect);
            self.machine.done.push(effect.clone());
            if let Err(error) = done {
                return (decision, Err(format!("{error:#}")));
            }
        }
        (decision, Ok(()))
    }

    /// Until nothing is left to do; whether HAProxy was reloaded, and the last decision.
    async fn settle(&mut self) -> (bool, Decision) {
        self.machine.done.clear();
        for _ in 0..8 {
            let (decision, outcome) = self.pass().await;
            outcome.unwrap();
            if decision.effects.is_empty() {
                let loads = |effect: &&Effect| matches!(effect, Effect::LoadConfig { unit, .. } if unit == "haproxy.service");
                return (self.machine.done.iter().find(loads).is_some(), decision);
            }
            tokio::time::sleep(MOMENT).await;
        }
        panic!("still deciding: {:?}", self.machine.done);
    }

    async fn servers(&self) -> Vec<String> {
        let Observed::Known(stats) = self.daemon.read().await else { panic!("HAProxy does not answer") };
        let short = |name: &String| name.split('_').next().unwrap().to_owned();
        stats.servers.keys().map(short).collect()
    }

    /// A connection that lives on, and the master that it went to.
    async fn connect(&self) -> (BufReader<TcpStream>, String) {
        let mut stream = BufReader::new(TcpStream::connect((FRONT, self.front)).await.unwrap());
        let who = echo(&mut stream).await.unwrap();
        (stream, who)
    }
}

fn set(vm: &mut Vm, setting: &str, value: &str) {
    vm.attributes.as_mut().unwrap().insert(format!("ONEGATE_HAPROXY_LB1_{setting}"), value.to_owned());
}

fn context(front: u16, extra: &str) -> String {
    format!(
        "VMID='6' SERVICE_ID='4' ETH0_MAC='02:00:00:00:00:01' ETH0_IP='{FRONT}' ETH0_MASK='255.255.255.0'
ONEAPP_VNF_HAPROXY_ENABLED='YES' ONEAPP_VNF_HAPROXY_ONEGATE_ENABLED='YES'
ONEAPP_VNF_HAPROXY_LB1_IP='{FRONT}' ONEAPP_VNF_HAPROXY_LB1_PORT='{front}' {extra}"
    )
}

/// Asks who is there.
async fn echo(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"who\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(line.trim().to_owned()) }
}

/// A master: says its number to every line.
async fn serve(vm: u32, port: u16) {
    let listener = TcpListener::bind((format!("{BACK}.{vm}"), port)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(format!("{vm}\n").as_bytes()).await.is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
    });
}

/// Connects all the time, and counts.
struct Clients {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Clients {
    fn start(front: u16) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let task = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let outcome = async {
                    let mut stream = BufReader::new(TcpStream::connect((FRONT, front)).await?);
                    echo(&mut stream).await
                };
                failed.extend(outcome.await.err().map(|error| error.to_string()));
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            failed
        });
        Self { stop, made, task }
    }

    /// All of them were served.
    async fn end(self) {
        // On a busy machine the scene is over before there were some.
        while self.made.load(Ordering::Relaxed) <= 10 {
            tokio::time::sleep(MOMENT).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.task.await.unwrap();
        let made = self.made.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of {made} failed: {:?}", failed.len(), failed.first());
    }
}

#[tokio::test]
async fn servers_come_and_go_without_a_failed_connection() {
    let Some(mut real) = Real::find("") else { return };
    for vm in [8, 9, 10] {
        serve(vm, real.back).await;
    }
    real.told(vec![real.master(8), real.master(9)]);
    assert!(real.settle().await.0, "the first start loads the file");
    assert_eq!(real.servers().await, ["lb1/vm8", "lb1/vm9"]);
    let clients = Clients::start(real.front);

    real.told(vec![real.master(8), real.master(9), real.master(10)]);
    assert!(!real.settle().await.0, "a new server needs no reload");
    let mut longest = loop {
        let (stream, who) = real.connect().await;
        if who == "10" {
            break stream;
        }
    };

    // It withdraws: its connection lives on, nobody else gets there, and it goes with the last one.
    real.told(vec![real.master(8), real.master(9)]);
    let (reloaded, decision) = real.settle().await;
    assert!(!reloaded);
    let running = decision.conditions.iter().find(|condition| condition.kind == "BalancerRunning").unwrap();
    assert!(running.message.contains("1 server(s) that nobody offers any more"), "{running}");
    for _ in 0..10 {
        assert_ne!(real.connect().await.1, "10");
    }
    assert_eq!(echo(&mut longest).await.unwrap(), "10");

    // A balancer more is a reload; what was connected stays connected, and the old process serves it to its end.
    let other = free_port(FRONT.parse().unwrap()).unwrap();
    let extra = format!("ONEAPP_VNF_HAPROXY_LB7_IP='{FRONT}' ONEAPP_VNF_HAPROXY_LB7_PORT='{other}'");
    let facts = real.machine.facts.clone();
    real.machine = machine_of(&context(real.front, &extra));
    real.machine.facts = facts;
    assert!(real.settle().await.0);
    assert_eq!(real.servers().await, ["lb1/vm8", "lb1/vm9"], "the file has who is offered");
    assert_eq!(echo(&mut longest).await.unwrap(), "10");

    // Back again, and gone again with nobody connected.
    real.told(vec![real.master(8), real.master(9), real.master(10)]);
    assert!(!real.settle().await.0);
    real.told(vec![real.master(9), real.master(10)]);
    assert!(!real.settle().await.0);
    while real.servers().await.len() > 2 {
        real.settle().await;
    }
    assert_eq!(real.servers().await, ["lb1/vm10", "lb1/vm9"]);
    clients.end().await;
}

#[tokio::test]
async fn shares_and_limits_are_set_at_run_time() {
    let Some(mut real) = Real::find("") else { return };
    for vm in [8, 9] {
        serve(vm, real.back).await;
    }
    real.told(vec![real.master(8), real.master(9)]);
    real.settle().await;
    let clients = Clients::start(real.front);
    let mut stream = loop {
        let (stream, who) = real.connect().await;
        if who == "9" {
            break stream;
        }
    };
    let mut drained = real.master(9);
    set(&mut drained, "SERVER_WEIGHT", "0");
    set(&mut drained, "SERVER_ULIMIT", "100");
    real.told(vec![real.master(8), drained]);
    assert!(!real.settle().await.0);
    for _ in 0..10 {
        assert_eq!(real.connect().await.1, "8");
    }
    assert_eq!(echo(&mut stream).await.unwrap(), "9", "who was there stays");
    let mut heavy = real.master(9);
    set(&mut heavy, "SERVER_WEIGHT", "200");
    real.told(vec![real.master(8), heavy]);
    assert!(!real.settle().await.0);
    let Observed::Known(stats) = real.daemon.read().await else { panic!("HAProxy does not answer") };
    let server = stats.servers.iter().find(|(name, _)| name.starts_with("lb1/vm9")).unwrap().1;
    assert_eq!((server.state, server.weight, server.limit), (ServerState::Up, 200, 0));
    clients.end().await;
}

#[tokio::test]
async fn the_proxy_protocol_goes_with_a_server_that_is_added() {
    let Some(mut real) = Real::find("ONEAPP_VNF_HAPROXY_LB1_PROXY_PROTOCOL='V1'") else { return };
    real.told(vec![]);
    assert!(real.settle().await.0);
    let listener = TcpListener::bind((format!("{BACK}.8"), real.back)).await.unwrap();
    real.told(vec![real.master(8)]);
    assert!(!real.settle().await.0);
    let mut client = TcpStream::connect((FRONT, real.front)).await.unwrap();
    client.write_all(b"hello\n").await.unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        let mut some = [0; 200];
        while !said.ends_with(b"hello\n") {
            match stream.read(&mut some).await.unwrap_or_default() {
                0 => break,
                read => said.extend(&some[..read]),
            }
        }
        let said = String::from_utf8(said).unwrap();
        if said.ends_with("hello\n") {
            assert!(said.starts_with("PROXY TCP4 127.0.0.1 127.0.77.1 "), "{said}");
            return;
        }
        // A health check.
    }
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_the_last_good_configuration_serving() {
    let Some(mut real) = Real::find("") else { return };
    for vm in [8, 9] {
        serve(vm, real.back).await;
    }
    real.told(vec![real.master(8)]);
    real.settle().await;
    let clients = Clients::start(real.front);
    let taken = std::net::TcpListener::bind((FRONT, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let extra = format!("ONEAPP_VNF_HAPROXY_LB7_IP='{FRONT}' ONEAPP_VNF_HAPROXY_LB7_PORT='{port}'");
    let facts = real.machine.facts.clone();
    real.machine = machine_of(&context(real.front, &extra));
    real.machine.facts = facts;
    let (_, outcome) = real.pass().await;
    let expected = format!("port {port} of {FRONT} is taken by ");
    assert!(outcome.as_ref().is_err_and(|why| why.starts_with(&expected)), "{outcome:?}");

    // What can be changed is changed meanwhile.
    real.told(vec![real.master(8), real.master(9)]);
    let (_, outcome) = real.pass().await;
    outcome.unwrap_err();
    assert_eq!(real.servers().await, ["lb1/vm8", "lb1/vm9"]);
    drop(taken);
    assert!(real.settle().await.0);
    assert_eq!(status(&real.pass().await.0, "BalancerRunning"), Some(Status::True));
    clients.end().await;
}
