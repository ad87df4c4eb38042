//! A machine fed with bytes: what the fuzzers call, and the tests with what they found.

use std::time::Duration;

use bytes::Bytes;
use peerage::{
    Config, Direction, NodeId, Observation, State,
    member::{Instance, Peer},
    membership::{Effect, Input, Membership, Settings, Time},
    wire::{self, Frame, INCARNATION_MAX, Record, Want},
};

use crate::rules;

/// Reads bytes as a frame. What is read is written and read again alike.
pub fn frame(bytes: &[u8]) {
    let Ok(message) = wire::decode(bytes) else { return };
    let updates: Vec<Bytes> =
        message.updates.iter().map(|u| wire::encode_record(u).into()).collect();
    let again = wire::encode(&message.frame, &updates);
    assert_eq!(wire::decode(&again).ok(), Some(message), "{bytes:?}");
}

/// Reads bytes as what stands on streams, see [`peerage::transport::feed`].
pub fn stream(bytes: &[u8]) {
    peerage::transport::feed::feed(bytes);
}

/// Lets a machine live through what the bytes say: frames, raw or made of a few bytes, from a few
/// peers, links that come and go, commands, and time. Whatever comes, the rules hold.
pub fn machine(bytes: &[u8]) {
    let settings = Settings::new(peer(0), addr(0), &Config::new("fuzzed", "n0"));
    let mut fed = Fed { machine: Membership::new(settings, 1), now: Time(0), rest: bytes };
    fed.input(Input::Start);
    while let Some(what) = fed.byte() {
        fed.happen(what);
    }
}

struct Fed<'a> {
    machine: Membership,
    now: Time,
    rest: &'a [u8],
}

impl Fed<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> u64 {
        u64::from(self.byte().unwrap_or_default())
    }

    fn happen(&mut self, what: u8) {
        let from = peer(self.number() % 8);
        match what % 10 {
            0 => {
                let length = self.number() as usize;
                let (bytes, rest) = self.rest.split_at(length.min(self.rest.len()));
                self.rest = rest;
                self.input(Input::Frame { from, bytes: Bytes::copy_from_slice(bytes) });
            }
            1..=4 => {
                let frame = self.frame();
                let count = self.number() % 4;
                let updates: Vec<Bytes> =
                    (0..count).map(|_| wire::encode_record(&self.record()).into()).collect();
                let bytes = wire::encode(&frame, &updates);
                self.input(Input::Frame { from, bytes });
            }
            5 => {
                let (addr, dialed) = (addr(self.number() % 8), self.number().is_multiple_of(2));
                self.input(Input::LinkUp { peer: from, addr, dialed: dialed.then_some(addr) });
            }
            6 => {
                let broken = self.number().is_multiple_of(2);
                self.input(Input::LinkDown { peer: from, broken });
            }
            7 => self.input(Input::LinkTrouble { peer: from }),
            8 => {
                // Up to a quarter of an hour, now and then.
                self.now =
                    Time(self.now.0 + 1000 * self.number() * (1 + self.number() / 64 * 1200));
                self.input(Input::Tick);
            }
            _ => match self.number() % 4 {
                0 => self.input(Input::Leave),
                1 => self.input(Input::Unresponsive(true)),
                2 => match self.number() {
                    few if few < 16 => {
                        let others = (0..few).map(addr).collect();
                        self.input(Input::Full { others });
                    }
                    late => self.input(Input::Starved(Duration::from_millis(10 * late))),
                },
                _ => {
                    let tags = [("k".to_owned(), self.number().to_string())].into();
                    self.input(Input::SetTags(std::sync::Arc::new(tags)));
                }
            },
        }
    }

    fn frame(&mut self) -> Frame {
        let seq = self.number();
        match self.number() % 13 {
            0 => Frame::Gossip,
            1 => Frame::Ping {
                seq,
                target: peer(self.number() % 4),
                reliable: seq.is_multiple_of(2),
            },
            2 => Frame::Ack { seq },
            3 => Frame::PingReq { seq, target: peer(self.number() % 8), addr: addr(3) },
            4 => Frame::Nack { seq },
            5 => Frame::Join { fresh: seq.is_multiple_of(2) },
            6 => Frame::Welcome,
            7 => Frame::Refused,
            8 => Frame::Digest { hash: seq },
            9 => {
                let list = (0..seq % 4).map(|_| {
                    let r = self.record();
                    wire::Summary {
                        id: r.id,
                        instance: r.instance,
                        incarnation: r.incarnation,
                        state: r.state,
                    }
                });
                let list = list.collect();
                let (after, upto) = (self.number() % 9, self.number() % 9);
                let bound = |n: u64| (n < 8).then(|| peer(n).id);
                Frame::Summaries { after: bound(after), upto: bound(upto), list }
            }
            10 => Frame::Records { want: (0..seq % 4).map(|n| peer(n).id).collect() },
            11 => Frame::Conflict { uptime_ms: seq * 1000 },
            _ => Frame::Heartbeat {
                seq,
                seen: self.number(),
                every_ms: if seq.is_multiple_of(7) { 1 } else { 1000 },
                want: [Want::Nothing, Want::Edge, Want::Watch][seq as usize % 3],
            },
        }
    }

    fn record(&mut self) -> Record {
        let Peer { id, instance } = peer(self.number() % 8);
        let incarnation = match self.number() {
            n if n < 240 => n,
            // As far as anybody leaps, and the end.
            n if n < 248 => (1 << 32) - (247 - n),
            n => INCARNATION_MAX - (255 - n),
        };
        let late = incarnation.is_multiple_of(5);
        let state = [State::Alive, State::Suspect, State::Failed, State::Left];
        let observers = (0..self.number() % 5).map(|n| Observation {
            observer: peer(n).id,
            phi: (n.is_multiple_of(2)).then_some(8.5),
            missed_probes: n as u32,
            direction: Direction::FromMember,
            health_score: 1,
        });
        Record {
            id,
            instance: Instance(instance.0 + self.number() / 128),
            incarnation,
            state: state[(self.number() % 4) as usize],
            addr: addr(self.number() % 8),
            tags: std::sync::Arc::default(),
            observers: observers.collect(),
            // Of some the time is nearly over, or more than that.
            dead_for_ms: if late { incarnation.saturating_mul(1_000_000) } else { 0 },
            unresponsive: false,
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        let mut wrong = Vec::new();
        for effect in &out {
            if let Effect::Send { class, bytes, .. } = effect {
                rules::frame(*class, bytes, &mut wrong);
            }
        }
        assert_eq!(wrong, [""; 0]);
        let own = self.machine.own_record();
        assert!(matches!(own.state, State::Alive | State::Left), "rule 3: {own:?}");
        assert!(own.incarnation <= INCARNATION_MAX, "{own:?}");
        let known = self.machine.entries().count() + 1;
        assert!(self.machine.gossip_len() <= known, "rule 5");
        assert!(self.machine.probes_len() <= rules::PROBES_MAX, "rule 5");
        let edges = self.machine.watch_edges(self.now).count();
        assert!(edges <= self.machine.watch_edges_max(), "rule 5: {edges} edges");
    }
}

fn peer(n: u64) -> Peer {
    let id = NodeId::new(format!("n{n}")).expect("a short name without controls");
    Peer { id, instance: Instance(n) }
}

fn addr(n: u64) -> std::net::SocketAddr {
    ([10, 0, 0, n as u8], 7000).into()
}
