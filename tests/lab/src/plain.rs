//! VMs that are no machines: a plain server each, with the VM's address and its voice in OneGate, all in one namespace.
//! What stands behind the balancers can so be many, and come and go at will, while the vnf VMs in front are real.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::{Context, Result};
use oneke_cloud::{Event, VmId};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::front::{Front, role};
use crate::network::{self, inside};
use crate::progress::Member;
use crate::service::Scene;

/// The ports on which every plain server answers: who changes his offer takes another one.
pub const PORTS: std::ops::Range<u16> = 20_000..20_200;
/// Where the client's network has a server, for connections that go out through the vnf.
pub const OUTSIDE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 250)), 7000);

/// The plain servers of one lab.
#[derive(Debug)]
pub struct Plain {
    roles: BTreeSet<String>,
    vms: BTreeSet<u32>,
    /// Those of them that have not said that they are ready.
    silent: BTreeSet<u32>,
}

impl Plain {
    /// Starts to answer for the roles of a scene, and on the outside. The servers end with the process.
    ///
    /// # Errors
    /// When a port cannot be opened.
    pub fn open(scene: &Scene) -> Result<Self> {
        if !scene.plain.is_empty() {
            serve("servers", PORTS.map(|port| ([0, 0, 0, 0], port).into()).collect())?;
            serve("client", vec![OUTSIDE])?;
        }
        Ok(Self { roles: scene.plain.clone(), vms: BTreeSet::new(), silent: BTreeSet::new() })
    }

    /// Does what an event asks of a plain server; false if it is about a machine.
    pub fn takes(&mut self, event: &Event, front: &Front) -> bool {
        match event {
            Event::PowerOn(start) if self.stands_for(start.vm, front) => {
                self.vms.insert(start.vm.0);
                self.silent.insert(start.vm.0);
                if let Err(error) = start.nics.iter().try_for_each(|nic| network::add_server(nic.ip)) {
                    eprintln!("oneke-lab: the plain server {}: {error:#}", start.vm);
                }
                true
            }
            Event::AcpiShutdown { vm } if self.vms.contains(&vm.0) => {
                front.with(|cloud, now| cloud.guest_stopped(now, *vm));
                true
            }
            Event::PowerOn(_) => false,
            Event::AcpiShutdown { vm }
            | Event::AcpiReboot { vm }
            | Event::Reset { vm }
            | Event::Destroy { vm }
            | Event::ContextChanged { vm, .. } => self.vms.contains(&vm.0),
        }
    }

    fn stands_for(&self, vm: VmId, front: &Front) -> bool {
        front.with(|cloud, _| cloud.vm(vm).is_some_and(|vm| self.roles.contains(&role(vm))))
    }

    /// Says READY for those that have not, once a real master has if there is to be one: no master founds a cluster in a
    /// service where a node says that it is in one.
    pub fn speak(&mut self, front: &Front) {
        if self.silent.is_empty() {
            return;
        }
        let waits = front.with(|cloud, _| {
            let is_master = |vm: &&oneke_cloud::Vm| {
                vm.membership.as_ref().is_some_and(|(_, role)| role == "master" && !self.roles.contains(role))
            };
            let is_ready = |vm: &oneke_cloud::Vm| vm.user_template.text("READY") == Some("YES");
            let masters: Vec<bool> = cloud.vms().filter(is_master).map(is_ready).collect();
            !masters.is_empty() && !masters.contains(&true)
        });
        let ready = [("READY".to_owned(), "YES".to_owned())];
        // One that OneGate did not hear says it again.
        self.silent.retain(|vm| waits || front.say_as(*vm, &ready).is_err());
    }
}

/// What there is to say of a plain server.
pub fn fill(member: &mut Member) {
    member.phase = "plain".into();
    member.well = true;
}

/// Answers on these addresses of a namespace.
fn serve(namespace: &str, addresses: Vec<SocketAddr>) -> Result<()> {
    let (listens, heard) = mpsc::channel();
    inside(namespace, move || {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("could not make a runtime")?;
        let listen = async {
            let mut listeners = Vec::new();
            for address in addresses {
                let listener = TcpListener::bind(address).await;
                listeners.push(listener.with_context(|| format!("could not listen on {address}"))?);
            }
            Ok::<_, anyhow::Error>(listeners)
        };
        runtime.block_on(async {
            let listeners = listen.await;
            let accepting = listeners.map(|listeners| listeners.into_iter().map(accept).collect::<Vec<_>>());
            match accepting {
                Ok(accepting) => {
                    listens.send(Ok(())).context("nobody waits for the servers")?;
                    let tasks: Vec<_> = accepting.into_iter().map(tokio::spawn).collect();
                    for task in tasks {
                        task.await.context("a server died")?;
                    }
                    Ok(())
                }
                Err(error) => listens.send(Err(error)).context("nobody waits for the servers"),
            }
        })
    })?;
    heard.recv().context("the servers' thread died")?
}

async fn accept(listener: TcpListener) {
    loop {
        // A connection that ended before it was accepted is no concern of ours.
        if let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(async move {
                // Who asked and left again gets no answer.
                let _ = answer(stream, peer).await;
            });
        }
    }
}

/// Tells who answers and who asked, once the question was read: unread bytes would end the connection with a reset.
async fn answer(mut stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    let own = stream.local_addr()?;
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading).lines();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    writing.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{own} {}\n", peer.ip()).as_bytes()).await?;
    writing.shutdown().await
}
