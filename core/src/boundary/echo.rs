//! Every value type both ways, without a network: how bindings show that they convert rightly,
//! and how fast.

use std::{sync::Arc, thread, time::Duration};

use super::Value;
use crate::{
    cluster::{Events, Hub},
    error::{Error, Result},
    event::EventKind,
    evidence::{Direction, Observation, PHI_MAX},
    member::{Instance, Member, NodeId, State},
};

/// Events wait behind a queue of this length, as a busy subscriber's would.
const QUEUE_MAX: usize = 8192;
/// Events that are published at once.
const BATCH: u64 = 512;

/// Gives back what it got.
pub fn echo_value(value: Value) -> Value {
    value
}

/// One event of each kind, with values at their limits: the largest and smallest numbers, empty
/// text, text beyond the basic plane, no round trip and one.
pub fn sample_events() -> Result<Vec<EventKind>> {
    let named = |name: &str| NodeId::new(name).map_err(Error::Internal);
    let member = |name: &str, state, number, rtt: Option<Duration>| -> Result<Arc<Member>> {
        Ok(Arc::new(Member {
            id: named(name)?,
            instance: Instance(number),
            incarnation: number,
            state,
            addr: ([127, 0, 0, 1], 65535).into(),
            tags: Arc::new(
                [("role", "worker"), ("empty", ""), ("snow 雪", "🦀 zero\0width\u{200b}")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
            ),
            unresponsive: rtt.is_none(),
            rtt,
        }))
    };
    let seen = |name: &str, phi, direction| -> Result<Observation> {
        Ok(Observation {
            observer: named(name)?,
            phi,
            missed_probes: u32::MAX,
            direction,
            health_score: 8,
        })
    };
    let plain = member("plain", State::Alive, 1, Some(Duration::from_micros(1500)))?;
    let great = member("größe-雪-🦀", State::Suspect, u64::MAX, None)?;
    let failed = member("x", State::Failed, 1 << 53, Some(Duration::ZERO))?;
    let left = member(&"n".repeat(128), State::Left, 0, Some(Duration::from_secs(3600)))?;
    Ok(vec![
        EventKind::MemberJoined { member: plain.clone() },
        EventKind::MemberUpdated { member: great.clone() },
        EventKind::MemberSuspected {
            member: great.clone(),
            observers: [
                seen("plain", Some(8.5), Direction::FromMember)?,
                seen("größe-雪-🦀", None, Direction::Unknown)?,
            ]
            .into(),
        },
        EventKind::MemberRecovered { member: plain.clone() },
        EventKind::MemberFailed { member: failed.clone(), observers: [].into(), replaced: true },
        EventKind::MemberLeft { member: left.clone() },
        EventKind::LocalHealthChanged { score: u32::MAX },
        EventKind::NameConflict { id: named("größe-雪-🦀")? },
        EventKind::EventsDropped {
            count: u64::MAX,
            members: [failed, great, left, plain.clone()].into(),
        },
        EventKind::HealthCheckFailed {
            member: plain,
            observers: [seen("x", Some(PHI_MAX), Direction::Both)?].into(),
        },
        EventKind::StateSetAside { path: "/größe/雪".into(), reason: String::new() },
        EventKind::CertificatesReloaded { path: "/größe/雪.pem".into() },
        EventKind::CertificatesRejected { path: String::new(), reason: "雪".into() },
        EventKind::CertificateExpiring { path: "c.pem".into(), seconds_left: u32::MAX },
    ])
}

/// A subscription to the samples, over and over, until `count` events were published; it then
/// ends. None is dropped: whoever publishes waits for the subscriber.
pub fn echo_events(count: u64) -> Result<Events> {
    let samples = sample_events()?;
    let hub = Hub::new(QUEUE_MAX);
    let events = hub.subscribe();
    let feed = move || {
        let mut published = 0;
        while published < count && hub.stats().2 > 0 {
            if hub.waiting() > QUEUE_MAX / 2 {
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            let batch = BATCH.min(count - published);
            let kinds = (published..published + batch)
                .map(|at| samples[(at % samples.len() as u64) as usize].clone());
            hub.publish(kinds.collect(), Arc::from([]));
            published += batch;
        }
        hub.close();
    };
    thread::Builder::new()
        .name("peerage-echo".into())
        .spawn(feed)
        .map_err(|e| Error::Internal(format!("cannot start a thread: {e}")))?;
    Ok(events)
}
