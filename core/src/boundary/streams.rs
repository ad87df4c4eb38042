//! Streams as languages hold them whose objects are shared: calls take their turns in the order in
//! which they were made, and giving a direction up cuts off the call under way in it.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::{
    deadline::within,
    error::{Error, Result},
    transport::{ReceiveHalf, SendHalf, Stream, check_code},
};

/// A stream that any number of holders share; when the last one goes, what is unfinished is given
/// up, as in Rust. The futures of its calls keep it as well.
#[derive(Clone)]
pub struct SharedStream(Arc<Shared>);

struct Shared {
    peer: String,
    topic: String,
    send: Arc<Lane<SendHalf>>,
    receive: Arc<Lane<ReceiveHalf>>,
    /// What was read and found nobody to take it: the next read has it.
    returned: Mutex<Option<Bytes>>,
    sent: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for SharedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream")
            .field("peer", &self.0.peer)
            .field("topic", &self.0.topic)
            .finish_non_exhaustive()
    }
}

impl SharedStream {
    /// Shares a stream.
    pub fn new(stream: Stream) -> Self {
        let (peer, topic) = (stream.peer().to_string(), stream.topic().to_owned());
        let sent = Box::new(stream.sent_counter());
        let (send, receive) = stream.split();
        let (send, receive) = (Lane::new(send), Lane::new(receive));
        Self(Arc::new(Shared { peer, topic, send, receive, returned: Mutex::default(), sent }))
    }

    /// Has another language handle a stream that a peer opened. It ends with its handler: what that
    /// leaves unfinished is given up, whoever still holds it.
    pub async fn serve<F>(
        stream: Stream,
        handle: impl FnOnce(SharedStream) -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>>,
    {
        let shared = Self::new(stream);
        let _closing = CloseOnDrop(shared.clone());
        handle(shared).await
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// What it is about.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// How many bytes were sent in all.
    pub fn sent(&self) -> u64 {
        (self.0.sent)()
    }

    /// See [`SendHalf::write`]. Its turn is taken by this call, not by the future, and the deadline
    /// covers the wait for it.
    pub fn write(
        &self,
        bytes: Bytes,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (shared, mut turn) = (self.0.clone(), self.0.send.turn());
        async move {
            let write =
                shared.send.call(&mut turn, Box::new(|half| Box::pin(half.write(bytes, None))));
            within(deadline, &shared.peer, write).await
        }
    }

    /// See [`SendHalf::finish`]; otherwise as for a write.
    pub fn finish(
        &self,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (shared, mut turn) = (self.0.clone(), self.0.send.turn());
        async move {
            let finish = shared.send.call(&mut turn, Box::new(|half| Box::pin(half.finish(None))));
            within(deadline, &shared.peer, finish).await
        }
    }

    /// See [`ReceiveHalf::read`]; otherwise as for a write. What is read is the reader's once it has
    /// taken it out of the [`Chunk`].
    pub fn read(
        &self,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Chunk>> + Send + use<> {
        let (shared, mut turn) = (self.0.clone(), self.0.receive.turn());
        async move {
            let next = shared.clone();
            let begin: Begin<ReceiveHalf, _> = Box::new(move |half| {
                Box::pin(async move {
                    let returned = next.returned.lock().take(); // unlocked before the wait
                    match returned {
                        Some(bytes) => Ok(Some(bytes)),
                        None => half.read(None).await,
                    }
                })
            });
            let read = shared.receive.call(&mut turn, begin);
            let bytes = within(deadline, &shared.peer, read).await?;
            Ok(Chunk { bytes, shared, _turn: turn })
        }
    }

    /// See [`SendHalf::reset`]. What was to be written before ends with [`Error::Cancelled`].
    pub fn reset(&self, code: u32) -> Result<()> {
        check_code(code)?;
        self.0.send.end(Over::GivenUp(code));
        Ok(())
    }

    /// See [`ReceiveHalf::stop`]. What was to be read before ends with [`Error::Cancelled`].
    pub fn stop(&self, code: u32) -> Result<()> {
        check_code(code)?;
        self.0.receive.end(Over::GivenUp(code));
        Ok(())
    }

    /// Gives up what is unfinished, as if the last holder had gone.
    pub fn close(&self) {
        self.0.send.end(Over::Closed);
        self.0.receive.end(Over::Closed);
    }
}

/// What a read came to, on its way to whoever reads in another language. If it is dropped on that way,
/// as when the call was cancelled, the next read has the bytes; until then that one waits its turn.
pub struct Chunk {
    bytes: Option<Bytes>,
    shared: Arc<Shared>,
    _turn: Turn<ReceiveHalf>,
}

impl Chunk {
    /// The bytes; nothing at the end of the stream.
    pub fn take(mut self) -> Option<Bytes> {
        self.bytes.take()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("bytes", &self.bytes.as_ref().map(Bytes::len)).finish()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            *self.shared.returned.lock() = Some(bytes); // before the turn goes to the next
        }
    }
}

struct CloseOnDrop(SharedStream);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One direction, used by one call at a time.
struct Lane<H> {
    /// None while a call has it, and once it is closed.
    half: Mutex<Option<H>>,
    line: Mutex<Line>,
    over: watch::Sender<Option<Over>>,
}

/// The calls that are under way and that wait, in the order in which they were made.
#[derive(Default)]
struct Line {
    /// The first was told that it is; the others have yet to be.
    calls: BTreeMap<u64, Option<oneshot::Sender<()>>>,
    made: u64,
}

/// Why a direction is used no more.
#[derive(Clone, Copy)]
enum Over {
    GivenUp(u32),
    Closed,
}

/// A call's place in line, until it is dropped.
struct Turn<H> {
    lane: Arc<Lane<H>>,
    number: u64,
    /// Becomes ready when all calls before are done or gone.
    first: oneshot::Receiver<()>,
    /// The direction was used no more when the call was made.
    was_over: bool,
}

impl<H> Drop for Turn<H> {
    fn drop(&mut self) {
        let mut line = self.lane.line.lock();
        line.calls.remove(&self.number);
        let tell = line.calls.first_entry().and_then(|mut first| first.get_mut().take());
        drop(line);
        if let Some(tell) = tell {
            let _ = tell.send(()); // it may be going as well
        }
    }
}

type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;
type Begin<H, T> = Box<dyn for<'a> FnOnce(&'a mut H) -> Work<'a, T> + Send>;

/// A direction that can be given up.
trait Half {
    fn give_up(&mut self, code: u32);
}

impl Half for SendHalf {
    fn give_up(&mut self, code: u32) {
        let _ = self.reset(code); // the code was checked
    }
}

impl Half for ReceiveHalf {
    fn give_up(&mut self, code: u32) {
        let _ = self.stop(code); // the code was checked
    }
}

impl<H: Half> Lane<H> {
    fn new(half: H) -> Arc<Self> {
        let (half, line) = (Mutex::new(Some(half)), Mutex::default());
        Arc::new(Self { half, line, over: watch::Sender::new(None) })
    }

    fn turn(self: &Arc<Self>) -> Turn<H> {
        let (tell, first) = oneshot::channel();
        let was_over = self.over.borrow().is_some();
        let mut line = self.line.lock();
        let number = line.made;
        line.made += 1;
        let mut tell = Some(tell);
        if line.calls.is_empty() {
            let _ = tell.take().map(|tell| tell.send(())); // `first` is here
        }
        line.calls.insert(number, tell);
        drop(line);
        Turn { lane: self.clone(), number, first, was_over }
    }

    async fn call<T>(&self, turn: &mut Turn<H>, begin: Begin<H, T>) -> Result<T> {
        let _ = (&mut turn.first).await; // who tells it goes only after that
        let mut over = self.over.subscribe();
        let before = *over.borrow_and_update();
        if before.is_some() && !turn.was_over {
            return Err(Error::Cancelled);
        }
        if let Some(Over::Closed) = before {
            return Err(closed());
        }
        let mut taken = Taken { lane: self, half: self.half.lock().take() };
        let Some(half) = &mut taken.half else { return Err(closed()) };
        if let Some(Over::GivenUp(code)) = before {
            half.give_up(code); // so that it says so, and does not wait
        }
        tokio::select! {
            biased;
            _ = over.changed() => Err(Error::Cancelled),
            result = begin(half) => result,
        }
    }

    fn end(&self, over: Over) {
        self.over.send_if_modified(|state| {
            let more =
                !matches!((&state, over), (Some(Over::Closed), _) | (Some(_), Over::GivenUp(_)));
            if more {
                *state = Some(over);
            }
            more
        });
        self.settle();
    }

    /// Does what was asked for; where a call is under way, that one does it at its end.
    fn settle(&self) {
        let Some(over) = *self.over.borrow() else { return };
        let mut place = self.half.lock();
        let gone = match over {
            Over::GivenUp(code) => {
                if let Some(half) = &mut *place {
                    half.give_up(code);
                }
                None
            }
            Over::Closed => place.take(),
        };
        drop(place);
        drop(gone); // unlocked
    }
}

/// The half in the hands of a call.
struct Taken<'a, H: Half> {
    lane: &'a Lane<H>,
    half: Option<H>,
}

impl<H: Half> Drop for Taken<'_, H> {
    fn drop(&mut self) {
        if let Some(half) = self.half.take() {
            *self.lane.half.lock() = Some(half);
            self.lane.settle(); // after that, so that nobody's wish falls between
        }
    }
}

fn closed() -> Error {
    Error::Argument { field: "stream", value: "closed".into(), expected: "must be open".into() }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{cluster::Cluster, error::Code};

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

    /// A node, and both ends of a stream from it to itself.
    async fn ends() -> (Cluster, SharedStream, SharedStream) {
        let node = Cluster::builder("t", "n").insecure().start().await.unwrap();
        let (taken, wait) = oneshot::channel();
        let taken = Mutex::new(Some(taken));
        node.handle_streams("t", move |stream| {
            let taken = taken.lock().take();
            SharedStream::serve(stream, |stream| async move {
                taken.unwrap().send(stream).unwrap();
                std::future::pending().await
            })
        })
        .unwrap();
        let ours = SharedStream::new(node.open_stream("n", "t", None).await.unwrap());
        (node, ours, wait.await.unwrap())
    }

    fn code<T: fmt::Debug>(result: Result<T>) -> Code {
        result.unwrap_err().code()
    }

    #[tokio::test]
    async fn calls_take_their_turns_as_they_were_made() {
        let (_node, ours, theirs) = ends().await;
        let writes: Vec<_> =
            (0..64).map(|n: u8| ours.write(vec![n; 100].into(), PATIENCE)).collect();
        let finish = ours.finish(PATIENCE);
        // The last first, as a runtime may.
        let mut tasks = vec![tokio::spawn(finish)];
        tasks.extend(writes.into_iter().rev().map(tokio::spawn));
        let mut whole = Vec::new();
        while let Some(bytes) = theirs.read(PATIENCE).await.unwrap().take() {
            whole.extend_from_slice(&bytes);
        }
        assert!(whole.is_sorted());
        assert_eq!(whole.len(), 64 * 100);
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_deadline_covers_the_wait_for_those_before() {
        let (_node, ours, theirs) = ends().await;
        let stalled = tokio::spawn(ours.write(vec![0; 100_000].into(), None));
        let short = Some(Duration::from_millis(20));
        assert_eq!(code(ours.write("late".into(), short).await), Code::Timeout);
        let (gone, next) = (ours.write("gone".into(), None), ours.write("next".into(), PATIENCE));
        drop(gone);
        let next = tokio::spawn(next);
        let mut read = 0;
        while read < 100_004 {
            read += theirs.read(PATIENCE).await.unwrap().take().unwrap().len();
        }
        assert_eq!(read, 100_004, "neither what was late nor what was dropped");
        stalled.await.unwrap().unwrap();
        next.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_call_that_goes_out_of_the_middle_lets_nobody_overtake() {
        let (_node, ours, theirs) = ends().await;
        let stalled = tokio::spawn(ours.write(vec![0; 100_000].into(), None));
        let behind = tokio::spawn(ours.write("behind".into(), PATIENCE));
        let short = Some(Duration::from_millis(20));
        assert_eq!(code(ours.write("late".into(), short).await), Code::Timeout);
        let last = tokio::spawn(ours.write("last".into(), PATIENCE));
        let finish = tokio::spawn(ours.finish(PATIENCE));
        while ours.sent() < 65536 {
            tokio::task::yield_now().await; // all of them are in line by then
        }
        let mut whole = Vec::new();
        while let Some(bytes) = theirs.read(PATIENCE).await.unwrap().take() {
            whole.extend_from_slice(&bytes);
        }
        assert_eq!(&whole[100_000..], b"behindlast");
        for task in [stalled, behind, last, finish] {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_reader_did_not_take_is_the_next_ones() {
        let (_node, ours, theirs) = ends().await;
        ours.write("one".into(), PATIENCE).await.unwrap();
        let cancelled = theirs.read(PATIENCE).await.unwrap();
        let next = tokio::spawn(theirs.read(PATIENCE));
        ours.write("two".into(), PATIENCE).await.unwrap();
        let short = Some(Duration::from_millis(20));
        assert_eq!(code(theirs.read(short).await), Code::Timeout, "it is not its turn");
        drop(cancelled);
        let mut read = Vec::from(next.await.unwrap().unwrap().take().unwrap());
        assert!(read.starts_with(b"one"));
        while read.len() < 6 {
            read.extend(theirs.read(PATIENCE).await.unwrap().take().unwrap());
        }
        assert_eq!(read, b"onetwo");
        // At the end as well, and what was given up stays so.
        ours.write("last".into(), PATIENCE).await.unwrap();
        ours.finish(PATIENCE).await.unwrap();
        drop(theirs.read(PATIENCE).await.unwrap());
        assert_eq!(theirs.read(PATIENCE).await.unwrap().take().unwrap(), "last");
        assert!(theirs.read(PATIENCE).await.unwrap().take().is_none());
        ours.close();
        drop(theirs.read(PATIENCE).await.unwrap());
        theirs.close();
        assert_eq!(code(theirs.read(PATIENCE).await), Code::Argument);
    }

    #[tokio::test]
    async fn giving_up_and_closing_cut_off_what_waits() {
        let (_node, ours, theirs) = ends().await;
        let stalled = tokio::spawn(ours.write(vec![0; 100_000].into(), None));
        let behind = tokio::spawn(ours.write("behind".into(), None));
        let reading = tokio::spawn(ours.read(None));
        while ours.sent() < 65536 {
            tokio::task::yield_now().await;
        }
        assert_eq!(code(ours.reset(1 << 31)), Code::Argument);
        ours.reset(5).unwrap();
        assert_eq!(code(stalled.await.unwrap()), Code::Cancelled);
        assert_eq!(code(behind.await.unwrap()), Code::Cancelled);
        assert_eq!(code(ours.write("after".into(), None).await), Code::Argument);
        let error = theirs.read(PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::StreamReset { code: 5, .. }), "{error:?}");
        ours.close();
        assert_eq!(code(reading.await.unwrap()), Code::Cancelled);
        assert_eq!(code(ours.read(PATIENCE).await), Code::Argument);
        let error = theirs.write("x".into(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::StreamReset { code: Stream::DROPPED, .. }), "{error:?}");
    }
}
