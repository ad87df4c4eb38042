//! Whether evidence is sound, as the README says.

use peerage::{EventKind, Explanation, Observation};
use serde_json::{Value, json};

/// What is wrong with it.
type Sound = Result<(), String>;

/// The event's observers are some of these.
pub fn seen(event: &EventKind, allowed: &Value) -> Sound {
    let observers = match event {
        EventKind::MemberSuspected { observers, .. }
        | EventKind::MemberFailed { observers, .. }
        | EventKind::HealthCheckFailed { observers, .. } => observers,
        other => return Err(format!("{other:?} has no observers")),
    };
    let mut ids: Vec<_> = observers.iter().map(|o| o.observer.as_str()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    let all_allowed = ids.iter().all(|id| allowed.as_array().unwrap().contains(&json!(id)));
    if ids.is_empty() || ids.len() != count || !all_allowed {
        return Err(format!("observers {observers:?} instead of some of {allowed}"));
    }
    sound(observers)
}

/// The explanation is the expected one.
pub fn explained(found: Option<&Explanation>, id: &str, expected: &Value) -> Sound {
    let Some(found) = found else {
        return if expected.is_null() { Ok(()) } else { Err("nothing is known".into()) };
    };
    let ends = |at: Option<&peerage::Happened>| at.map_or("", |h| h.what).to_owned();
    let summary = json!({
        "state": found.state.as_str(),
        "begins": ends(found.history.first()),
        "ends": ends(found.history.last()),
    });
    if found.id.as_str() != id || summary != *expected {
        return Err(format!("{found:?} instead of {expected}"));
    }
    if !found.history.is_sorted_by(|a, b| a.ago >= b.ago) || !phi_is_sound(found.phi) {
        return Err(format!("{found:?}"));
    }
    sound(&found.observers)?;
    found.history.iter().try_for_each(|happened| sound(&happened.observers))
}

fn sound(observers: &[Observation]) -> Sound {
    const DIRECTIONS: [&str; 4] = ["fromMember", "toMember", "both", "unknown"];
    let is_sound = |o: &Observation| {
        phi_is_sound(o.phi) && DIRECTIONS.contains(&o.direction.as_str()) && o.health_score <= 8
    };
    if observers.iter().all(is_sound) { Ok(()) } else { Err(format!("{observers:?}")) }
}

fn phi_is_sound(phi: Option<f64>) -> bool {
    phi.is_none_or(|phi| (0.0..=1000.0).contains(&phi))
}
