//! One step of a scenario is one call, or one look that is repeated until it is as expected.

mod evidence;
mod streams;
mod values;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::{Cluster, EventKind, Events, Result, Secret, boundary::Face};
use peerage_conformance::certificates;
use serde_json::{Map, Value};

use values::{Step, deadline, field, payload, payloads, tags, text};

/// No step waits longer for what it expects.
const PATIENCE: Duration = Duration::from_secs(30);

type Kept = Arc<Mutex<Vec<Bytes>>>;

struct Scene {
    secrets: [String; 2],
    nodes: HashMap<String, Cluster>,
    subscriptions: HashMap<String, Events>,
    kept: HashMap<(String, String), Kept>,
    streams: streams::Streams,
    /// The last to go: nodes write into it.
    folder: Folder,
}

pub async fn play(path: &Path) {
    let scenario: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut scene = Scene {
        secrets: [Secret::generate().to_text(), Secret::generate().to_text()],
        folder: Folder::new(path.file_stem().unwrap()),
        nodes: HashMap::new(),
        subscriptions: HashMap::new(),
        kept: HashMap::new(),
        streams: streams::Streams::default(),
    };
    for (at, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
        let step = Step::new(step);
        if step.untyped {
            continue; // the types of Rust do not let us say it
        }
        let place = format!("{}, step {}: {}", path.display(), at + 1, step.shown());
        let outcome = tokio::time::timeout(PATIENCE * 2, scene.step(&step)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{place}: does not end"));
        match (outcome, step.error) {
            (Ok(Ok(())), None) => {}
            (Ok(Err(error)), Some(expected)) => values::compare(&error, expected, &place),
            (Ok(Ok(())), Some(expected)) => panic!("{place}: succeeds instead of {expected}"),
            (Ok(Err(error)), None) => panic!("{place}: {:?}: {error}", error.code()),
            (Err(found), _) => panic!("{place}: {found}"),
        }
    }
}

/// `Err` is what was found instead of what the step expects.
type Played = std::result::Result<Result<()>, String>;

impl Scene {
    async fn step(&mut self, step: &Step<'_>) -> Played {
        let with = step.with;
        match step.verb {
            "start" => Ok(self.start(with).await),
            "damage" => {
                let dir = self.meant(text(with, "dir").trim_start_matches('@'));
                fs::write(Path::new(&dir).join("node.peerage"), "damaged").unwrap();
                Ok(Ok(()))
            }
            "copy" => {
                let [from, to] = ["from", "to"].map(|name| self.named(&with[name]));
                let beside = format!("{to}.new");
                fs::copy(from, &beside).and_then(|_| fs::rename(&beside, to)).unwrap();
                Ok(Ok(()))
            }
            "join" => Ok(self.node(with).join(deadline(with)).await),
            "members" => {
                let node = self.node(with);
                see(&with["expect"], || {
                    let members = node.members();
                    let states =
                        members.iter().map(|m| (m.id.to_string(), m.state.as_str().into()));
                    Value::Object(states.collect())
                })
                .await
            }
            "get" => {
                let (node, id) = (self.node(with), text(with, "id"));
                let expect = &with["expect"];
                see(expect, || {
                    let Some(member) = node.get(id) else { return Value::Null };
                    let mut found = Map::new();
                    if expect.get("state").is_some() {
                        found.insert("state".into(), member.state.as_str().into());
                    }
                    if expect.get("tags").is_some() {
                        found.insert("tags".into(), serde_json::json!(&*member.tags));
                    }
                    Value::Object(found)
                })
                .await
            }
            "members_with" => {
                let wanted: Vec<_> = tags(with).into_iter().collect();
                let node = self.node(with);
                see(&with["expect"], || {
                    node.members_with(&wanted).iter().map(|m| m.id.as_str()).collect()
                })
                .await
            }
            "set_tags" => Ok(self.node(with).set_tags(tags(with)).await),
            "set_secrets" => {
                let given = field(&with["secrets"], &|name: &str| self.meant(name));
                let secrets = Face::C.secrets("secrets", given);
                Ok(secrets.and_then(|secrets| self.node(with).set_secrets(&secrets)))
            }
            "reload_certificates" => Ok(self.node(with).reload_certificates().await),
            "update_tag" => {
                Ok(self.node(with).update_tag(text(with, "key"), text(with, "value")).await)
            }
            "update_tags_at_once" => Ok(self.update_tags_at_once(with).await),
            "remove_tag" => match self.node(with).remove_tag(text(with, "key")).await {
                Ok(removed) => same(&with["expect"], &removed.into()),
                Err(error) => Ok(Err(error)),
            },
            "explain" => match self.node(with).explain(text(with, "id")).await {
                Ok(found) => evidence::explained(found.as_ref(), text(with, "id"), &with["expect"])
                    .map(|()| Ok(())),
                Err(error) => Ok(Err(error)),
            },
            "handle" => Ok(self.handle(with)),
            "unhandle" => {
                let handled = self.node(with).unhandle(text(with, "topic"));
                same(&with["expect"], &handled.into())
            }
            "request" => {
                let answer = self
                    .node(with)
                    .request(
                        text(with, "target"),
                        text(with, "topic"),
                        payload(&with["payload"]),
                        deadline(with),
                    )
                    .await;
                match (answer, with.get("expect")) {
                    (Ok(answer), Some(expected)) if answer != payload(expected) => {
                        Err(format!("the answer is {answer:?}"))
                    }
                    (answer, _) => Ok(answer.map(drop)),
                }
            }
            "cancelled_request" => self.cancelled_request(with).await,
            "send" => {
                let (target, topic) = (text(with, "target"), text(with, "topic"));
                let payload = payload(&with["payload"]);
                Ok(self.node(with).send(target, topic, payload, deadline(with)).await)
            }
            "kept" => {
                let key = (text(with, "node").to_owned(), text(with, "topic").to_owned());
                let kept = &self.kept[&key];
                let expected = payloads(&with["expect"]);
                until(|| *kept.lock() == expected, || format!("{:?}", kept.lock())).await
            }
            "subscribe" => {
                let events = self.node(with).events();
                self.subscriptions.insert(text(with, "as").into(), events);
                Ok(Ok(()))
            }
            "events" => self.events(with).await,
            "evidence" => {
                let found = self.expected(with, &with["expect"]).await?;
                evidence::seen(&found, &with["observers"]).map(|()| Ok(()))
            }
            "ended" => {
                let events = self.subscription(with);
                while next(events).await?.is_some() {}
                Ok(Ok(()))
            }
            "dropped" => self.dropped(with).await,
            "stats" => {
                let node = self.node(with);
                let names: Vec<_> = with["expect"].as_object().unwrap().keys().cloned().collect();
                see(&with["expect"], || {
                    let stats = node.stats();
                    names.iter().map(|name| (name.clone(), values::stat(&stats, name))).collect()
                })
                .await
            }
            "link" => {
                let (node, id) = (self.node(with), text(with, "id").to_owned());
                see(&with["expect"], || values::link(&node.stats(), &id, &with["expect"])).await
            }
            "leave" => match self.node(with).leave().await {
                Ok(report) => same(&with["complete"], &report.complete().into()),
                Err(error) => Ok(Err(error)),
            },
            "shutdown" => Ok(self.node(with).shutdown_now().await.map(drop)),
            "closed" => {
                let node = self.node(with);
                see(&with["code"], || {
                    node.closed().map_or(Value::Null, |error| error.code().name().into())
                })
                .await
            }
            other => self.stream_step(other, with).await,
        }
    }

    async fn start(&mut self, with: &Value) -> Result<()> {
        let name = text(with, "node");
        let mut config = Map::new();
        config.insert("cluster".into(), "conformance".into());
        config.insert("node_id".into(), name.into());
        config.insert("secret".into(), "@secret".into());
        for (field, value) in with.get("config").and_then(Value::as_object).into_iter().flatten() {
            config.insert(field.clone(), value.clone());
        }
        let meant = |name: &str| self.meant(name);
        let given = config.iter().map(|(name, value)| (name.clone(), field(value, &meant)));
        let config = Face::C.config(given.collect::<Vec<_>>())?;
        let cluster = Cluster::start(config).await?;
        self.nodes.insert(name.into(), cluster);
        Ok(())
    }

    /// What `@…` stands for.
    /// The file that a value names.
    fn named(&self, value: &Value) -> String {
        self.meant(value.as_str().unwrap().trim_start_matches('@'))
    }

    fn meant(&self, name: &str) -> String {
        if let Some(file) = name.strip_prefix("certificates/") {
            let folder = self.folder.path("certificates");
            if !Path::new(&folder).exists() {
                certificates::write(Path::new(&folder)).unwrap();
            }
            return Path::new(&folder).join(file).to_string_lossy().into_owned();
        }
        match (name, name.strip_prefix("dir/")) {
            ("secret", _) => self.secrets[0].clone(),
            ("other-secret", _) => self.secrets[1].clone(),
            (_, Some(folder)) => self.folder.path(folder),
            (node, None) => self.nodes[node].addr().to_string(),
        }
    }

    fn handle(&mut self, with: &Value) -> Result<()> {
        let (node, topic) = (self.node(with).clone(), text(with, "topic"));
        match text(with, "does") {
            "echo" => node.handle(topic, |request| async move { Ok(request.payload) }),
            "from" => node.handle(topic, |request| async move {
                Ok(Bytes::from(request.from.as_str().to_owned()))
            }),
            "fail" => node.handle(topic, |_| async { Err("told to fail".into()) }),
            "never" => node.handle(topic, |_| std::future::pending()),
            "keep" => {
                let kept = Kept::default();
                self.kept.insert((text(with, "node").into(), topic.into()), kept.clone());
                node.handle(topic, move |request| {
                    kept.lock().push(request.payload);
                    async { Ok(Bytes::new()) }
                })
            }
            other => panic!("a handler does no {other}"),
        }
    }

    async fn cancelled_request(&mut self, with: &Value) -> Played {
        let (node, target) = (self.node(with).clone(), &self.nodes[text(with, "target")]);
        let (id, topic) = (text(with, "target").to_owned(), text(with, "topic").to_owned());
        let payload = payload(&with["payload"]);
        let call = tokio::spawn(async move { node.request(&id, &topic, payload, None).await });
        let under_way = || target.stats().transport.requests_in;
        until(|| under_way() == 1, || format!("{} requests are under way", under_way()))
            .await?
            .ok();
        call.abort();
        match call.await {
            Err(end) if end.is_cancelled() => Ok(Ok(())),
            other => Err(format!("the call ended with {other:?}")),
        }
    }

    async fn events(&mut self, with: &Value) -> Played {
        for wanted in with["expect"].as_array().unwrap() {
            self.expected(with, wanted).await?;
        }
        Ok(Ok(()))
    }

    /// The next event, which is this one.
    async fn expected(
        &mut self,
        with: &Value,
        wanted: &Value,
    ) -> std::result::Result<EventKind, String> {
        let events = self.subscription(with);
        let event = loop {
            match next(events).await? {
                None => return Err(format!("the events end before {wanted}")),
                Some(EventKind::LocalHealthChanged { .. }) => {}
                Some(kind @ EventKind::HealthCheckFailed { .. }) if wanted[0] != kind.name() => {}
                Some(kind) => break kind,
            }
        };
        let id = event.member().map(|m| m.id.as_str());
        let found = serde_json::json!([event.name(), id]);
        if found == *wanted { Ok(event) } else { Err(format!("{found} comes instead of {wanted}")) }
    }

    async fn update_tags_at_once(&self, with: &Value) -> Result<()> {
        let calls = tags(with).into_iter().map(|(key, value)| {
            let node = self.node(with).clone();
            tokio::spawn(async move { node.update_tag(&key, &value).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap()?;
        }
        Ok(())
    }

    async fn dropped(&mut self, with: &Value) -> Played {
        match next(self.subscription(with)).await? {
            Some(EventKind::EventsDropped { count, members }) if count > 0 => {
                let found: BTreeMap<_, _> =
                    members.iter().map(|m| (m.id.as_str(), &*m.tags)).collect();
                same(&with["members"], &serde_json::json!(found))
            }
            other => Err(format!("{other:?} comes instead")),
        }
    }

    fn node(&self, with: &Value) -> &Cluster {
        &self.nodes[text(with, "node")]
    }

    fn subscription(&mut self, with: &Value) -> &mut Events {
        self.subscriptions.get_mut(text(with, "subscription")).unwrap()
    }
}

/// The scenario's own folder, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(scenario: &OsStr) -> Self {
        let name = format!("peerage-{}-{}", scenario.display(), std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a test's rest, in the place for such
    }
}

async fn next(events: &mut Events) -> std::result::Result<Option<EventKind>, String> {
    let event = tokio::time::timeout(PATIENCE, events.next()).await;
    event.map(|event| event.map(|e| e.kind)).map_err(|_| "no event comes".into())
}

/// Looks until it is as expected.
async fn see(expected: &Value, mut look: impl FnMut() -> Value) -> Played {
    let found = std::cell::RefCell::new(Value::Null);
    until(
        || {
            *found.borrow_mut() = look();
            *found.borrow() == *expected
        },
        || found.borrow().to_string(),
    )
    .await
}

async fn until(mut holds: impl FnMut() -> bool, found: impl Fn() -> String) -> Played {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("{} after {PATIENCE:?}", found()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(Ok(()))
}

fn same(expected: &Value, found: &Value) -> Played {
    if expected == found { Ok(Ok(())) } else { Err(format!("{found} instead of {expected}")) }
}
