//! A server on 127.0.0.1 that answers with scripted bytes, one reply a request, and remembers what it was asked.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::captures::Response;

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Send these bytes and keep the connection.
    Send(Vec<u8>),
    /// Send these bytes and close it.
    SendAndClose(Vec<u8>),
    /// Send these bytes, then nothing more, for ever.
    SendAndStall(Vec<u8>),
    /// Do as the other says, but only once this is notified.
    After(Arc<Notify>, Box<Reply>),
}

impl Reply {
    /// The recorded response, byte for byte.
    pub fn recorded(response: &Response) -> Self {
        let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason);
        for (name, value) in &response.headers {
            head += &format!("{name}: {value}\r\n");
        }
        Self::Send([head.as_bytes(), b"\r\n", response.body.as_bytes()].concat())
    }

    /// A plain response.
    pub fn new(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::Send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET /vm HTTP/1.1`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    asked: Vec<Asked>,
    connections: usize,
}

/// The server; it serves until the runtime ends. When the script ends, it closes connections.
#[derive(Clone)]
pub struct Server {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

/// Turns an accepted connection into what HTTP is spoken over: itself, or TLS on it.
pub trait Accept<S>: Clone + Send + 'static {
    /// Accepts it.
    fn accept(&self, stream: TcpStream) -> impl Future<Output = io::Result<S>> + Send;
}

/// No TLS.
#[derive(Clone)]
pub struct Plain;

impl Accept<TcpStream> for Plain {
    async fn accept(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

impl Server {
    /// Serves plain HTTP.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, Plain).await
    }

    /// Serves over what `accept` makes of a connection.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start_with<S>(script: impl IntoIterator<Item = Reply>, accept: impl Accept<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), ..State::default() }));
        let server = Self { address, state };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (own, accept) = (own.clone(), accept.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = accept.accept(stream).await {
                        own.lock().connections += 1;
                        own.serve(stream).await
                    } else {
                        Ok(()) // The client did not like our certificate.
                    }
                });
            }
        });
        server
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// How many connections came so far, not counting those that were given up during TLS.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Adds to the script.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().script.extend(replies);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        while let Some(asked) = request(&mut stream).await? {
            let mut reply = {
                let mut state = self.lock();
                state.asked.push(asked);
                state.script.pop_front()
            };
            while let Some(Reply::After(sign, then)) = reply {
                sign.notified().await;
                reply = Some(*then);
            }
            match reply {
                Some(Reply::Send(bytes)) => stream.write_all(&bytes).await?,
                Some(Reply::SendAndClose(bytes)) => {
                    stream.write_all(&bytes).await?;
                    break;
                }
                Some(Reply::SendAndStall(bytes)) => {
                    stream.write_all(&bytes).await?;
                    std::future::pending::<()>().await;
                }
                Some(Reply::After(..)) | None => break,
            }
        }
        stream.shutdown().await
    }
}

/// Reads one request; `None` if the client has closed the connection.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Asked>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let mut asked = Asked { line, headers: lines.filter_map(header).collect(), body: String::new() };
    let length = asked.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(asked))
}
