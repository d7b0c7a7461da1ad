//! A door to the engine that a test opens and closes: an engine that goes away and comes back, for one Portolan alone.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::engine::{Engine, Stream};

/// See the module's head.
pub(crate) struct Gate {
    dir: TempDir,
    open: Option<Open>,
}

/// Connections are let through.
struct Open {
    closes: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<Stream>>>,
    porter: JoinHandle<()>,
}

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), open: None }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// What to follow.
    pub(crate) fn uri(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    /// Accepts so many connections and closes them at once; then there is nothing again.
    pub(crate) fn slam(&self, count: usize) {
        let listener = UnixListener::bind(self.path()).unwrap();
        (0..count).for_each(|_| drop(listener.accept().unwrap()));
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Lets everybody through to `engine`.
    pub(crate) fn open(&mut self, engine: &Engine) {
        let listener = UnixListener::bind(self.path()).unwrap();
        let (closes, streams) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Stream>>>::default());
        let engine = engine.clone();
        let (told, kept) = (Arc::clone(&closes), Arc::clone(&streams));
        let porter = thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let (near, far) = (Stream::Unix(client), engine.connect().unwrap());
                kept.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                carry(near.try_clone().unwrap(), far.try_clone().unwrap());
                carry(far, near);
            }
        });
        self.open = Some(Open { closes, streams, porter });
    }

    /// Cuts every connection, and is gone.
    pub(crate) fn close(&mut self) {
        let Some(Open { closes, streams, porter }) = self.open.take() else { return };
        closes.store(true, Ordering::Relaxed);
        // The next to connect sends the porter home: us, unless somebody was faster.
        let _ = UnixStream::connect(self.path());
        porter.join().unwrap();
        std::fs::remove_file(self.path()).unwrap();
        streams.lock().unwrap().iter().for_each(Stream::shutdown);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

/// Carries bytes one way, until either side ends.
fn carry(mut from: Stream, mut to: Stream) {
    thread::spawn(move || {
        // However it ends, both sides learn of it.
        let _ = io::copy(&mut from, &mut to);
        from.shutdown();
        to.shutdown();
    });
}
