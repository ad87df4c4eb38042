//! `echo.json` is what the core's samples say, written as every language must show them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::Path};

use peerage::{EventKind, Member, Observation, boundary::sample_events};
use serde_json::{Value, json};

#[test]
fn the_samples_are_as_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("echo.json");
    let written: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let samples: Vec<Value> = sample_events().unwrap().iter().map(neutral).collect();
    assert_eq!(Value::Array(samples.clone()), written, "{}", json!(samples));
}

/// Every kind is among the samples, so that no language is tested without one.
#[test]
fn every_kind_is_among_them() {
    let described = include_str!("../../../core/description/events.toml");
    let kinds = described.lines().filter(|line| line.starts_with("name = ")).count();
    let mut names: Vec<_> = sample_events().unwrap().iter().map(EventKind::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds);
}

fn neutral(kind: &EventKind) -> Value {
    let mut object = match kind {
        EventKind::MemberJoined { member: m }
        | EventKind::MemberUpdated { member: m }
        | EventKind::MemberRecovered { member: m }
        | EventKind::MemberLeft { member: m } => json!({ "member": member(m) }),
        EventKind::MemberSuspected { member: m, observers } => {
            json!({ "member": member(m), "observers": seen(observers) })
        }
        EventKind::MemberFailed { member: m, observers, replaced } => {
            json!({ "member": member(m), "observers": seen(observers), "replaced": replaced })
        }
        EventKind::HealthCheckFailed { member: m, observers } => {
            json!({ "member": member(m), "observers": seen(observers) })
        }
        EventKind::StateSetAside { path, reason } => json!({ "path": path, "reason": reason }),
        EventKind::CertificatesReloaded { path } => json!({ "path": path }),
        EventKind::CertificatesRejected { path, reason } => {
            json!({ "path": path, "reason": reason })
        }
        EventKind::CertificateExpiring { path, seconds_left } => {
            json!({ "path": path, "seconds_left": seconds_left })
        }
        EventKind::LocalHealthChanged { score } => json!({ "score": score }),
        EventKind::NameConflict { id } => json!({ "id": id.as_str() }),
        EventKind::EventsDropped { count, members } => {
            let members: Vec<_> = members.iter().map(|m| member(m)).collect();
            json!({ "count": count.to_string(), "members": members })
        }
        other => panic!("{other:?} has no neutral form yet"),
    };
    object["kind"] = kind.name().into();
    object
}

fn seen(observers: &[Observation]) -> Vec<Value> {
    let seen = |o: &Observation| {
        json!({
            "observer": o.observer.as_str(),
            "phi": o.phi,
            "missed_probes": o.missed_probes,
            "direction": o.direction.as_str(),
            "health_score": o.health_score,
        })
    };
    observers.iter().map(seen).collect()
}

fn member(member: &Member) -> Value {
    json!({
        "id": member.id.as_str(),
        "instance": member.instance.0.to_string(),
        "incarnation": member.incarnation.to_string(),
        "state": member.state.as_str(),
        "addr": member.addr.to_string(),
        "tags": &*member.tags,
        "rtt_us": member.rtt.map(|rtt| rtt.as_micros() as u64),
        "unresponsive": member.unresponsive,
    })
}
