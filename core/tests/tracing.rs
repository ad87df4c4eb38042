//! What programs see through `tracing`: stable targets, spans that say where, and no flood.
#![allow(clippy::unwrap_used)] // what a test is not prepared for may panic

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use peerage::Cluster;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The targets that docs/REFERENCE.md lists.
const TARGETS: [&str; 10] = [
    "peerage::dial",
    "peerage::hello",
    "peerage::keys",
    "peerage::link",
    "peerage::membership",
    "peerage::node",
    "peerage::pool",
    "peerage::request",
    "peerage::state",
    "peerage::tls",
];

/// Keeps all that is ours.
#[derive(Default)]
struct Kept {
    next: AtomicU64,
    /// Target, name and fields of each span, and how often it was entered.
    spans: Mutex<BTreeMap<u64, (String, String, String, u64)>>,
    /// Target and fields of each line.
    lines: Mutex<Vec<(String, String)>>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.module_path().is_some_and(|path| path.starts_with("peerage"))
}

struct Shared(&'static Kept);

impl Subscriber for Shared {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata)
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        let (id, of) = (self.0.next.fetch_add(1, Relaxed) + 1, attributes.metadata());
        let span = (of.target().to_owned(), of.name().to_owned(), fields.0, 0);
        self.0.spans.lock().insert(id, span);
        span::Id::from_u64(id)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lines.lock().push((event.metadata().target().to_owned(), fields.0));
    }
    fn enter(&self, id: &span::Id) {
        if let Some(span) = self.0.spans.lock().get_mut(&id.into_u64()) {
            span.3 += 1;
        }
    }
    fn exit(&self, _: &span::Id) {}
}

async fn start(cluster: &str, id: &str, seed: Option<&Cluster>) -> Cluster {
    let seeds: Vec<_> = seed.iter().map(|seed| seed.addr()).collect();
    Cluster::builder(cluster, id).insecure().seeds(seeds).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_spans_have_stable_targets_and_are_no_flood() {
    let kept: &'static Kept = Box::leak(Box::default());
    tracing::subscriber::set_global_default(Shared(kept)).unwrap();
    let began = Instant::now();
    let a = Arc::new(start("c", "a", None).await);
    let b = start("c", "b", Some(&a)).await;
    b.join(PATIENCE).await.unwrap();
    a.handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    b.request("a", "echo", "x", PATIENCE).await.unwrap();
    // Strangers who dial as quickly as they can: lines about them are few.
    let strangers: Vec<_> = (0..40)
        .map(|n| {
            let seed = a.clone();
            tokio::spawn(async move {
                let stranger = start("other", &format!("s{n}"), Some(&seed)).await;
                assert!(stranger.join(Duration::from_secs(2)).await.is_err());
                stranger.shutdown_now().await.unwrap();
            })
        })
        .collect();
    for stranger in strangers {
        stranger.await.unwrap();
    }
    // Some more, until one comes in another second: its line says how many there were.
    let says = |line: &(String, String)| {
        line.0 == "peerage::hello" && line.1.contains("refused") && !line.1.contains("kept_back=0 ")
    };
    while !kept.lines.lock().iter().any(says) {
        assert!(began.elapsed() < PATIENCE, "no line says how many are missing");
        let late = start("other", "late", Some(&a)).await;
        assert!(late.join(Duration::from_secs(2)).await.is_err());
        late.shutdown_now().await.unwrap();
    }
    let refusals = a.stats().transport.wrong_cluster;
    assert!(refusals >= 40, "{refusals}");
    b.leave().await.unwrap();
    a.shutdown_now().await.unwrap();

    let spans = kept.spans.lock();
    let lines = kept.lines.lock();
    let targets: BTreeSet<&str> =
        lines.iter().map(|line| &*line.0).chain(spans.values().map(|span| &*span.0)).collect();
    assert!(targets.iter().all(|target| TARGETS.contains(target)), "{targets:?}");
    let entered = |target: &str, name: &str, fields: &[&str]| {
        let found = spans.values().any(|(of, called, has, times)| {
            of == target && called == name && *times > 0 && fields.iter().all(|f| has.contains(f))
        });
        assert!(found, "{target} {name} {fields:?}");
    };
    entered("peerage::node", "node", &["cluster=c", "id=a"]);
    entered("peerage::dial", "dial", &["addr=127.0.0.1:", "slot=0"]);
    entered("peerage::link", "link", &["peer=b", "slot=0", "dialed=false"]);
    entered("peerage::request", "call", &["kind=\"request\"", "peer=a", "topic=\"echo\""]);
    let of = |target: &str, words: &str| {
        lines.iter().filter(|line| line.0 == target && line.1.contains(words)).count()
    };
    assert!(of("peerage::membership", "MemberJoined") >= 2);
    assert!(of("peerage::node", "leave") >= 1);
    let (refused, most) = (of("peerage::hello", "refused"), 10 * (began.elapsed().as_secs() + 1));
    assert!((1..=most).contains(&(refused as u64)), "{refused} lines");
}
