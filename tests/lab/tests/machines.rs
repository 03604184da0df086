//! The harness itself: two machines on the wires, through every way of stopping. Needs root, and the distribution's
//! package servers at its first run: `cargo test -p oneke-lab --test machines -- --ignored`.

#![expect(clippy::disallowed_methods, reason = "a test of real machines: files and time")]

use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oneke_lab::base::{self, Image};
use oneke_lab::command::{output, run};
use oneke_lab::hypervisor::{Hypervisor, Order};
use oneke_lab::machine::{Disc, Stopped};
use oneke_lab::{host, network};

fn disc(id: u32) -> Disc {
    let variables = format!(
        "ETH0_MAC='02:00:0a:4d:00:{id:02x}'\nETH0_IP='10.77.0.{id}'\nETH0_MASK='255.255.255.0'\n\
         ETH1_MAC='02:00:ac:1b:00:{id:02x}'\nETH1_IP='172.27.0.{id}'\nETH1_MASK='255.255.255.0'\n\
         ONEGATE_ENDPOINT='http://169.254.16.9:5030'\n"
    );
    Disc { variables, token: "dG9rZW4=\n".into() }
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited a minute for: {what}");
        sleep(Duration::from_millis(50));
    }
}

fn inside(hypervisor: &Hypervisor, id: u32, command: &str) -> Option<String> {
    let leader = hypervisor.view(id).leader?.to_string();
    let output =
        output(&["nsenter", "-t", &leader, "-a", "sh", "-c", command]).expect("nsenter can be started");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn up(hypervisor: &Hypervisor, id: u32) {
    let question = "systemctl is-active multi-user.target && ip -4 -o address show scope global";
    wait("the guest is up with both addresses", || {
        inside(hypervisor, id, question).is_some_and(|said| said.matches("inet").count() == 2)
    });
}

fn stopped(stops: &Receiver<(u32, Stopped)>) -> (u32, Stopped) {
    stops.recv_timeout(Duration::from_secs(60)).expect("a guest stops within a minute")
}

#[test]
#[ignore = "needs root"]
fn machines_live_and_die_as_virtual_machines_do() {
    host::check().unwrap();
    let lock = host::lock().unwrap();
    assert!(host::lock().is_err(), "a second lab started");
    host::sweep().unwrap();
    base::mount_disks().unwrap();
    let image = Image { lower: base::ensure(&|line| println!("{line}")).unwrap().display().to_string() };
    network::lay().unwrap();
    let (hypervisor, stops) = Hypervisor::new(image);
    for id in [11, 12] {
        hypervisor.order(id, Order::PowerOn { context: disc(id), fresh: true }).unwrap();
    }
    up(&hypervisor, 11);
    up(&hypervisor, 12);

    // The wires: guest to guest on both networks, the client, and the cloud's link-local address.
    for address in ["10.77.0.12", "172.27.0.12", "10.77.0.250", "169.254.16.9"] {
        let ping = format!("ping -c 1 -W 2 {address}");
        assert!(inside(&hypervisor, 11, &ping).is_some(), "no way to {address}");
    }
    // The context, by its label.
    let label = inside(&hypervisor, 11, "blkid -o value -s LABEL /dev/disk/by-label/CONTEXT");
    assert_eq!(label.as_deref(), Some("CONTEXT\n"));
    let address = inside(&hypervisor, 11, "grep -a -o \"^ETH1_IP='[0-9.]*'\" /dev/sr0");
    assert_eq!(address.as_deref(), Some("ETH1_IP='172.27.0.11'\n"));

    // The disk survives a power loss, and so does the context; the wires are dead meanwhile.
    inside(&hypervisor, 11, "echo kept >/root/mark && sync").unwrap();
    hypervisor.order(11, Order::PowerLoss).unwrap();
    wait("the machine is off", || hypervisor.view(11).leader.is_none());
    assert!(inside(&hypervisor, 12, "ping -c 1 -W 1 172.27.0.11").is_none());
    hypervisor.order(11, Order::PowerReturn).unwrap();
    up(&hypervisor, 11);
    assert_eq!(inside(&hypervisor, 11, "cat /root/mark").as_deref(), Some("kept\n"));
    assert_eq!(inside(&hypervisor, 11, "journalctl --list-boots -q | wc -l").as_deref(), Some("2\n"));

    // A guest that reboots comes back by itself; one that powers off, or is asked to, stays off and is told.
    let before = hypervisor.view(11).powered_at;
    run(&["nsenter", "-t", &hypervisor.view(11).leader.unwrap().to_string(), "-a", "systemctl", "reboot"])
        .unwrap();
    wait("it rebooted", || hypervisor.view(11).powered_at > before);
    up(&hypervisor, 11);
    hypervisor.order(11, Order::PressPowerButton).unwrap();
    assert_eq!(stopped(&stops), (11, Stopped::PoweredOff));
    inside(&hypervisor, 12, "systemctl poweroff").unwrap();
    assert_eq!(stopped(&stops), (12, Stopped::PoweredOff));

    // A fresh disk is empty, and nothing of anything stays.
    hypervisor.order(11, Order::PowerOn { context: disc(11), fresh: true }).unwrap();
    up(&hypervisor, 11);
    assert_eq!(inside(&hypervisor, 11, "test ! -e /root/mark && echo gone").as_deref(), Some("gone\n"));
    assert_eq!(hypervisor.view(11).fault, None);
    hypervisor.shut();
    host::sweep().unwrap();
    let run_directory = format!("{}/", host::run_directory().display());
    assert!(!run(&["ip", "netns", "list"]).unwrap().contains(&host::namespace("")));
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&run_directory));
    assert!(!run(&["losetup", "--list"]).unwrap().contains(&run_directory));
    drop(lock);
}
