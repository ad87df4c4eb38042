//! The first packets of handshakes, made by hand: each costs its maker some microseconds and
//! whoever takes it a handshake, which is never finished.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use rustls::{
    Side, SupportedCipherSuite,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    pki_types::ServerName,
    quic::{ClientConnection, Connection, Version},
};

use crate::authority;

/// A packet that begins a handshake has at least so many bytes.
const BYTES: usize = 1200;
const TAG: usize = 16;
const ID: usize = 8;

/// Begins handshakes from one address.
pub struct HalfOpen {
    socket: UdpSocket,
    /// What TLS has to say first; the same each time.
    hello: Vec<u8>,
    ours: [u8; ID],
    /// What the last handshake began with.
    first: Vec<u8>,
    /// How many Retries came.
    pub retries: usize,
    /// How many handshakes the other side went on with.
    pub begun: usize,
}

impl HalfOpen {
    /// Sends from this address, to `to` alone.
    pub fn new(from: IpAddr, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        let ours = rand::random::<[u8; ID]>();
        // The one transport parameter that a server insists on: our connection id.
        let mut parameters = vec![0x0f, ID as u8];
        parameters.extend_from_slice(&ours);
        let name = ServerName::try_from("peerage").unwrap();
        let config = Arc::new(authority::client(None, &[]));
        let client = ClientConnection::new(config, Version::V1, name, parameters).unwrap();
        let mut hello = Vec::new();
        assert!(Connection::from(client).write_hs(&mut hello).is_none());
        Self { socket, hello, ours, first: Vec::new(), retries: 0, begun: 0 }
    }

    /// Begins one more handshake.
    pub fn begin(&mut self) {
        self.first = self.packet(&rand::random::<[u8; ID]>(), &[]);
        self.begin_again();
    }

    /// Sends the first packet of the last one again.
    pub fn begin_again(&self) {
        self.send(&self.first);
    }

    /// Takes the answers that are there. Whether it also proves its address, where that is asked.
    pub fn answer(&mut self, proves: bool) {
        let proofs = self.proofs();
        if proves {
            proofs.iter().for_each(|proof| self.send(proof));
        }
    }

    /// Takes the answers that are there, and returns what would prove its address, where that is
    /// asked.
    pub fn proofs(&mut self) -> Vec<Vec<u8>> {
        let (mut packet, mut proofs) = ([0; 2048], Vec::new());
        loop {
            let length = match self.socket.recv(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return proofs,
                Err(error) => panic!("{error}"),
            };
            let packet = &packet[..length];
            match packet[0] & 0xf0 {
                0xf0 => {
                    self.retries += 1;
                    proofs.extend(retry(packet).map(|(theirs, token)| self.packet(theirs, token)));
                }
                0xc0 => self.begun += 1,
                _ => {}
            }
        }
    }

    /// Sends one packet; a full buffer drops it.
    pub fn send(&self, packet: &[u8]) {
        let _ = self.socket.send(packet);
    }

    fn packet(&self, theirs: &[u8], token: &[u8]) -> Vec<u8> {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { unreachable!() };
        let keys = suite.quic_suite().unwrap().keys(theirs, Side::Client, Version::V1).local;
        let mut packet = vec![0xc0, 0, 0, 0, 1, theirs.len() as u8];
        packet.extend_from_slice(theirs);
        packet.push(ID as u8);
        packet.extend_from_slice(&self.ours);
        packet.extend_from_slice(&varint(token.len()));
        packet.extend_from_slice(token);
        // What follows: the packet's number in one byte, the payload, the tag.
        let header = packet.len() + 2 + 1;
        let payload = BYTES - header - TAG;
        packet.extend_from_slice(&varint(1 + payload + TAG));
        packet.push(0);
        let mut body = vec![0x06, 0x00]; // a CRYPTO frame from the beginning on
        body.extend_from_slice(&varint(self.hello.len()));
        body.extend_from_slice(&self.hello);
        assert!(body.len() <= payload, "a first flight that does not fit");
        body.resize(payload, 0); // padding
        let tag = keys.packet.encrypt_in_place(0, &packet, &mut body).unwrap();
        packet.extend_from_slice(&body);
        packet.extend_from_slice(tag.as_ref());
        let (front, sample) = packet.split_at_mut(header - 1 + 4);
        let (first, rest) = front.split_at_mut(1);
        let number = header - 2;
        keys.header
            .encrypt_in_place(&sample[..16], &mut first[0], &mut rest[number..=number])
            .unwrap();
        packet
    }
}

/// A number in two bytes.
fn varint(number: usize) -> [u8; 2] {
    (u16::try_from(number).unwrap() | 0x4000).to_be_bytes()
}

/// The connection id and the token of a Retry.
fn retry(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = packet.get(5..)?;
    let (_, rest) = rest[1..].split_at_checked(rest[0].into())?;
    let (theirs, rest) = rest.get(1..)?.split_at_checked((*rest.first()?).into())?;
    Some((theirs, rest.get(..rest.len().checked_sub(TAG)?)?))
}
