//! Certificates from files, as a program sees them: that they end soon, that they were replaced, and
//! that what they were replaced by cannot be used.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use peerage::{Cluster, EventKind, Events};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use support::{
    PATIENCE, event,
    recorder::{Kept, Value},
    until,
};

const DAY: i64 = 86_400;

/// An authority with a directory of its own.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-certificates-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// Gives a node a certificate that began 100 days ago and ends in so many.
    fn issue(&self, id: &str, days: i64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let at = |days: i64| {
            let seconds = now.checked_add_signed(days * DAY).unwrap();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (at(-100), at(days));
        params.subject_alt_names = vec![SanType::URI(format!("peerage:{id}").try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        fs::write(self.dir.join("key.pem"), key.serialize_pem()).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.dir.join("cert.pem"), cert.pem()).unwrap();
    }

    async fn start(&self, id: &str) -> Cluster {
        let file = |name: &str| self.dir.join(name);
        let builder =
            Cluster::builder("test", id).pem(file("ca.pem"), file("cert.pem"), file("key.pem"));
        builder.start().await.unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir); // what is left is in the system's own place for it
    }
}

async fn told(events: &mut Events, name: &str) -> EventKind {
    let seen = event(events, name, |kind| kind.name() == name).await;
    seen.into_iter().last().unwrap().kind
}

/// It is told that the certificate ends within these days, the last of which has begun.
async fn expires(events: &mut Events, days: i64) {
    let EventKind::CertificateExpiring { path, seconds_left } =
        told(events, "CertificateExpiring").await
    else {
        unreachable!()
    };
    assert!(path.ends_with("cert.pem"), "{path}");
    assert!(((days - 1) * DAY..=days * DAY).contains(&seconds_left.into()), "{seconds_left} s");
}

/// What the metric says, in days.
fn published(metrics: &Kept) -> Option<f64> {
    metrics.all().iter().find_map(|(key, value)| match value {
        Value::Gauge(seconds) if key.name() == "peerage_certificate_left_seconds" => {
            Some(seconds / DAY as f64)
        }
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn that_certificates_end_and_are_replaced_is_told_and_shown() {
    let metrics = Kept::install();
    let authority = Authority::new();
    authority.issue("n0", 20); // of 120 days: less than a third
    let node = authority.start("n0").await;
    let mut events = node.events();
    let left = node.stats().certificate_left.unwrap().as_secs() as i64;
    assert!((19 * DAY..=20 * DAY).contains(&left), "{left} s");
    until("a metric says so", || {
        published(&metrics).is_some_and(|days| (19.0..=20.0).contains(&days))
    })
    .await;

    // What there was to tell at the start, when nobody listened yet.
    expires(&mut events, 20).await;

    // Less than a tenth is told anew.
    authority.issue("n0", 10);
    node.reload_certificates().await.unwrap();
    let EventKind::CertificatesReloaded { path } = told(&mut events, "CertificatesReloaded").await
    else {
        unreachable!()
    };
    assert!(path.ends_with("cert.pem"), "{path}");
    expires(&mut events, 10).await;

    // What cannot be used is told, and what there was stays in use.
    fs::write(authority.dir.join("cert.pem"), "no certificate").unwrap();
    let EventKind::CertificatesRejected { path, reason } =
        told(&mut events, "CertificatesRejected").await
    else {
        unreachable!()
    };
    assert!(path.ends_with("cert.pem") && !reason.is_empty(), "{path}: {reason}");
    node.reload_certificates().await.unwrap_err();
    let left = node.stats().certificate_left.unwrap().as_secs() as i64;
    assert!((9 * DAY..=10 * DAY).contains(&left), "{left} s");

    // Noticed by itself within some seconds, where nobody asks.
    authority.issue("n0", 200);
    told(&mut events, "CertificatesReloaded").await;
    until("the new end is shown", || {
        node.stats().certificate_left.is_some_and(|left| left.as_secs() as i64 > 199 * DAY)
    })
    .await;
    until("a metric says so", || published(&metrics).is_some_and(|days| days > 199.0)).await;
    tokio::time::timeout(PATIENCE, node.shutdown_now()).await.unwrap().unwrap();
}
