//! What programs see through `tracing`: stable targets, spans that say where, and no flood.
#![allow(clippy::unwrap_used)] // what a test is not prepared for may panic

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use peerage::{Cluster, Secret};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The targets that docs/REFERENCE.md lists.
fn targets() -> BTreeSet<&'static str> {
    let reference = include_str!("../../docs/REFERENCE.md").lines();
    let rows = reference.filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).filter(|t| t.starts_with("peerage::")).collect()
}

/// All `target: "…"` in the core's code.
fn targets_of(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            targets_of(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let code = fs::read_to_string(&path).unwrap();
            let named = code.split("target: \"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn the_reference_lists_the_targets_that_the_code_has() {
    let mut found = BTreeSet::new();
    targets_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.remove("peerage::…"); // in the macro's documentation
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), targets());
    assert!(found.len() >= 10, "{found:?}");
}

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

/// One that has no business there tries to get in, in vain.
async fn intrude(stranger: Cluster) {
    assert!(stranger.join(Duration::from_secs(2)).await.is_err());
    stranger.shutdown_now().await.unwrap();
}

/// One of another cluster, and one with another secret.
async fn strangers(id: &str, seed: &Cluster) -> [Cluster; 2] {
    let secret = Cluster::builder("c", id).secret(Secret::generate()).seed(seed.addr());
    [start("other", id, Some(seed)).await, secret.start().await.unwrap()]
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
    let intruders: Vec<_> = (0..40)
        .map(|n| {
            let seed = a.clone();
            tokio::spawn(async move {
                let [other, unknown] = strangers(&format!("s{n}"), &seed).await;
                tokio::join!(intrude(other), intrude(unknown));
            })
        })
        .collect();
    for intruder in intruders {
        intruder.await.unwrap();
    }
    // Some more, until one of each comes in another second: its line says how many there were.
    let says = |target: &str, words: &str| {
        kept.lines.lock().iter().any(|(of, line)| {
            of == target && line.contains(words) && !line.contains("kept_back=0 ")
        })
    };
    while !says("peerage::hello", "refused") || !says("peerage::tls", "not authenticated") {
        assert!(began.elapsed() < PATIENCE, "no line says how many are missing");
        let [other, unknown] = strangers("late", &a).await;
        tokio::join!(intrude(other), intrude(unknown));
    }
    let refusals = a.stats().transport.wrong_cluster;
    assert!(refusals >= 40, "{refusals}");
    let unauthenticated = a.stats().transport.unauthenticated;
    assert!(unauthenticated >= 40, "{unauthenticated}");
    b.leave().await.unwrap();
    a.shutdown_now().await.unwrap();

    let spans = kept.spans.lock();
    let lines = kept.lines.lock();
    let targets: BTreeSet<&str> =
        lines.iter().map(|line| &*line.0).chain(spans.values().map(|span| &*span.0)).collect();
    assert!(targets.is_subset(&self::targets()), "{targets:?}");
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
    let seconds = began.elapsed().as_secs() + 1;
    for (target, words, a_second) in
        [("peerage::hello", "refused", 10), ("peerage::tls", "not authenticated", 1)]
    {
        let (lines, most) = (of(target, words) as u64, a_second * seconds);
        assert!((1..=most).contains(&lines), "{lines} lines of {target} in {seconds} s");
    }
    // Who dials judges first, and says what it thinks of the other's certificate.
    assert!(
        of("peerage::tls", "our certificate is of no secret or authority that it accepts") >= 1
    );
}
