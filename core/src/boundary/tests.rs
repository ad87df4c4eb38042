use std::time::Duration;

use super::{
    Face, Failure, Value, echo_events, echo_value,
    fields::NAMES,
    guarded,
    read::{Read, Ways},
    run, sample_events, start,
};
use crate::{
    config::{Config, Security},
    error::{Code, Error},
};

fn given(fields: &[(&str, Value)]) -> Vec<(String, Value)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn base() -> Vec<(String, Value)> {
    given(&[("cluster", "c".into()), ("nodeId", "n".into()), ("insecure", true.into())])
}

fn wrong(face: &Face, fields: Vec<(String, Value)>) -> Vec<(String, String)> {
    match face.config(fields) {
        Err(Error::Config(fields)) => {
            fields.into_iter().map(|f| (f.field.into_owned(), f.expected)).collect()
        }
        Err(other) => panic!("{other}"),
        Ok(config) => panic!("it was accepted: {config:?}"),
    }
}

#[test]
fn a_configuration_is_read_with_the_units_and_names_of_the_language() {
    let mut node = base();
    node.extend(given(&[
        ("probeInterval", Value::Float(2500.0)),
        ("linksMax", Value::Float(70.0)),
        ("payloadMax", Value::Int(1 << 30)),
        ("seeds", vec!["127.0.0.1:7000", "[::1]:7000"].into()),
        ("tags", Value::Map(vec![("role".into(), "worker".into())])),
        ("advertise", Value::Null),
    ]));
    let config = Face::NODE.config(node).unwrap();
    assert_eq!(config.probe_interval, Duration::from_millis(2500));
    assert_eq!((config.links_max, config.payload_max), (70, 1 << 30));
    assert_eq!(config.seeds.len(), 2);
    assert_eq!(config.tags["role"], "worker");
    assert!(matches!(config.security, Some(Security::Insecure)));

    let python = given(&[
        ("cluster", "c".into()),
        ("node_id", "n".into()),
        ("secret", "0123456789abcdef".into()),
        ("probe_interval", Value::Float(2.5)),
        ("probe_timeout", Value::Duration(Duration::from_millis(100))),
    ]);
    let config = Face::PYTHON.config(python).unwrap();
    assert_eq!(config.probe_interval, Duration::from_millis(2500));
    assert_eq!(config.probe_timeout, Duration::from_millis(100));
}

#[test]
fn every_field_given_as_nonsense_is_named_as_the_language_writes_it() {
    for face in [Face::NODE, Face::PYTHON, Face::C] {
        for name in NAMES {
            let mut fields: Vec<_> = base()
                .into_iter()
                .map(|(key, value)| {
                    let key = if key == "nodeId" { "node_id" } else { &key };
                    (face.name(key).into_owned(), value)
                })
                .filter(|(key, _)| *key != face.name(name))
                .collect();
            fields.push((face.name(name).into_owned(), Value::Other("a function".into())));
            let found = wrong(&face, fields);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].0, face.name(name));
        }
    }
}

#[test]
fn all_that_is_wrong_is_in_one_error() {
    let found = wrong(
        &Face::NODE,
        given(&[
            ("nodeId", Value::Int(5)),
            ("probeIntervall", Value::Int(5)),
            ("linksMax", Value::Float(7.5)),
            ("requestsMax", Value::Int(0)),
            ("probeTimeout", Value::Float(f64::NAN)),
            ("drainTimeout", Value::Float(-1.0)),
            ("secret", "short".into()),
        ]),
    );
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "nodeId",
        "probeIntervall",
        "linksMax",
        "probeTimeout",
        "drainTimeout",
        "secret",
        "cluster",
        "requestsMax",
    ];
    assert_eq!(names, expected);
    assert_eq!(found[1].1, "is no configuration field; did you mean probeInterval?");
    assert_eq!(found[2].1, "must be 4 to 10000");
}

#[test]
fn ways_to_authenticate_exclude_one_another() {
    let with = |more: &[(&str, Value)]| {
        let mut fields = base();
        fields.extend(given(more));
        fields
    };
    let found = wrong(&Face::NODE, with(&[("secret", "0123456789abcdef".into())]));
    assert_eq!(
        found,
        [("security".into(), "choose one: a secret, secrets, PEM files, or insecure".into())]
    );
    let found =
        wrong(&Face::NODE, with(&[("insecure", Value::Bool(false)), ("ca", "ca.pem".into())]));
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cert", "key"]);
}

#[test]
fn a_secret_is_never_repeated() {
    for value in [Value::from("tooshort"), Value::Bytes(b"tooshort".to_vec())] {
        let mut fields = base();
        fields.retain(|(key, _)| key != "insecure");
        fields.push(("secret".into(), value));
        let error = Face::NODE.config(fields).unwrap_err();
        assert!(!error.to_string().contains("tooshort"), "{error}");
    }
}

#[test]
fn the_boundary_knows_every_field_of_the_configuration() {
    // What is set by name must arrive: every field but the first two differs from its default.
    let mut config = Config::new("", "");
    let (mut ways, mut read) = (Ways::default(), Read::new(super::Unit::Milliseconds));
    for name in NAMES {
        super::fields::set(name, Value::Null, &mut config, &mut ways, &mut read);
    }
    let Err(Error::Config(wrong)) = read.done(&Face::C) else { panic!("nothing was read") };
    let found: Vec<_> = wrong.iter().map(|f| f.field.as_ref()).collect();
    assert_eq!(found, NAMES);
}

#[test]
fn arguments_are_named_in_their_errors() {
    let error = Face::NODE.text("target", Value::Int(3)).unwrap_err();
    assert_eq!(error.code(), Code::Argument);
    assert_eq!(error.to_string(), "target = 3: must be text");
    let error = Face::PYTHON.deadline("deadline", Value::Float(f64::INFINITY)).unwrap_err();
    assert_eq!(error.to_string(), "deadline = inf: must be 1ms to 3600s, in seconds");
    assert_eq!(Face::NODE.deadline("deadline", Value::Null).unwrap(), None);
    assert_eq!(
        Face::NODE.deadline("deadline", Value::Float(1.5)).unwrap(),
        Some(Duration::from_micros(1500))
    );
    let error = Face::NODE.payload("payload", Value::Bool(true)).unwrap_err();
    assert_eq!(error.to_string(), "payload = true: must be bytes or text");
    assert_eq!(Face::C.count("max", Value::Int(1), 1, 9).unwrap(), 1);
    assert!(Face::C.count("max", Value::Int(10), 1, 9).is_err());
}

#[test]
fn failures_name_fields_as_the_language_does() {
    let error = Face::NODE.config(Vec::new()).unwrap_err();
    let failure = Failure::new(&Face::NODE, &error);
    assert_eq!(failure.code.name(), "Config");
    assert!(failure.message.contains("nodeId = "), "{}", failure.message);
    assert_eq!(failure.details[0].0, "fields");
}

#[test]
fn codes_are_numbered_and_named_once() {
    let numbers: Vec<_> = Code::ALL.iter().map(|code| *code as i32).collect();
    assert_eq!(numbers, (1..=numbers.len() as i32).collect::<Vec<_>>());
    assert_eq!(Code::Timeout.name(), "Timeout");
}

#[test]
fn a_panic_stops_at_the_boundary() {
    let error = guarded::<()>(|| panic!("in a call")).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        (Code::Panic, "the call panicked: in a call".into())
    );
    let (done, outcome) = std::sync::mpsc::channel();
    run::<()>(async { panic!("in a future") }, move |result| done.send(result).unwrap());
    let error = outcome.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Panic);
}

#[test]
fn a_cancelled_call_drops_what_it_holds() {
    let (held, gone) = std::sync::mpsc::channel::<()>();
    let call = run(
        async move {
            let _held = held;
            std::future::pending::<()>().await;
            Ok(())
        },
        |_| panic!("a cancelled call has no outcome"),
    );
    call.cancel();
    let gone = gone.recv_timeout(Duration::from_secs(10));
    assert_eq!(gone, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[tokio::test]
async fn a_node_joins_nobody_while_its_gate_is_held() {
    let config = |id: &str, seeds: Vec<&str>| {
        let mut fields = base();
        fields.retain(|(key, _)| key != "nodeId");
        fields.extend(given(&[("nodeId", id.into()), ("seeds", seeds.into())]));
        Face::NODE.config(fields).unwrap()
    };
    let seed = crate::Cluster::start(config("seed", Vec::new())).await.unwrap();
    let addr = seed.addr().to_string();
    let (held, gate) = start(config("held", vec![&addr])).await.unwrap();
    assert_eq!(held.local().addr, held.addr());
    let error = held.join(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code(), Code::JoinFailed);
    assert!(seed.get("held").is_none());
    drop(gate);
    held.join(Duration::from_secs(30)).await.unwrap();

    // One that is dropped, or stopped, behind its gate ends all the same.
    let (stopped, _gate) = start(config("stopped", vec![&addr])).await.unwrap();
    stopped.shutdown_now().await.unwrap();
    let (dropped, _gate) = start(config("dropped", vec![&addr])).await.unwrap();
    let ended = dropped.ended();
    drop(dropped);
    ended.await.unwrap();
    assert!(seed.get("stopped").is_none() && seed.get("dropped").is_none());
    held.leave().await.unwrap();
    seed.leave().await.unwrap();
}

#[tokio::test]
async fn echoed_events_come_whole_and_end() {
    let samples = sample_events().unwrap();
    let events = echo_events(30_000).unwrap();
    let mut count = 0u64;
    while events.ready().await {
        for event in events.take(1000) {
            assert_eq!(event.kind, samples[(count % samples.len() as u64) as usize]);
            count += 1;
            assert_eq!(event.seq, count);
        }
    }
    assert!(events.ended());
    assert_eq!(count, 30_000);
    assert_eq!(echo_value(Value::Int(i128::from(u64::MAX))), Value::Int(i128::from(u64::MAX)));
}
