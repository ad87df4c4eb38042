//! Every value both ways without a network, for tests and benchmarks.

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use peerage::boundary;

use crate::{bridge::Bridge, events::Subscription, failure::attempt, read};

/// Gives back what it got, through the core's own values.
#[napi]
pub fn echo_value<'env>(env: &'env Env, given: Unknown) -> napi::Result<Unknown<'env>> {
    let value = attempt(|| Ok(boundary::echo_value(read::value(given)?)))?;
    read::to_js(env, value)
}

/// The core's sample events, over and over, until there were `count`.
#[napi]
pub fn echo_events(bridge: &Bridge, id: i64, count: i64) -> napi::Result<Subscription> {
    attempt(|| {
        let events = boundary::echo_events(u64::try_from(count).unwrap_or(0))?;
        Ok(Subscription::new(events, bridge.inbox.clone(), id))
    })
}
