//! A peer with a stack of its own. With the secret it is a valid member as far as anybody can tell;
//! what it says after that is its own affair.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use peerage::Secret;
use s2n_quic::{
    Client, Connection,
    client::Connect,
    connection::{self, Handle, StreamAcceptor},
    provider::{limits::Limits, tls::rustls},
    stream::{self, ReceiveStream, SendStream},
};
use tokio::time::timeout;

use crate::authority;

/// The first byte of a stream of one way.
pub const KIND_FRAME: u8 = 0;
/// Likewise.
pub const KIND_MESSAGE: u8 = 1;

const HOUR: Duration = Duration::from_secs(3600);

/// Streams that are held open.
#[derive(Default)]
pub struct Held(pub Vec<SendStream>, pub Vec<ReceiveStream>);

/// A client that speaks for the node `id`.
pub struct Intruder {
    client: Client,
    id: String,
}

impl Intruder {
    /// With a certificate of the cluster if it holds its secret. Must be called in a runtime.
    pub fn new(secret: Option<&Secret>, id: &str) -> Self {
        Self::of_many(secret, &[id.to_owned()])
    }

    /// With a certificate for each of these, which it shows in turn; it calls itself the first.
    pub fn of_many(secret: Option<&Secret>, ids: &[String]) -> Self {
        const STREAMS: u64 = 10_000;
        let limits = Limits::new()
            .with_max_idle_timeout(Duration::from_secs(60))
            .and_then(|limits| limits.with_max_keep_alive_period(Duration::from_secs(1)))
            .and_then(|limits| limits.with_max_open_local_bidirectional_streams(STREAMS))
            .and_then(|limits| limits.with_max_open_local_unidirectional_streams(STREAMS))
            // It grants nobody much room, so that answers to it get stuck.
            .and_then(|limits| limits.with_bidirectional_local_data_window(4096))
            .unwrap();
        let client = Client::builder()
            .with_tls(rustls::Client::from(authority::client(secret, ids)))
            .unwrap()
            .with_limits(limits)
            .unwrap()
            .with_io("127.0.0.1:0")
            .unwrap()
            .start()
            .unwrap();
        Self { client, id: ids[0].clone() }
    }

    /// A connection on which nothing was said yet.
    pub async fn connect(&self, addr: SocketAddr) -> Result<Connection, connection::Error> {
        let mut connection =
            self.client.connect(Connect::new(addr).with_server_name("peerage")).await?;
        connection.keep_alive(true)?;
        Ok(connection)
    }

    /// A link: a connection that has passed the hello.
    pub async fn link(&self, addr: SocketAddr) -> (Handle, StreamAcceptor) {
        self.link_of(addr, rand::random(), rand::random()).await
    }

    /// A link of a certain process, as its dial of that number.
    pub async fn link_of(
        &self,
        addr: SocketAddr,
        instance: u64,
        serial: u64,
    ) -> (Handle, StreamAcceptor) {
        let (mut handle, acceptor) = self.connect(addr).await.unwrap().split();
        let (mut receive, mut send) = handle.open_bidirectional_stream().await.unwrap().split();
        // Who has read it all lets go of the stream, perhaps before it was told to end.
        let _ = send.send(self.hello_of(instance, serial)).await.and_then(|()| send.finish());
        let answer = receive.receive().await.unwrap().unwrap();
        // Magic, two versions, the length; then the kind of answer.
        assert_eq!((&answer[..4], answer[10]), (&b"peer"[..], 0), "not welcome: {answer:?}");
        (handle, acceptor)
    }

    /// A link on which nothing that comes is answered.
    pub async fn deaf_link(&self, addr: SocketAddr) -> Handle {
        let (handle, mut acceptor) = self.link(addr).await;
        tokio::spawn(async move { while let Ok(Some(_)) = acceptor.accept().await {} });
        handle
    }

    /// Asks as an honest peer would. Whether there is an answer.
    pub async fn ask(handle: &mut Handle) -> bool {
        let Ok(stream) = handle.open_bidirectional_stream().await else { return false };
        let (mut receive, mut send) = stream.split();
        let head = request_head("echo", HOUR, 0);
        send.send(head).await.and_then(|()| send.finish()).is_ok()
            && matches!(receive.receive().await, Ok(Some(answer)) if answer[0] == 0)
    }

    /// Begins requests with a deadline that is an hour away, which announce so many bytes, of which
    /// so many are sent, if the other side takes them. Their streams never end.
    pub async fn withhold(handle: &mut Handle, requests: usize, bytes: u64, sent: u64) -> Held {
        let mut held = Held::default();
        let chunk = Bytes::from(vec![0x55; 64 << 10]);
        for _ in 0..requests {
            let (receive, mut send) = handle.open_bidirectional_stream().await.unwrap().split();
            match send.send(request_head("echo", HOUR, bytes)).await {
                // One too many may be refused before we hear that it was sent.
                Ok(()) | Err(stream::Error::StreamReset { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let mut left = sent;
            while left > 0 {
                let part = chunk.slice(..chunk.len().min(left as usize));
                left -= part.len() as u64;
                if timeout(Duration::from_millis(500), send.send(part)).await.is_err() {
                    break;
                }
            }
            held.0.push(send);
            held.1.push(receive);
        }
        held
    }

    /// What an honest peer would say first.
    pub fn hello(&self) -> Bytes {
        self.hello_of(rand::random(), rand::random())
    }

    fn hello_of(&self, instance: u64, serial: u64) -> Bytes {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9));
        let expect: Option<String> = None;
        let generation = 0u64;
        let slot = 0u16;
        let said = ("test", &self.id, instance, listen, expect, serial, generation, slot);
        let body = postcard::to_stdvec(&said).unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_slice(b"peer\0\x01\0\x01");
        bytes.put_u16(u16::try_from(body.len()).unwrap());
        bytes.put_slice(&body);
        bytes.freeze()
    }
}

/// How a stream of programs begins, with room for an answer.
pub fn stream_head(topic: &str) -> Bytes {
    const MARK: u16 = 0x5354;
    let mut head = BytesMut::new();
    head.put_u16(MARK);
    head.put_u16(topic.len() as u16);
    head.put_u32(10_000);
    head.put_u64(64 << 10);
    head.put_slice(topic.as_bytes());
    head.freeze()
}

/// The head of a request that announces so many bytes.
fn request_head(topic: &str, deadline: Duration, bytes: u64) -> Bytes {
    let mut head = BytesMut::new();
    head.put_u16(u16::try_from(topic.len()).unwrap());
    head.put_u32(u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX));
    head.put_u64(bytes);
    head.put_slice(topic.as_bytes());
    head.freeze()
}
