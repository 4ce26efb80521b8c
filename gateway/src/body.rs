//! Bodies on their way through: a client's, kept or streamed, and a replica's, streamed.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What a body ends with when it does not end well.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What is sent to a replica.
#[derive(Debug)]
pub(crate) enum ToReplica {
    /// All of it is here.
    Kept(Option<Bytes>),
    /// The beginning is here, the rest comes from the client.
    Streamed {
        begun: Option<Bytes>,
        rest: Incoming,
        /// Bytes of the rest that are allowed.
        left: u64,
        /// Where it is noted when the client is what ends it.
        fault: Arc<OnceLock<Unread>>,
    },
}

impl Body for ToReplica {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Kept(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { begun, rest, left, fault } => {
                if let Some(bytes) = begun.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                loop {
                    let frame = match ready!(Pin::new(&mut *rest).poll_frame(context)) {
                        Some(Ok(frame)) => frame,
                        Some(Err(error)) => {
                            fault.get_or_init(|| Unread::Broken);
                            return Poll::Ready(Some(Err(error.into())));
                        }
                        None => return Poll::Ready(None),
                    };
                    // Trailers are of the client's connection.
                    let Ok(data) = frame.into_data() else { continue };
                    *left = match left.checked_sub(data.len() as u64) {
                        Some(left) => left,
                        None => {
                            fault.get_or_init(|| Unread::TooLong);
                            return Poll::Ready(Some(Err("the body is longer than allowed".into())));
                        }
                    };
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Self::Streamed { begun, rest, .. } => begun.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let here = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match self {
            Self::Kept(body) => SizeHint::with_exact(here(body)),
            Self::Streamed { begun, rest, .. } => match rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(rest + here(begun)),
                None => SizeHint::default(),
            },
        }
    }
}

/// A client's body, as far as it was read before a replica was chosen.
#[derive(Debug)]
pub(crate) enum FromClient {
    /// All of it; it can be sent as often as is wanted.
    Whole(Bytes),
    /// More than is kept: it can be sent once.
    Begun(Bytes, Incoming),
}

/// Why a client's body can't be had.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unread {
    TooLong,
    TooSlow,
    Broken,
}

/// Reads a client's body as far as it is kept.
pub(crate) async fn read(
    mut body: Incoming,
    keep: usize,
    most: u64,
    within: Duration,
) -> Result<FromClient, Unread> {
    if body.size_hint().lower() > most {
        return Err(Unread::TooLong);
    }
    if body.size_hint().lower() > keep as u64 {
        return Ok(FromClient::Begun(Bytes::new(), body));
    }
    let reading = async {
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Unread::Broken) };
            let Ok(data) = frame.into_data() else { continue };
            if (read.len() + data.len()) as u64 > most {
                return Err(Unread::TooLong);
            }
            read.extend_from_slice(&data);
            if read.len() > keep {
                return Ok(FromClient::Begun(read.freeze(), body));
            }
        }
        Ok(FromClient::Whole(read.freeze()))
    };
    tokio::time::timeout(within, reading).await.unwrap_or(Err(Unread::TooSlow))
}
