//! HAProxy's own view of its servers, from its statistics socket.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::facts::{HaproxyStats, Observed};

/// Where Debian's and our own configuration put it.
pub const SOCKET: &str = "/run/haproxy/admin.sock";
/// HAProxy answers in a millisecond; one that does not is stuck.
const LIMIT: Duration = Duration::from_secs(2);
/// A server is a line of about 400 bytes: room for ten thousand.
const LARGEST: u64 = 4 << 20;
/// All proxies (-1), servers only (4), all of them (-1): HAProxy's management guide, "show stat".
const QUESTION: &[u8] = b"show stat -1 4 -1\n";

/// Asks for every server's state. Absent: HAProxy does not run.
pub async fn read(socket: &Path) -> Observed<HaproxyStats> {
    let answer = match tokio::time::timeout(LIMIT, ask(socket)).await {
        Ok(answer) => answer,
        Err(_) => return Observed::Unknown(format!("HAProxy did not answer within {} s", LIMIT.as_secs())),
    };
    match answer {
        Ok(csv) => parse(&csv).map_or_else(Observed::Unknown, Observed::Known),
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

/// Reads the statistics by the names in their head line, as columns are added by newer versions.
fn parse(csv: &str) -> Result<HaproxyStats, String> {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |name: &str| {
        head.iter()
            .position(|column| *column == name)
            .ok_or_else(|| format!("HAProxy's statistics have no column {name}"))
    };
    let (proxy, server, status) = (column("pxname")?, column("svname")?, column("status")?);
    let mut servers = BTreeMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let (Some(proxy), Some(server), Some(status)) =
            (fields.get(proxy), fields.get(server), fields.get(status))
        else {
            return Err("HAProxy's statistics end within a line".into());
        };
        servers.insert(format!("{proxy}/{server}"), is_up(status));
    }
    Ok(HaproxyStats { servers })
}

/// `UP`, `UP 1/3` (on its way down) and `no check` get connections; `DOWN 1/2` (on its way up), `MAINT`, `DRAIN` and
/// `NOLB` get none.
fn is_up(status: &str) -> bool {
    status == "UP" || status.starts_with("UP ") || status == "no check"
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "# pxname,svname,qcur,status,weight,\n\
        lb0,master-1,0,UP,1,\nlb0,master-2,0,DOWN 1/2,1,\nlb1,a,0,UP 1/3,1,\nlb1,b,0,MAINT,1,\nlb2,c,0,no check,1,\n\n";

    #[test]
    fn servers_by_backend_and_name() {
        let up: Vec<_> = parse(CSV).unwrap().servers.into_iter().collect();
        let expected = [("lb0/master-1", true), ("lb0/master-2", false), ("lb1/a", true), ("lb1/b", false)];
        let expected = expected.into_iter().chain([("lb2/c", true)]);
        assert_eq!(up, expected.map(|(name, up)| (name.to_owned(), up)).collect::<Vec<_>>());
    }

    #[test]
    fn half_an_answer_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("Unknown command\n").is_err());
        assert!(parse(&CSV[..CSV.find("DOWN").unwrap() - 3]).is_err());
    }

    #[tokio::test]
    async fn no_socket_and_a_dead_one_are_absent() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        assert!(read(&path).await.is_absent());
        drop(tokio::net::UnixListener::bind(&path).unwrap());
        assert!(read(&path).await.is_absent());
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
            stream.write_all(CSV.as_bytes()).await.unwrap();
        };
        let (stats, ()) = tokio::join!(read(&path), server);
        assert_eq!(stats.known().unwrap().servers.len(), 5);
    }
}
