//! A node, as JavaScript holds it.

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use peerage::{
    Cluster,
    boundary::{Face, Gate},
};

use crate::{
    bridge::Bridge,
    events::Subscription,
    failure::{attempt, text, to_json},
    generated,
    inbox::Outcome,
    read,
    writer::{Batch, Writer},
};

/// A handle of a running node. When the last one of a node is collected, the node stops without a
/// goodbye.
#[napi]
pub struct NativeCluster {
    pub(crate) cluster: Cluster,
    /// Held until the program had its turn to add handlers and subscriptions.
    pub(crate) gate: Option<Gate>,
}

#[napi]
impl NativeCluster {
    /// Lets the node join and be joined.
    #[napi]
    pub fn open(&mut self) {
        self.gate = None;
    }

    /// Waits until a seed has admitted us.
    #[napi]
    pub fn join(&self, bridge: &Bridge, call: i64, deadline: Unknown) -> napi::Result<()> {
        let begin = || {
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.join(deadline).await })
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// Asks a member.
    #[napi]
    pub fn request(
        &self,
        bridge: &Bridge,
        call: i64,
        target: Unknown,
        topic: Unknown,
        payload: Unknown,
        deadline: Unknown,
    ) -> napi::Result<()> {
        let begin = || {
            let (target, topic) = (text("target", target)?, text("topic", topic)?);
            let payload = Face::NODE.payload("payload", read::value(payload)?)?;
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.request(&target, &topic, payload, deadline).await })
        };
        bridge.attempt(call, begin, Outcome::Answer)
    }

    /// Sends a member a message.
    #[napi]
    pub fn send(
        &self,
        bridge: &Bridge,
        call: i64,
        target: Unknown,
        topic: Unknown,
        payload: Unknown,
        deadline: Unknown,
    ) -> napi::Result<()> {
        let begin = || {
            let (target, topic) = (text("target", target)?, text("topic", topic)?);
            let payload = Face::NODE.payload("payload", read::value(payload)?)?;
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.send(&target, &topic, payload, deadline).await })
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// Announces other tags.
    #[napi]
    pub fn set_tags(&self, bridge: &Bridge, call: i64, tags: Unknown) -> napi::Result<()> {
        let begin = || {
            let tags = Face::NODE.tags("tags", read::value(tags)?)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.set_tags(tags).await })
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// Announces one tag, or another value of it.
    #[napi]
    pub fn update_tag(
        &self,
        bridge: &Bridge,
        call: i64,
        key: Unknown,
        value: Unknown,
    ) -> napi::Result<()> {
        let begin = || {
            let (key, value) = (text("key", key)?, text("value", value)?);
            let cluster = self.cluster.clone();
            Ok(async move { cluster.update_tag(&key, &value).await })
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// Announces one tag no more.
    #[napi]
    pub fn remove_tag(&self, bridge: &Bridge, call: i64, key: Unknown) -> napi::Result<()> {
        let begin = || {
            let key = text("key", key)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.remove_tag(&key).await })
        };
        bridge.attempt(call, begin, Outcome::Flag)
    }

    /// Changes the secrets.
    #[napi]
    pub fn set_secrets(&self, secrets: Unknown) -> napi::Result<()> {
        attempt(|| {
            let secrets = Face::NODE.secrets("secrets", read::value(secrets)?)?;
            Ok(self.cluster.set_secrets(&secrets)?)
        })
    }

    /// Reads the PEM files again.
    #[napi]
    pub fn reload_certificates(&self, bridge: &Bridge, call: i64) {
        let cluster = self.cluster.clone();
        let reload = async move { cluster.reload_certificates().await };
        bridge.run(call, reload, |()| Outcome::Nothing);
    }

    /// What is known about one member, and how it came to be known.
    #[napi]
    pub fn explain(&self, bridge: &Bridge, call: i64, id: Unknown) -> napi::Result<()> {
        let begin = || {
            let id = text("id", id)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.explain(&id).await })
        };
        bridge.attempt(call, begin, Outcome::Explained)
    }

    /// The JavaScript loop responds.
    #[napi]
    pub fn answer_loop(&self, question: i64) {
        self.cluster.answer_loop(u64::try_from(question).unwrap_or(0));
    }

    /// Leaves.
    #[napi]
    pub fn leave(&self, bridge: &Bridge, call: i64) {
        let cluster = self.cluster.clone();
        bridge.run(call, async move { cluster.leave().await }, Outcome::Left);
    }

    /// Stops at once.
    #[napi]
    pub fn shutdown_now(&self, bridge: &Bridge, call: i64) {
        let cluster = self.cluster.clone();
        bridge.run(call, async move { cluster.shutdown_now().await }, Outcome::Left);
    }

    /// Hands requests for a topic to the JavaScript handler of that number.
    #[napi]
    pub fn handle(&self, bridge: &Bridge, topic: Unknown, handler: i64) -> napi::Result<()> {
        attempt(|| {
            let inbox = bridge.inbox.clone();
            let topic = text("topic", topic)?;
            let to_script = move |request| inbox.clone().handle(handler, request);
            Ok(self.cluster.handle(&topic, to_script)?)
        })
    }

    /// Stops handling a topic.
    #[napi]
    pub fn unhandle(&self, topic: Unknown) -> napi::Result<bool> {
        attempt(|| Ok(self.cluster.unhandle(&text("topic", topic)?)))
    }

    /// Subscribes to events.
    #[napi]
    pub fn events(&self, bridge: &Bridge, id: i64) -> Subscription {
        Subscription::new(self.cluster.events(), bridge.inbox.clone(), id)
    }

    /// This node, as one record.
    #[napi]
    pub fn local<'env>(&self, env: &'env Env) -> napi::Result<Batch<'env>> {
        let member = self.cluster.local();
        let mut out = Writer::new(16);
        generated::write_member(&mut out, &member);
        out.finish(env)
    }

    /// All members, as a list.
    #[napi]
    pub fn members<'env>(&self, env: &'env Env) -> napi::Result<Batch<'env>> {
        let members = self.cluster.members();
        let mut out = Writer::new(members.len() * 16);
        out.list(&members, |out, member| generated::write_member(out, member));
        out.finish(env)
    }

    /// A list with the member of that id, or an empty one.
    #[napi]
    pub fn get<'env>(&self, env: &'env Env, id: Unknown) -> napi::Result<Batch<'env>> {
        let members = attempt(|| Ok(self.cluster.get(&text("id", id)?)))?;
        let mut out = Writer::new(16);
        out.list(members.as_slice(), |out, member| generated::write_member(out, member));
        out.finish(env)
    }

    /// The alive members with all these tags, as a list.
    #[napi]
    pub fn members_with<'env>(&self, env: &'env Env, tags: Unknown) -> napi::Result<Batch<'env>> {
        let members = attempt(|| {
            let tags: Vec<_> = Face::NODE.tags("tags", read::value(tags)?)?.into_iter().collect();
            Ok(self.cluster.members_with(&tags))
        })?;
        let mut out = Writer::new(members.len() * 16);
        out.list(&members, |out, member| generated::write_member(out, member));
        out.finish(env)
    }

    /// Counters and gauges.
    #[napi]
    pub fn stats<'env>(&self, env: &'env Env) -> napi::Result<Batch<'env>> {
        let stats = self.cluster.stats();
        let mut out = Writer::new(48);
        generated::write_stats(&mut out, &stats);
        out.finish(env)
    }

    /// The announced address.
    #[napi]
    pub fn addr(&self) -> String {
        self.cluster.addr().to_string()
    }

    /// The bound address.
    #[napi]
    pub fn bound_addr(&self) -> String {
        self.cluster.bound_addr().to_string()
    }

    /// Why the node ended, as JSON, once it has.
    #[napi]
    pub fn closed(&self) -> Option<String> {
        self.cluster.closed().map(|error| to_json(&error))
    }
}
