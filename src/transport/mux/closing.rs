//! Who waits on the streams of a connection. yamux wakes nobody when this end closes it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

/// Whether this end closes a connection, and whom to tell. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Closing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_closed: AtomicBool,
    waiting: Mutex<HashMap<u32, Arc<Wakers>>>,
}

#[derive(Debug, Default)]
struct Wakers {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Closing {
    /// Who waits on a stream.
    pub(super) fn waiter(&self, stream: u32) -> Waiter {
        let wakers = Arc::<Wakers>::default();
        self.waiting().insert(stream, Arc::clone(&wakers));
        Waiter { closing: self.clone(), stream, wakers }
    }

    /// Tells everybody.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        // Waking may drop streams.
        let waiting: Vec<_> = self.waiting().values().cloned().collect();
        for wakers in waiting {
            wakers.reader.wake();
            wakers.writer.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, Arc<Wakers>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who reads from a stream, and who writes to it.
#[derive(Debug)]
pub(super) struct Waiter {
    closing: Closing,
    stream: u32,
    wakers: Arc<Wakers>,
}

impl Waiter {
    /// What yamux says to a reader, unless he would wait for what does not come any more.
    pub(super) fn reads<T>(&self, result: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.unless_closing(result, &self.wakers.reader, cx)
    }

    /// What yamux says to a writer.
    pub(super) fn writes<T>(&self, result: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.unless_closing(result, &self.wakers.writer, cx)
    }

    fn unless_closing<T>(
        &self,
        result: Poll<io::Result<T>>,
        waker: &AtomicWaker,
        cx: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            waker.register(cx.waker());
            // Who closes it says so before he wakes anybody.
            if self.closing.0.is_closed.load(Ordering::SeqCst) {
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, "this end closed it");
                return Poll::Ready(Err(error));
            }
        }
        result
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.closing.waiting();
        // The number may be that of another stream by now.
        if waiting.get(&self.stream).is_some_and(|wakers| Arc::ptr_eq(wakers, &self.wakers)) {
            waiting.remove(&self.stream);
        }
    }
}
