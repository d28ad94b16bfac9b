//! Connections: accepted within bounds, each with its caller.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::authority::Mended;
use crate::caller::Caller;
use crate::looks;
use crate::seats::{Guest, Held, Party};
use crate::served::Served;

/// How long a stranger has its seat, time enough to be told that it has no identity; and how long the first look at
/// anybody else may take.
pub(crate) const BRIEF: Duration = Duration::from_secs(5);
/// After the system refused to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where connections come in. Nothing here waits for anything but the next of them.
pub(crate) struct Door {
    listener: UnixListener,
    held: Arc<Held>,
    served: watch::Receiver<Arc<Served>>,
    /// The first look at a caller; tests have their own.
    look: fn(&Caller),
}

impl Door {
    pub(crate) fn new(listener: UnixListener, held: Arc<Held>, served: watch::Receiver<Arc<Served>>) -> Self {
        Self { listener, held, served, look: Caller::look }
    }

    /// The next connection within bounds; those beyond are closed at once.
    pub(crate) async fn accept(&self) -> Connection {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(why) => {
                    // Out of file descriptors, as a rule: others give some back.
                    tracing::warn!(%why, "the Workload API cannot accept a connection");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let caller = match Caller::of(&stream) {
                Ok(caller) => caller,
                Err(why) => {
                    tracing::warn!(%why, "a caller of the Workload API cannot be known");
                    continue;
                }
            };
            let party = Party::of(caller.uid(), caller.gid(), &self.served.borrow().entries);
            match self.held.take(party) {
                Some(seat) => return self.seated(stream, Guest { caller, seat }),
                // As many as they like; nobody has to act.
                None if party == Party::Strangers => {
                    tracing::debug!(uid = caller.uid(), "too many callers of the Workload API without an entry");
                }
                None => {
                    let (uid, pid) = (caller.uid(), caller.pid());
                    tracing::warn!(uid, pid, ?party, "too many connections to the Workload API");
                }
            }
        }
    }

    fn seated(&self, stream: UnixStream, guest: Guest) -> Connection {
        let guest = Arc::new(guest);
        // At once, and not when the connection is read first: the less time to become another program.
        let look = (!guest.seat.is_strangers()).then(|| tokio::spawn(looks::first(guest.clone(), self.look)));
        let brief = Some(Brief { look: look.map(Look), until: Box::pin(sleep(BRIEF)) });
        Connection { stream, guest, mended: Mended::default(), brief }
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: UnixStream,
    guest: Arc<Guest>,
    mended: Mended,
    brief: Option<Brief>,
}

/// What holds until the caller was looked at: nothing is read, and time is short. A stranger is never looked at; it is read,
/// and time stays short.
struct Brief {
    look: Option<Look>,
    until: Pin<Box<Sleep>>,
}

/// Ends its waiting for a turn with the connection.
struct Look(JoinHandle<()>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Whether time is over.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let late = self.brief.as_mut().is_some_and(|brief| brief.until.as_mut().poll(cx).is_ready());
        let why = "the caller has no identity here, or was not looked at in time";
        if late { Err(Error::new(ErrorKind::TimedOut, why)) } else { Ok(()) }
    }

    /// Whether bytes may be read.
    fn poll_seen(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(Look(look)) = self.brief.as_mut().and_then(|brief| brief.look.as_mut())
            && let Poll::Ready(looked) = Pin::new(look).poll(cx)
        {
            self.brief = None;
            return Poll::Ready(looked.map_err(Error::other));
        }
        self.poll_overdue(cx)?;
        match &self.brief {
            Some(Brief { look: Some(_), .. }) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Guest>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.guest.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        ready!(self.poll_seen(cx))?;
        let Self { stream, mended, .. } = &mut *self;
        while mended.ready.is_empty() {
            let mut space = [0; 4096];
            let mut came = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            mended.take(came.filled());
        }
        let now = mended.ready.len().min(buf.remaining());
        buf.put_slice(mended.ready.get(..now).unwrap_or_default());
        mended.ready.drain(..now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_overdue(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_overdue(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::entry::{Entry, Selectors};

    const SOON: Duration = Duration::from_secs(2);

    static FIRST_LOOK: AtomicBool = AtomicBool::new(true);
    static HANGS: AtomicBool = AtomicBool::new(true);

    /// The runtime waits for its threads at the end of the test, whatever that is.
    struct Calm;

    impl Drop for Calm {
        fn drop(&mut self) {
            HANGS.store(false, Ordering::SeqCst);
        }
    }

    /// A file system that does not answer the first who asks.
    fn hangs(caller: &Caller) {
        if FIRST_LOOK.swap(false, Ordering::SeqCst) {
            // Not for ever, so that a door that waits for it fails the test.
            for _ in 0..2_000 {
                if HANGS.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        caller.look();
    }

    #[tokio::test]
    async fn a_look_that_hangs_keeps_nobody_else_at_the_door_and_its_caller_unread() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let entry = Entry {
            spiffe_id: cauldron_identity::SpiffeId::new("spiffe://acme.test/a").expect("a SPIFFE ID"),
            hint: String::new(),
            selectors: Selectors { uid: Some(rustix::process::geteuid().as_raw()), ..Selectors::default() },
        };
        let served = Served { entries: vec![entry], ..Served::default() };
        let (_sender, served) = watch::channel(Arc::new(served));
        let held = Arc::new(Held::default());
        let listener = UnixListener::bind(&path).expect("bound");
        let door = Door { look: hangs, ..Door::new(listener, held.clone(), served) };
        let calm = Calm;
        // As long as HTTP/2's preface, of which nothing is held back.
        let (hello, mut read) = ([b'P'; 24], [0; 24]);

        let mut first = UnixStream::connect(&path).await.expect("connected");
        first.write_all(&hello).await.expect("written");
        let mut slow = timeout(SOON, door.accept()).await.expect("the door does not wait for looks");
        while FIRST_LOOK.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let mut second = UnixStream::connect(&path).await.expect("connected");
        second.write_all(&hello).await.expect("written");
        let mut quick = timeout(SOON, door.accept()).await.expect("nor for the first caller");
        timeout(SOON, quick.read_exact(&mut read)).await.expect("the second is read").expect("read");
        assert!(slow.guest.caller.attest(None, std::time::Instant::now()).is_err(), "nobody knows what it runs");
        assert!(timeout(SOON, slow.read(&mut read)).await.is_err(), "not before it was looked at");
        let late = timeout(BRIEF, slow.read(&mut read)).await.expect("time is over");
        assert_eq!(late.expect_err("refused").kind(), ErrorKind::TimedOut);
        drop((slow, quick));
        assert_eq!(held.connections(), 1, "its thread keeps the seat");

        drop(calm);
        while held.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut third = UnixStream::connect(&path).await.expect("connected");
        third.write_all(&hello).await.expect("written");
        let mut seen = door.accept().await;
        timeout(SOON, seen.read_exact(&mut read)).await.expect("looked at").expect("read");
        seen.guest.caller.attest(None, std::time::Instant::now()).expect("attested");
    }
}
