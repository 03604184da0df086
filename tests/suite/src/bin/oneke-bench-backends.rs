//! `oneke-bench-backends`: what many backends cost a vnf VM: deciding and rendering, changing a real HAProxy on the
//! loopback interface through its socket, and memory. Prints a table and asserts nothing; the wanted figures stand in
//! `docs/measurements.md`.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use oneke_agent::context::vnf::{Host, Server};
use oneke_agent::driver::{Driver, Event, Interests, Report, World};
use oneke_agent::facts::{Facts, Link, Observed, Reading};
use oneke_agent::plan::{Effect, Reads, Secret};
use oneke_agent::service::digest::Digest;
use oneke_agent::service::offers::{Family, Offer};
use oneke_agent::service::{Vm, VmId, names};
use oneke_agent::vnf::haproxy::{PATH, UNIT};
use oneke_suite::haproxy::{Daemon, free_port};
use oneke_suite::memory::Memory;

const FRONT: &str = "127.0.77.1";
const WALL: u64 = 1_790_000_000;
const NOW: Duration = Duration::from_secs(5_000);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for backends in [10, 100, 1_000] {
            deciding(backends).await?;
        }
        match Daemon::find()? {
            Some(daemon) => changing(daemon).await?,
            None => println!("haproxy is not installed: nothing is changed"),
        }
        println!("{:<58} {:>9} KiB", "memory of this process now (VmRSS)", memory("VmRSS")?);
        println!("{:<58} {:>9} KiB", "and at most (VmHWM)", memory("VmHWM")?);
        Ok(())
    })
}

fn row(name: &str, time: Duration) {
    println!("{name:<58} {:>9.3} ms", time.as_secs_f64() * 1_000.0);
}

/// The median of many decisions at rest, and the first one.
async fn deciding(backends: u32) -> Result<()> {
    let mut world = Real { memory: machine(6443, backends), daemon: None };
    let mut driver = Driver::default();
    driver.pass(&mut world).await;
    let facts = world.memory.seen.clone();
    let vars = oneke_agent::context::Vars::parse(&context(6443))?;
    let config = oneke_agent::context::Config::read(&vars, Some("vnf".to_owned().into()))
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let median = |facts: &Facts| {
        let mut times: Vec<Duration> = (0..51)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(oneke_agent::decide::decide(&config, facts));
                start.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    row(&format!("{backends} backends: decide and render, all of them new"), median(&facts));
    for _ in 0..8 {
        driver.pass(&mut world).await;
    }
    row(&format!("{backends} backends: decide and render, at rest"), median(&world.memory.seen));
    Ok(())
}

/// A running HAProxy with one backend gets 999 more, then other ones, then loses all but one.
async fn changing(daemon: Daemon) -> Result<()> {
    let port = free_port(FRONT.parse()?)?;
    let mut world = Real { memory: machine(port, 1), daemon: Some(daemon) };
    let mut driver = Driver::default();
    settle(&mut driver, &mut world, 1).await?;
    for (name, backends) in [("1 to 1,000 backends", 1_000), ("1,000 backends to 1", 1)] {
        world.tell(port, backends);
        let start = Instant::now();
        let passes = settle(&mut driver, &mut world, usize::try_from(backends)?).await?;
        row(&format!("{name}: told to running, {passes} pass(es)"), start.elapsed());
    }
    Ok(())
}

/// Passes until HAProxy has so many servers; returns how many that took.
async fn settle(driver: &mut Driver, world: &mut Real, servers: usize) -> Result<usize> {
    for pass in 1..10 {
        driver.pass(world).await;
        let daemon = world.daemon.as_ref().context("there is no HAProxy")?;
        if daemon.read().await.known().is_some_and(|stats| stats.servers.len() == servers) {
            return Ok(pass);
        }
    }
    anyhow::bail!("HAProxy does not come to {servers} servers")
}

fn memory(kind: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
    Ok(line.context("no such line")?.trim().trim_end_matches(" kB").parse()?)
}

/// A machine in memory, but for HAProxy.
struct Real {
    memory: Memory,
    daemon: Option<Daemon>,
}

impl Real {
    fn tell(&mut self, port: u16, backends: u32) {
        self.memory.facts.wall += 60;
        let digest = digest(port, backends, self.memory.facts.wall);
        self.memory.facts.me = reading(me(&digest));
    }
}

impl World for Real {
    async fn observe(&mut self, interests: &Interests, reads: &Reads) -> Facts {
        let mut facts = self.memory.observe(interests, reads).await;
        if let Some(daemon) = &self.daemon {
            facts.haproxy = daemon.read().await;
        }
        facts
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return self.memory.apply(effect).await };
        let done = match effect {
            Effect::SetServers { changes, .. } => daemon.change(changes).await,
            Effect::LoadConfig { unit, .. } if unit == UNIT => {
                let file = self.memory.files.get(PATH).map_or("", |(_, text)| text);
                daemon.load(file).await
            }
            _ => Ok(()),
        };
        done.map_err(|error| format!("{error:#}"))?;
        self.memory.apply(effect).await
    }

    async fn report(&mut self, report: &Report) {
        let failed = report.effects.iter().find(|effect| effect.starts_with("failed"));
        failed.into_iter().for_each(|effect| println!("{effect}"));
    }

    async fn wait(&mut self, _: Duration) -> Event {
        Event::Timer
    }
}

fn context(port: u16) -> String {
    format!(
        "VMID='6'\nSERVICE_ID='4'\nETH0_MAC='02:00:00:00:00:01'\nETH0_IP='{FRONT}'\nETH0_MASK='255.255.255.0'\n\
         ONEAPP_VNF_HAPROXY_ENABLED='YES'\nONEAPP_VNF_HAPROXY_ONEGATE_ENABLED='YES'\n\
         ONEAPP_VNF_HAPROXY_LB1_IP='{FRONT}'\nONEAPP_VNF_HAPROXY_LB1_PORT='{port}'\n"
    )
}

fn machine(port: u16, backends: u32) -> Memory {
    let link = Link {
        name: "eth0".into(),
        mac: "02:00:00:00:00:01".into(),
        running: true,
        addresses: FRONT.parse().ok().map(|ip| (ip, 24)).into_iter().collect(),
    };
    let facts = Facts {
        now: NOW,
        wall: WALL,
        context: Observed::Known(Secret::new(context(port))),
        me: reading(me(&digest(port, backends, WALL))),
        links: Observed::Known(vec![link]),
        ..Facts::default()
    };
    Memory::new(facts, BTreeMap::new(), Default::default())
}

/// Lower VMs go first when there are fewer.
fn digest(port: u16, backends: u32, at: u64) -> Digest {
    let offer = |n: u32| Offer {
        slot: (Family::Haproxy, 1),
        listener: FRONT.into(),
        listener_port: Some(port),
        vm: VmId(1_000 + n),
        server: Server {
            host: Host::Address(std::net::Ipv4Addr::from(0x7F01_0000 + n).into()),
            port: Some(6443),
            weight: None,
            upper: None,
            lower: None,
        },
    };
    let all = |range: std::ops::Range<u32>| range.map(offer).collect();
    Digest { at, offers: all(0..backends), gone: all(backends..1_000) }
}

fn me(digest: &Digest) -> Vm {
    let own = [("ROLE_NAME", "vnf"), ("SERVICE_ID", "4"), (names::BACKENDS, digest.value().as_str())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Vm {
        id: VmId(6),
        name: "vnf_6".into(),
        state: 3,
        lcm_state: 3,
        attributes: Some(own.into()),
        nics: Vec::new(),
    }
}

fn reading<T>(value: T) -> Reading<T> {
    Reading { last: Observed::Known(value.into()), at: Some(NOW), fault: None }
}
