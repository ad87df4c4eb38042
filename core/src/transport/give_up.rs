//! How our direction of a stream is given up.

use std::task::{Context, Poll, Waker};

use s2n_quic::{
    application,
    stream::{self, SendStream},
};

/// Resets our direction of a stream, unless that has been done for the peer already.
///
/// Where the peer told us to stop, the stack resets the stream by itself. If that was acknowledged and
/// we reset it then, the stack (s2n-quic 1.91) takes no note that we know: it keeps the stream as long
/// as the connection lives, and once there are as many as the peer may open, it can open none any more.
/// A look at the stream is noted. That the peer's word arrives, is answered and acknowledged between
/// our look and our reset is all but impossible, and would cost one stream.
pub(super) fn give_up(send: &mut SendStream, code: impl Into<application::Error>) {
    let look = send.poll_send_ready(&mut Context::from_waker(Waker::noop()));
    if !matches!(look, Poll::Ready(Err(stream::Error::StreamReset { .. }))) {
        let _ = send.reset(code.into()); // an error means that it ended
    }
}
