//! The running HAProxy on its statistics socket: what it shows, and changes of its servers.
//!
//! The commands are those of its management guide ("Unix Socket commands"), as version 2.6 and later have them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::command;
use crate::facts::{HaproxyServer, HaproxyStats, Observed, ServerState};
use crate::plan::{ServerChange, To};

/// Where our own configuration puts it, and Debian's.
pub const SOCKET: &str = "/run/haproxy/admin.sock";
/// HAProxy answers in a millisecond; one that does not is stuck.
const LIMIT: Duration = Duration::from_secs(2);
/// A server is a line of about 400 bytes: room for ten thousand.
const LARGEST: u64 = 4 << 20;
/// All proxies (-1), servers only (4), all of them (-1), after what HAProxy says of itself.
const QUESTION: &[u8] = b"show info;show stat -1 4 -1\n";
/// So many changes go over one connection: about three commands of half a millisecond each.
const BATCH: usize = 500;
/// A batch takes a quarter of a second; ten times as long on a machine that is busy.
const BATCH_LIMIT: Duration = Duration::from_secs(3);
/// A reload takes a tenth of a second, and this on a machine that is busy.
const RELOADING: Duration = Duration::from_secs(3);
/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// Asks for every server's state. Absent: HAProxy does not run.
pub async fn read(socket: &Path) -> Observed<HaproxyStats> {
    let answer = match timeout(LIMIT, ask(socket)).await {
        Ok(answer) => answer,
        Err(_) => return Observed::Unknown(format!("HAProxy did not answer within {} s", LIMIT.as_secs())),
    };
    match answer {
        Ok(text) => parse(&text).map_or_else(Observed::Unknown, Observed::Known),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Observed::Absent
        }
        Err(error) => Observed::Unknown(format!("could not ask HAProxy at {}: {error}", socket.display())),
    }
}

async fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(QUESTION).await?;
    let mut answer = String::new();
    stream.take(LARGEST).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// `name: value` lines, an empty line, then a table that is read by the names in its head line, as newer versions add
/// columns.
fn parse(text: &str) -> Result<HaproxyStats, String> {
    let Some((info, table)) = text.split_once("# ") else { return Err("HAProxy shows no statistics".into()) };
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        head.iter()
            .position(|column| *column == name)
            .ok_or_else(|| format!("HAProxy's statistics have no column {name}"))
    };
    let columns = ["pxname", "svname", "status", "uweight", "slim", "scur", "qcur"];
    let [proxy, name, status, weight, limit, current, queued] = columns.map(column);
    let at = [proxy?, name?, status?, weight?, limit?, current?, queued?];
    let mut servers = BTreeMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() < head.len() {
            return Err("HAProxy's statistics end within a line".into());
        }
        let [proxy, name, status, weight, limit, current, queued] = at.map(|at| fields[at]);
        let number = |text: &str| -> Result<u32, String> {
            // A limit that is not set is shown as nothing.
            let digits = if text.is_empty() { "0" } else { text };
            digits.parse().map_err(|_| format!("HAProxy's statistics have {text:?} where a number belongs"))
        };
        let server = HaproxyServer {
            state: state(status),
            weight: u16::try_from(number(weight)?).unwrap_or(u16::MAX),
            limit: number(limit)?,
            connections: number(current)?.saturating_add(number(queued)?),
        };
        servers.insert(format!("{proxy}/{name}"), server);
    }
    let loaded = info.lines().find_map(|line| line.strip_prefix("description: ")).map(str::to_owned);
    Ok(HaproxyStats { loaded, servers })
}

/// `UP 1/3` is on its way down and `DOWN 1/2` on its way up; a server without a share that is `UP` shows `DRAIN`;
/// `NOLB` still serves whom it knows.
fn state(status: &str) -> ServerState {
    match status.split(' ').next() {
        Some("UP" | "DRAIN" | "NOLB" | "no") => ServerState::Up,
        Some("MAINT") => ServerState::Maintenance,
        _ => ServerState::Down,
    }
}

/// Makes the changes, in order.
///
/// # Errors
/// What HAProxy refused first, in its own words, or that it did not answer. The changes before it were made, some after
/// it perhaps, too.
pub async fn change(socket: &Path, changes: &[ServerChange]) -> anyhow::Result<()> {
    for batch in changes.chunks(BATCH) {
        let commands: Vec<String> = batch.iter().flat_map(commands).collect();
        let answers = timeout(BATCH_LIMIT, converse(socket, &commands))
            .await
            .with_context(|| format!("HAProxy did not answer within {} s", BATCH_LIMIT.as_secs()))?
            .with_context(|| format!("could not tell HAProxy at {}", socket.display()))?;
        if answers.len() < commands.len() {
            bail!("HAProxy answered {} of {} commands", answers.len(), commands.len());
        }
        for (command, answer) in commands.iter().zip(&answers) {
            if !is_done(command, answer) {
                bail!("HAProxy answered {answer:?} to {command:?}");
            }
        }
    }
    Ok(())
}

/// The health check is enabled before the server is, so that one in use is a checked one.
fn commands(change: &ServerChange) -> Vec<String> {
    let server = &change.server;
    let used = |checked: bool| {
        let health = checked.then(|| format!("enable health {server}"));
        health.into_iter().chain([format!("enable server {server}")])
    };
    match &change.to {
        To::Added { words, weight, limit, checked } => {
            let limit = if *limit > 0 { format!(" maxconn {limit}") } else { String::new() };
            let add = format!("add server {server} {words} weight {weight}{limit}");
            [add].into_iter().chain(used(*checked)).collect()
        }
        To::Used { checked } => used(*checked).collect(),
        To::Weight(weight) => vec![format!("set server {server} weight {weight}")],
        To::Limit(limit) => vec![format!("set maxconn server {server} {limit}")],
        To::Removed => vec![format!("set server {server} state maint"), format!("del server {server}")],
    }
}

/// Silence is success; so is what was so already, and a connection that outlived its server's last look: the next pass
/// sees it.
fn is_done(command: &str, answer: &str) -> bool {
    match command.split(' ').next() {
        Some("add") => answer.starts_with("New server registered") || answer.starts_with("Already exists"),
        Some("del") => {
            ["Server deleted", "Server still has connections"].iter().any(|done| answer.starts_with(done))
        }
        _ => answer.is_empty(),
    }
}

/// One connection, many commands: after `prompt` HAProxy ends each answer with a prompt and goes on listening.
async fn converse(socket: &Path, commands: &[String]) -> std::io::Result<Vec<String>> {
    let (mut answers, mut questions) = UnixStream::connect(socket).await?.into_split();
    let text = format!("prompt\n{}\nquit\n", commands.join("\n"));
    let mut said = String::new();
    let mut answers = (&mut answers).take(LARGEST);
    let (asked, read) = tokio::join!(questions.write_all(text.as_bytes()), answers.read_to_string(&mut said));
    asked?;
    read?;
    // The first prompt answers the command that asks for it; what follows the last belongs to nobody.
    let mut answers: Vec<String> =
        said.split("\n> ").skip(1).map(|answer| answer.trim().to_owned()).collect();
    answers.pop();
    Ok(answers)
}

/// Waits until the configuration with this description runs: systemd knows only that HAProxy was told to reload.
///
/// # Errors
/// If another one still runs: then HAProxy refused the new one, and what it complained of.
pub async fn took(socket: &Path, unit: &str, description: &str) -> anyhow::Result<()> {
    let end = Instant::now() + RELOADING;
    while Instant::now() < end {
        if let Observed::Known(stats) = read(socket).await
            && stats.loaded.as_deref() == Some(description)
        {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    bail!("HAProxy goes on with its earlier configuration: {}", complaints(unit).await)
}

/// What it complained of last, from the journal.
pub async fn complaints(unit: &str) -> String {
    let arguments = ["-u", unit, "-n", "40", "-o", "cat", "--no-pager", "--since", "-15s"];
    let said = command::run("journalctl", arguments, LIMIT).await.map(|outcome| outcome.said);
    let said = said.unwrap_or_default(); // without a journal its name must do
    let alerts: Vec<&str> =
        said.lines().filter_map(|line| Some(line.split_once("[ALERT]")?.1.trim())).collect();
    alerts.first().map_or_else(|| format!("see journalctl -u {unit}"), |alert| (*alert).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str =
        "Name: HAProxy\nVersion: 2.6.12\nnode: vm\ndescription: 0123456789abcdef\nStopping: 0\n\n";
    const CSV: &str = "# pxname,svname,qcur,scur,slim,status,weight,uweight,\n\
        lb0,vm1,0,0,,UP,1,1,\nlb0,vm2,0,0,,DOWN 1/2,1,1,\nlb1,a,2,5,7,UP 1/3,1,20,\nlb1,b,0,0,,MAINT,1,1,\n\
        lb1,d,0,0,,DRAIN,0,0,\nlb2,c,0,0,,no check,1,1,\n\n";

    #[test]
    fn servers_by_backend_and_name() {
        use ServerState::{Down, Maintenance, Up};
        let stats = parse(&format!("{INFO}{CSV}")).unwrap();
        assert_eq!(stats.loaded.as_deref(), Some("0123456789abcdef"));
        let states: Vec<_> =
            stats.servers.iter().map(|(name, server)| (name.as_str(), server.state)).collect();
        let expected = [
            ("lb0/vm1", Up),
            ("lb0/vm2", Down),
            ("lb1/a", Up),
            ("lb1/b", Maintenance),
            ("lb1/d", Up),
            ("lb2/c", Up),
        ];
        assert_eq!(states, expected);
        let busy = HaproxyServer { state: Up, weight: 20, limit: 7, connections: 7 };
        assert_eq!(stats.servers["lb1/a"], busy);
    }

    #[test]
    fn half_an_answer_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("Unknown command\n").is_err());
        assert!(parse(INFO).is_err());
        assert!(parse(&CSV[..CSV.find("DOWN").unwrap() - 3]).is_err());
        assert!(parse(&CSV.replace("uweight", "other")).is_err());
    }

    #[tokio::test]
    async fn no_socket_and_a_dead_one_are_absent() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        assert!(read(&path).await.is_absent());
        drop(tokio::net::UnixListener::bind(&path).unwrap());
        assert!(read(&path).await.is_absent());
        let change_ = ServerChange { server: "lb1/vm7_10.0.0.7_6443".into(), to: To::Weight(0) };
        assert!(change(&path, &[change_]).await.is_err());
    }

    #[tokio::test]
    async fn asks_over_the_socket() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; QUESTION.len()];
            stream.read_exact(&mut question).await.unwrap();
            assert_eq!(question, QUESTION);
            stream.write_all(format!("{INFO}{CSV}").as_bytes()).await.unwrap();
        };
        let (stats, ()) = tokio::join!(read(&path), server);
        assert_eq!(stats.known().unwrap().servers.len(), 6);
    }

    /// Answers as recorded from HAProxy 2.6.12, to the changes and the prompt.
    async fn told(to: To, answers: &str) -> (String, anyhow::Result<()>) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            while !asked.ends_with("quit\n") {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).await.unwrap();
                asked.push_str(std::str::from_utf8(&some[..read]).unwrap());
            }
            stream.write_all(answers.as_bytes()).await.unwrap();
            asked
        };
        let changes = [ServerChange { server: "lb1/vm7_10.0.0.7_6443".into(), to }];
        let (outcome, asked) = tokio::join!(change(&path, &changes), server);
        (asked, outcome)
    }

    #[tokio::test]
    async fn a_server_is_checked_before_it_is_used() {
        let words = "10.0.0.7:6443 check inter 2s".to_owned();
        let added = To::Added { words, weight: 10, limit: 5, checked: true };
        let (asked, outcome) = told(added.clone(), "\n> New server registered.\n\n> \n> \n> ").await;
        let expected = "prompt\nadd server lb1/vm7_10.0.0.7_6443 10.0.0.7:6443 check inter 2s weight 10 maxconn 5\n\
            enable health lb1/vm7_10.0.0.7_6443\nenable server lb1/vm7_10.0.0.7_6443\nquit\n";
        assert_eq!(asked, expected);
        outcome.unwrap();
        let there = "\n> Already exists a server with the same name in backend.\n\n> \n> \n> ";
        told(added.clone(), there).await.1.unwrap();
        let error = told(added.clone(), "\n> No such backend.\n\n> \n> \n> ").await.1.unwrap_err();
        assert!(error.to_string().contains("No such backend."), "{error}");
        let error = told(added, "\n> New server registered.\n\n> ").await.1.unwrap_err();
        assert_eq!(error.to_string(), "HAProxy answered 1 of 3 commands");
    }

    #[tokio::test]
    async fn a_last_connection_is_no_failure() {
        for answer in ["Server deleted.", "Server still has connections attached to it, cannot remove it."] {
            told(To::Removed, &format!("\n> \n> {answer}\n\n> ")).await.1.unwrap();
        }
        let answer = "Only servers in maintenance mode can be deleted.";
        assert!(told(To::Removed, &format!("\n> \n> {answer}\n\n> ")).await.1.is_err());
        assert!(told(To::Limit(5), "\n> Require 'maxconn server <server>'.\n\n> ").await.1.is_err());
    }
}
