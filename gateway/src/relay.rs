//! A response on its way from a replica to a client: nothing is kept, so that a slow client slows its replica's stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Broken, ToReplica};
use crate::fleet::{Claim, Outcome};
use crate::record::{End, Record};
use crate::scan::Scan;
use crate::upstream::{Connection, Pool};

/// What is sent to a client.
#[derive(Debug)]
pub(crate) enum ToClient {
    /// The gateway's own words.
    Own(Option<Bytes>),
    /// A replica's.
    Relayed(Box<Relay>),
}

/// A replica's response that goes through.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) upstream: Incoming,
    /// Both are there until the response has ended.
    pub(crate) held: Option<(Connection<ToReplica>, Claim)>,
    pub(crate) pool: Arc<Pool<ToReplica>>,
    pub(crate) record: Record,
    pub(crate) scan: Scan,
    pub(crate) silence: Duration,
    /// Fires when nothing came for `silence`, or at `deadline`.
    pub(crate) patience: Pin<Box<Sleep>>,
    pub(crate) deadline: Instant,
}

impl Relay {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        loop {
            match Pin::new(&mut self.upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are of the replica's connection.
                    let Ok(data) = frame.into_data() else { continue };
                    if self.scan.see(&data) {
                        self.record.first_token();
                    }
                    let patience = Instant::now() + self.silence;
                    self.patience.as_mut().reset(patience.min(self.deadline));
                    // Of a response whose length is known, nobody asks for more after its last byte.
                    if self.upstream.is_end_stream()
                        && let Err(error) = self.complete()
                    {
                        return Poll::Ready(Some(Err(error)));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.give_up(Outcome::Failed, End::Broken);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(self.complete().err().map(Err));
                }
                Poll::Pending if self.patience.as_mut().poll(context).is_ready() => {
                    self.give_up(Outcome::Failed, End::Broken);
                    return Poll::Ready(Some(Err(
                        "the replica fell silent, or the request took too long".into()
                    )));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The response is there to its last byte; an error when it was cut before.
    fn complete(&mut self) -> Result<(), Broken> {
        let Some((connection, claim)) = self.held.take() else { return Ok(()) };
        if !claim.end(Outcome::Served) {
            self.record.ended(End::Cut, Some(&self.scan));
            return Err("cut by an operator".into());
        }
        self.pool.give_back(connection);
        self.record.ended(End::Completed, Some(&self.scan));
        Ok(())
    }

    fn give_up(&mut self, outcome: Outcome, end: End) {
        let Some((connection, claim)) = self.held.take() else { return };
        // Closed first: when the claim is gone, the replica must not be writing any more.
        drop(connection);
        let cut = !claim.end(outcome);
        self.record.ended(if cut { End::Cut } else { end }, Some(&self.scan));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.give_up(Outcome::GivenUp, End::ClientGone);
    }
}

impl Body for ToClient {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relay) => relay.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Self::Relayed(relay) => relay.held.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relay) => relay.upstream.size_hint(),
        }
    }
}
