//! Raw s2n-quic, used as well as it can be with one connection.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::PrivatePkcs8KeyDer,
    version::TLS13,
};
use s2n_quic::{
    Client, Server,
    client::Connect,
    connection::Handle,
    provider::{
        limits::Limits,
        tls::rustls::{Client as ClientTls, Server as ServerTls},
    },
    stream::{BidirectionalStream, PeerStream, ReceiveStream},
};
use tokio::{
    runtime::{self, Runtime},
    task::JoinHandle,
};

use crate::contest::{Ask, Requester, work};

const NAME: &str = "localhost";
const ALPN: &[u8] = b"echo";

/// A server, and a connection to it.
pub(crate) struct Raw {
    connection: Handle,
    // Both must live as long as the connection.
    _client: Client,
    server: JoinHandle<()>,
    /// Where both run, if not on the requesters' runtime.
    apart: Option<Runtime>,
}

impl Raw {
    /// On a runtime of its own, as a library's is that must not depend on its program's.
    pub(crate) async fn start_apart() -> Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut raw = runtime.spawn(Self::start()).await??;
        raw.apart = Some(runtime);
        Ok(raw)
    }

    pub(crate) async fn start() -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let certificate = certified.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut tls = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = ServerTls::from(tls);
        let mut server = Server::builder()
            .with_tls(tls)?
            .with_limits(limits()?)?
            .with_io("127.0.0.1:0")?
            .start()?;
        let addr = server.local_addr()?;
        let server = tokio::spawn(async move {
            while let Some(mut connection) = server.accept().await {
                tokio::spawn(async move {
                    while let Ok(Some(stream)) = connection.accept().await {
                        // An error ends this stream only; the requester sees it.
                        match stream {
                            PeerStream::Bidirectional(stream) => {
                                tokio::spawn(async move { echo(stream).await.ok() });
                            }
                            PeerStream::Receive(stream) => {
                                tokio::spawn(async move { sink(stream).await.ok() });
                            }
                        }
                    }
                });
            }
        });

        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = ClientTls::from(tls);
        let client = Client::builder()
            .with_tls(tls)?
            .with_limits(limits()?)?
            .with_io("127.0.0.1:0")?
            .start()?;
        let mut connection = client.connect(Connect::new(addr).with_server_name(NAME)).await?;
        connection.keep_alive(true)?;
        let (connection, _) = connection.split();
        Ok(Self { connection, _client: client, server, apart: None })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(runtime) = self.apart.take() {
            runtime.shutdown_background();
        }
    }
}

/// The cryptography of Peerage's transport, and so the same cipher: it decides how fast raw is.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// The limits of Peerage's transport.
fn limits() -> Result<Limits> {
    const CONNECTION_WINDOW: u64 = 4 << 20;
    const STREAM_WINDOW: u64 = 1 << 20;
    const STREAMS: u64 = 4096;
    Ok(Limits::new()
        .with_data_window(CONNECTION_WINDOW)?
        .with_bidirectional_local_data_window(STREAM_WINDOW)?
        .with_bidirectional_remote_data_window(STREAM_WINDOW)?
        .with_unidirectional_data_window(STREAM_WINDOW)?
        .with_max_open_local_bidirectional_streams(STREAMS)?
        .with_max_open_remote_bidirectional_streams(STREAMS)?
        .with_initial_round_trip_time(Duration::from_millis(30))?)
}

async fn echo(mut stream: BidirectionalStream) -> Result<()> {
    let request = read_to_end(&mut stream).await?;
    work(&request).await;
    stream.send(request).await?;
    stream.finish()?;
    Ok(())
}

async fn sink(mut stream: ReceiveStream) -> Result<()> {
    while stream.receive().await?.is_some() {}
    Ok(())
}

async fn read_to_end(stream: &mut BidirectionalStream) -> Result<Bytes> {
    let first = stream.receive().await?.unwrap_or_default();
    let Some(second) = stream.receive().await? else { return Ok(first) };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    while let Some(more) = stream.receive().await? {
        all.extend_from_slice(&more);
    }
    Ok(all.freeze())
}

impl Requester for Raw {
    type Asker = Handle;

    fn requester(&self) -> Handle {
        self.connection.clone()
    }
}

impl Ask for Handle {
    async fn ask(&mut self, _: &str, payload: Bytes) -> Result<Bytes> {
        let mut stream = self.open_bidirectional_stream().await.context("no stream")?;
        stream.send(payload).await?;
        stream.finish()?;
        read_to_end(&mut stream).await
    }
}
