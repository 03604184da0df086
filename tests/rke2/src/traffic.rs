//! How much a port is asked: what a measurement of many nodes looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One port's traffic since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    open: AtomicUsize,
    most: AtomicUsize,
}

/// A server's ports.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// 6443.
    pub api: Arc<Traffic>,
    /// 9345.
    pub supervisor: Arc<Traffic>,
}

/// A connection that is open until this is dropped.
pub struct Open(Arc<Traffic>);

impl Traffic {
    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that are open now, and the most that were at one time.
    pub fn connections(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }

    /// A request came.
    pub fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection came.
    pub fn open(self: &Arc<Self>) -> Open {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
