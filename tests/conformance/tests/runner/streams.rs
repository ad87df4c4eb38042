//! The steps about streams.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use peerage::{Result, Stream};
use serde_json::Value;

use super::{
    Played, Scene, same,
    values::{deadline, payload, text},
};

#[derive(Default)]
pub(super) struct Streams {
    open: HashMap<String, Stream>,
    /// Those that nobody reads.
    ignored: Arc<Mutex<Vec<Stream>>>,
}

impl Scene {
    pub(super) async fn stream_step(&mut self, verb: &str, with: &Value) -> Played {
        match verb {
            "handle_streams" => return Ok(self.handle_streams(with)),
            "unhandle_streams" => {
                let handled = self.node(with).unhandle_streams(text(with, "topic"));
                return same(&with["expect"], &handled.into());
            }
            "open_stream" => {
                let (target, topic) = (text(with, "target"), text(with, "topic"));
                let opened = self.node(with).open_stream(target, topic, deadline(with)).await;
                return Ok(opened.map(|stream| {
                    self.streams.open.insert(text(with, "as").into(), stream);
                }));
            }
            "close_stream" => {
                self.streams.open.remove(text(with, "stream")).unwrap();
                return Ok(Ok(()));
            }
            _ => {}
        }
        let stream = self.streams.open.get_mut(text(with, "stream")).unwrap();
        match verb {
            "write" => Ok(stream.write(payload(&with["payload"]), deadline(with)).await),
            "write_until_it_fails" => loop {
                if let Err(error) = stream.write(vec![0; 1000], None).await {
                    return Ok(Err(error));
                }
            },
            "sent" => same(&with["expect"], &stream.sent().into()),
            "finish" => Ok(stream.finish(None).await),
            "read" => {
                let expected = payload(&with["expect"]);
                let mut found = Vec::new();
                while found.len() < expected.len() {
                    match stream.read(deadline(with)).await {
                        Ok(Some(bytes)) => found.extend_from_slice(&bytes),
                        Ok(None) => return Err(format!("the end after {} bytes", found.len())),
                        Err(error) => return Ok(Err(error)),
                    }
                }
                if found == expected { Ok(Ok(())) } else { Err("others were read".into()) }
            }
            "read_end" => match stream.read(None).await {
                Ok(Some(bytes)) => Err(format!("{} more bytes", bytes.len())),
                Ok(None) => Ok(Ok(())),
                Err(error) => Ok(Err(error)),
            },
            "reset" => Ok(stream.reset(code(with))),
            "stop" => Ok(stream.stop(code(with))),
            other => panic!("no such verb: {other}"),
        }
    }

    fn handle_streams(&mut self, with: &Value) -> Result<()> {
        let (node, topic) = (self.node(with).clone(), text(with, "topic"));
        match text(with, "does") {
            "echo" => node.handle_streams(topic, |mut stream| async move {
                while let Some(bytes) = stream.read(None).await.map_err(|e| e.to_string())? {
                    stream.write(bytes, None).await.map_err(|e| e.to_string())?;
                }
                stream.finish(None).await.map_err(|e| e.to_string())
            }),
            "fail" => node.handle_streams(topic, |_| async { Err("told to fail".into()) }),
            "give_up" => node.handle_streams(topic, |mut stream| async move {
                stream.reset(7).map_err(|e| e.to_string())?;
                stream.stop(8).map_err(|e| e.to_string())
            }),
            "leave_unfinished" => node.handle_streams(topic, |_| async { Ok(()) }),
            "ignore" => {
                let ignored = self.streams.ignored.clone();
                node.handle_streams(topic, move |stream| {
                    ignored.lock().push(stream);
                    async { Ok(()) }
                })
            }
            other => panic!("a handler does no {other}"),
        }
    }
}

fn code(with: &Value) -> u32 {
    with["code"].as_u64().unwrap() as u32
}
