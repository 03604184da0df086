//! systemd's signals: a unit changed, a job ended.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zbus_systemd::zbus;
use zbus_systemd::zbus::export::futures_core::Stream;
use zbus_systemd::zbus::{MatchRule, Message, MessageStream, OwnedObjectPath};

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Wakes the loop when a watched unit changes. One match per unit: the bus filters, because on a Kubernetes node every
/// pod brings units of its own.
pub struct Watches {
    wake: Arc<Notify>,
    tasks: BTreeMap<String, JoinHandle<()>>,
}

impl Watches {
    /// No unit is watched yet.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, tasks: BTreeMap::new() }
    }

    /// Watches the unit at `path` from now on; watching it already is success.
    ///
    /// # Errors
    /// If the bus refuses.
    pub async fn watch(&mut self, connection: &zbus::Connection, unit: &str, path: &str) -> zbus::Result<()> {
        if self.tasks.contains_key(unit) {
            return Ok(());
        }
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .path(path.to_owned())
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .build()?;
        let stream = MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(8)).await?;
        let task = tokio::spawn(forward(stream, Arc::clone(&self.wake)));
        self.tasks.insert(unit.to_owned(), task);
        Ok(())
    }

    /// Ends the watches of all other units.
    pub fn keep_only(&mut self, units: &[String]) {
        self.tasks.retain(|unit, task| {
            let kept = units.contains(unit);
            if !kept {
                task.abort();
            }
            kept
        });
    }

    /// Ends all watches: their connection broke.
    pub fn forget(&mut self) {
        self.keep_only(&[]);
    }
}

async fn forward(mut stream: MessageStream, wake: Arc<Notify>) {
    while next(&mut stream).await.is_some_and(|message| message.is_ok()) {
        wake.notify_one();
    }
    // The connection is gone: the next pass makes a new one.
    wake.notify_one();
}

async fn next(stream: &mut MessageStream) -> Option<zbus::Result<Message>> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// Hears how jobs end.
pub struct JobsEnded(MessageStream);

impl JobsEnded {
    /// Listens from now on: to be called before the job is queued.
    ///
    /// # Errors
    /// If the bus refuses.
    pub async fn listen(connection: &zbus::Connection) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .interface("org.freedesktop.systemd1.Manager")
            .member("JobRemoved")
            .build()?;
        Ok(Self(MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(64)).await?))
    }

    /// Waits for the end of the job; `done` is success, other words are systemd's.
    ///
    /// # Errors
    /// If the connection breaks first.
    pub async fn result_of(&mut self, job: &str) -> anyhow::Result<String> {
        loop {
            let message = next(&mut self.0).await.context("the connection to D-Bus broke")??;
            let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
                message.body().deserialize()?;
            if path.as_str() == job {
                return Ok(result);
            }
        }
    }
}
