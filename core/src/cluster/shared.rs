//! What the handle, the driver and the transport's tasks share.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    hub::{Hub, Members},
    responsive::Answers,
    stats::{Stats, Status},
    topics::{Handler, Request, Topics},
};
use crate::{
    config::{Config, shared_tags},
    error::{Code, Error, Result},
    measured::Measured,
    member::{Member, Peer, State},
    transport::{Answering, Inbound, Refusal, StreamHandler, Transport},
};

/// Immutable; swapped in whole by the driver, so that readers never wait for it.
pub(super) struct View {
    pub(super) members: Members,
}

/// How the join is going.
#[derive(Clone, Debug, Default)]
pub(super) struct JoinState {
    pub(super) joined: bool,
    /// The latest failure at each seed; `None` while nothing was heard.
    pub(super) seeds: Vec<(SocketAddr, Option<Error>)>,
}

impl JoinState {
    /// Every seed refused us in a way that trying again does not change.
    pub(super) fn hopeless(&self) -> Option<Error> {
        let lasting = |e: &Error| {
            matches!(
                e.code(),
                Code::Unauthenticated
                    | Code::CertificateExpired
                    | Code::WrongCluster
                    | Code::WrongNode
                    | Code::WrongVersion
            )
        };
        let all = self.seeds.iter().all(|(_, e)| e.as_ref().is_some_and(lasting));
        if all { self.seeds.first().and_then(|(_, e)| e.clone()) } else { None }
    }

    pub(super) fn described(&self) -> Vec<(SocketAddr, String)> {
        let text = |e: &Option<Error>| {
            e.as_ref().map_or_else(|| "no answer yet".into(), ToString::to_string)
        };
        self.seeds.iter().map(|(addr, e)| (*addr, text(e))).collect()
    }
}

pub(super) struct Shared {
    pub(super) me: Peer,
    pub(super) view: ArcSwap<View>,
    pub(super) hub: Hub,
    pub(super) topics: Topics<Handler>,
    pub(super) streams: Topics<StreamHandler>,
    pub(super) status: Mutex<Status>,
    pub(super) join: watch::Sender<JoinState>,
    pub(super) request_timeout: Duration,
    pub(super) join_timeout: Duration,
    pub(super) unresponsive_after: Duration,
    pub(super) answers: Arc<Answers>,
    pub(super) measured: Measured,
    payload_max: u64,
    closed: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(config: &Config, me: Peer) -> Self {
        let first = Arc::new(Member {
            id: me.id.clone(),
            instance: me.instance,
            incarnation: 1,
            state: State::Alive,
            addr: config.listen,
            tags: shared_tags(&config.tags),
            rtt: None,
            unresponsive: false,
        });
        let seeds = config.seeds.iter().map(|s| (*s, None)).collect();
        Self {
            me,
            view: ArcSwap::from_pointee(View { members: Arc::from([first]) }),
            hub: Hub::new(config.event_queue as usize),
            topics: Topics::default(),
            streams: Topics::default(),
            status: Mutex::new(Status::default()),
            join: watch::Sender::new(JoinState { joined: false, seeds }),
            request_timeout: config.request_timeout,
            join_timeout: config.join_timeout,
            unresponsive_after: config.unresponsive_after,
            answers: Arc::default(),
            measured: Measured::new(&config.cluster, &config.node_id),
            payload_max: config.payload_max,
            closed: Mutex::new(None),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Member>> {
        let view = self.view.load();
        let at = view.members.binary_search_by(|m| m.id.as_str().cmp(id)).ok()?;
        Some(view.members[at].clone())
    }

    /// A member that can be asked.
    pub(super) fn live(&self, id: &str) -> Result<Arc<Member>> {
        self.check_open()?;
        self.get(id).filter(|m| m.state.is_live()).ok_or_else(|| Error::UnknownMember(id.into()))
    }

    pub(super) fn stats(&self, transport: &Transport) -> Stats {
        Stats::new(&self.view.load().members, *self.status.lock(), transport, self.hub.stats())
    }

    pub(super) fn check_payload(&self, payload: &Bytes) -> Result<()> {
        let bytes = payload.len() as u64;
        if bytes > self.payload_max {
            Err(Error::TooLarge { bytes, max: self.payload_max })
        } else {
            Ok(())
        }
    }

    pub(super) fn check_open(&self) -> Result<()> {
        match &*self.closed.lock() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    pub(super) fn closed_error(&self) -> Error {
        self.check_open().err().unwrap_or_else(|| Error::Closed("it has ended".into()))
    }

    /// No new calls from here on; the first reason stays.
    pub(super) fn close(&self, error: Error) {
        self.closed.lock().get_or_insert(error);
        // Whoever waits for the join looks again.
        self.join.send_modify(|_| {});
    }

    /// Our own handlers, with the same outcomes as over a link.
    pub(super) async fn request_ourselves(
        &self,
        topic: &str,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes> {
        let target = self.me.id.to_string();
        let Some(handler) = self.topics.get(topic) else {
            return Err(Error::UnknownTopic { target, topic: topic.into() });
        };
        let request = Request { from: self.me.id.clone(), topic: topic.into(), payload };
        // A task of its own, so that a panic stays there, also one before there is anything to wait for.
        let mut task = AbortOnDrop(tokio::spawn(async move { handler(request).await }));
        let failed =
            |message| Error::Handler { target: target.clone(), topic: topic.into(), message };
        match tokio::time::timeout(deadline, &mut task.0).await {
            Err(_) => Err(Error::Timeout { target: target.clone(), after: deadline }),
            Ok(Err(panic)) => Err(failed(format!("panicked: {panic}"))),
            Ok(Ok(Err(message))) => Err(failed(message)),
            Ok(Ok(Ok(answer))) => {
                self.check_payload(&answer)?;
                Ok(answer)
            }
        }
    }
}

/// A request whose caller has gone must not be worked on further.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Bytes, String>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Inbound for Shared {
    fn request(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
        _deadline: Duration,
    ) -> Result<Answering, Refusal> {
        let handler = self.topics.get(&topic).ok_or(Refusal::UnknownTopic)?;
        Ok(handler(Request { from: from.id, topic, payload }))
    }

    fn message(&self, from: Peer, topic: String, payload: Bytes) -> Boxed<()> {
        let handler = self.topics.get(&topic);
        Box::pin(async move {
            if let Some(handler) = handler {
                // One way: there is nobody to tell.
                let _ = handler(Request { from: from.id, topic, payload }).await;
            }
        })
    }

    fn stream(&self, topic: &str) -> Option<StreamHandler> {
        self.streams.get(topic)
    }

    fn dialed(&self, took: Duration, failed: Option<&Error>) {
        self.measured.dial(took, failed);
    }

    fn shook_hands(&self, took: Duration, dialed: bool) {
        self.measured.handshake(took, dialed);
    }
}
