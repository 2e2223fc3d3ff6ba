//! The bytes of request bodies: bounded for one, for all together, and in the time they take.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The room for the bodies of one listener.
pub struct Bodies {
    one_bytes_max: usize,
    room: Arc<Semaphore>,
}

/// A whole body, and its part of the room until it is dropped.
pub struct HeldBody {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Why a body is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The peer's fault: it is larger than one may be.
    #[error("the body is too large")]
    TooLarge,
    /// All bodies together are as large as they may be; the same one may be sent again soon.
    #[error("no room for the body now")]
    NoRoom,
    /// The peer's fault, or its network's: slower than [`BYTES_PER_S_MIN`].
    #[error("the body took too long")]
    TooSlow,
    /// The peer's fault: it broke off, or its form is none.
    #[error("the body could not be read to its end")]
    Broken,
}

impl Bodies {
    /// Returns room for `all_bytes_max`, of which one body may take `one_bytes_max`.
    pub fn new(one_bytes_max: usize, all_bytes_max: usize) -> Self {
        Self {
            one_bytes_max,
            room: Arc::new(Semaphore::new(all_bytes_max)),
        }
    }

    /// Returns the whole body of a request.
    ///
    /// Shape: room is taken as bytes arrive, never for a length that is only declared. A body that is refused is read and
    /// dropped up to [`DISCARDED_MAX`] times its bound: a client that still writes when the connection closes sees a
    /// broken connection instead of the answer.
    /// Errors: [`BodyError`].
    pub async fn read(&self, request: Request<Body>) -> Result<HeldBody, BodyError> {
        let declared = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let is_large = declared.is_some_and(|bytes| bytes > self.one_bytes_max);
        let waits = request.headers().contains_key(EXPECT);
        if is_large && (waits || declared > Some(self.one_bytes_max * DISCARDED_MAX)) {
            return Err(BodyError::TooLarge);
        }
        self.gather(request.into_body()).await
    }

    async fn gather(&self, mut body: Body) -> Result<HeldBody, BodyError> {
        let started = Instant::now();
        let mut kept = Ok(HeldBody {
            bytes: Vec::new(),
            _room: self.take_room(0).ok_or(BodyError::NoRoom)?,
        });
        let mut read = 0;
        loop {
            let due = started + GRACE + Duration::from_secs_f64(read as f64 / BYTES_PER_S_MIN as f64);
            let frame = timeout_at(due, body.frame()).await;
            let Some(frame) = frame.map_err(|_| BodyError::TooSlow)? else {
                return kept;
            };
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
                continue;
            };
            read += data.len();
            if read > self.one_bytes_max {
                kept = Err(BodyError::TooLarge);
            } else if let Ok(held) = &mut kept
                && let Err(error) = self.push(held, &data)
            {
                kept = Err(error);
            }
            if read > self.one_bytes_max * DISCARDED_MAX {
                return kept;
            }
        }
    }

    /// Appends bytes; what is counted is the memory that they take.
    fn push(&self, held: &mut HeldBody, data: &[u8]) -> Result<(), BodyError> {
        let needed = held.bytes.len() + data.len();
        if needed > held.bytes.capacity() {
            let grown = needed.next_power_of_two().min(self.one_bytes_max);
            let room = self.take_room(grown - held.bytes.capacity());
            held._room.merge(room.ok_or(BodyError::NoRoom)?);
            held.bytes.reserve_exact(grown - held.bytes.len());
        }
        held.bytes.extend_from_slice(data);
        Ok(())
    }

    fn take_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()
    }
}

impl Deref for HeldBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The slowest that a body may arrive, on average since its first byte, after [`GRACE`].
pub const BYTES_PER_S_MIN: usize = 16 * 1024;
/// What every body may take longer than that: a lost packet or two.
pub const GRACE: Duration = Duration::from_secs(5);
/// How much of a body that is refused is read before the answer, in largest bodies.
pub const DISCARDED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use hyper::body::Frame;
    use tokio::sync::mpsc;

    use super::*;

    /// A body whose frames the test sends, or never.
    fn dripping() -> (mpsc::UnboundedSender<Bytes>, Request<Body>) {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
        let body = Receiving(std::future::poll_fn(move |context| receiver.poll_recv(context)));
        (sender, Request::new(Body::new(body)))
    }

    struct Receiving<F>(F);

    impl<F: Future<Output = Option<Bytes>> + Unpin> hyper::body::Body for Receiving<F> {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::pin::Pin::new(&mut self.0)
                .poll(context)
                .map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    fn whole(bytes: usize) -> Request<Body> {
        Request::new(Body::from(vec![b'x'; bytes]))
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound_and_give_their_room_back() {
        let bodies = Bodies::new(1_024, 3 * 1_024);
        let held = [
            bodies.read(whole(1_000)).await.unwrap(),
            bodies.read(whole(1_024)).await.unwrap(),
            bodies.read(whole(513)).await.unwrap(),
        ];
        assert_eq!(held[0].len(), 1_000);
        assert_eq!(bodies.read(whole(1)).await.err(), Some(BodyError::NoRoom));
        drop(held);
        assert_eq!(bodies.read(whole(1_025)).await.err(), Some(BodyError::TooLarge));
        assert_eq!(bodies.room.available_permits(), 3 * 1_024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_rate_and_not_only_a_pause_that_is_too_long() {
        let bodies = Bodies::new(128 * 1024, 128 * 1024);
        let (sender, request) = dripping();
        let started = Instant::now();
        let reading = bodies.read(request);
        let feed = async {
            // A byte a second never pauses for long.
            while sender.send(Bytes::from_static(b"x")).is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            read = reading => assert_eq!(read.err(), Some(BodyError::TooSlow)),
            () = feed => panic!("nobody reads"),
        }
        assert!(
            started.elapsed() < GRACE + Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(bodies.room.available_permits(), 128 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_at_that_rate_is_read() {
        let bodies = Bodies::new(128 * 1024, 128 * 1024);
        let (sender, request) = dripping();
        let feed = async move {
            for _ in 0..8 {
                sender.send(Bytes::from(vec![b'x'; BYTES_PER_S_MIN])).unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (read, ()) = tokio::join!(bodies.read(request), feed);
        assert_eq!(read.unwrap().len(), 128 * 1024);
    }
}
