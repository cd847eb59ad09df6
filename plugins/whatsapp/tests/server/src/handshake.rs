//! The server's side of the beginning of a connection: the intro, and the Noise handshake that follows it. A client that
//! knows the server's key sends all it has at once (IK); one that does not takes a round trip more (XX); and one whose
//! knowledge is out of date is answered as if it had none (XX as fallback).
//!
//! Nothing here reads a socket: the caller feeds frames, and sends what it is given.

use crate::certificate::{Certificate, public};
use thiserror::Error;
use wacore::libsignal::protocol::KeyPair;
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK};
use wacore_noise::{NoiseCipher, NoiseHandshake};
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp::handshake_message::{ClientHello, ServerHello};
use waproto::whatsapp::{ClientPayload, HandshakeMessage};

/// The dictionary of tokens that this server speaks: that of every client since 2025.
const DICTIONARY: u8 = 3;

/// Why a connection ends before it began.
#[derive(Debug, Error)]
pub enum Failure {
    /// The first bytes.
    #[error("the intro is not WhatsApp's: {0}")]
    Intro(String),
    /// A message of the handshake.
    #[error("the client's {what} cannot be read: {why}")]
    Unreadable {
        /// Which.
        what: &'static str,
        /// In words.
        why: String,
    },
    /// It lacks something.
    #[error("the client's {0} is missing")]
    Missing(&'static str),
    /// The library's own.
    #[error("noise: {0}")]
    Noise(#[from] wacore_noise::HandshakeError),
}

/// How a connection was opened, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Three messages.
    Xx,
    /// Two.
    Ik,
    /// Began as IK with a key that is not this server's.
    XxFallback,
}

impl Pattern {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xx => "XX",
            Self::Ik => "IK",
            Self::XxFallback => "XXfallback",
        }
    }
}

/// A connection that is open: who it says it is, and the two ciphers.
pub struct Opened {
    /// How.
    pub pattern: Pattern,
    /// The client's key, which it has proved to have.
    pub noise_key: [u8; 32],
    /// Who it is, or that it wants to be paired.
    pub payload: ClientPayload,
    /// From client to server.
    pub read: NoiseCipher,
    /// From server to client.
    pub write: NoiseCipher,
}

/// Takes the intro off the bytes that came so far; `None` when they are too few.
pub fn intro(buffer: &mut Vec<u8>) -> Result<Option<[u8; 4]>, Failure> {
    let mut start = 0;
    if buffer.starts_with(b"ED") {
        // Where to route the connection to, which one server need not know.
        let Some(head) = buffer.get(..7) else { return Ok(None) };
        start = 7 + (usize::from(head[4]) << 16 | usize::from(head[5]) << 8 | usize::from(head[6]));
    }
    let Some(header) = buffer.get(start..start + 4) else { return Ok(None) };
    let header = [header[0], header[1], header[2], header[3]];
    if header[..3] != [b'W', b'A', 6] {
        return Err(Failure::Intro(hex::encode(header)));
    }
    if header[3] != DICTIONARY {
        return Err(Failure::Intro(format!("dictionary {} is not known here, only {DICTIONARY}", header[3])));
    }
    buffer.drain(..start + 4);
    Ok(Some(header))
}

/// What the first message leads to.
#[expect(clippy::large_enum_variant, reason = "one for each connection, and not kept")]
pub enum Step {
    /// Send this; the connection is open.
    Open(Vec<u8>, Box<Opened>),
    /// Send this; the client has one more to say.
    Reply(Vec<u8>, Waiting),
}

/// Between the two messages of a client that did not know the key.
pub struct Waiting {
    noise: NoiseHandshake,
    ephemeral: KeyPair,
    pattern: Pattern,
}

/// The client's first message.
pub fn hello(certificate: &Certificate, header: [u8; 4], frame: &[u8]) -> Result<Step, Failure> {
    let hello = message(frame, "hello")?.client_hello.into_option().ok_or(Failure::Missing("hello"))?;
    let ephemeral = key(hello.ephemeral.as_deref(), "ephemeral key")?;
    if hello.r#static.as_ref().is_some_and(|key| !key.is_empty()) {
        return match known(certificate, header, &ephemeral, &hello) {
            // What it encrypted was for another key.
            Err(Failure::Noise(_)) => unknown(certificate, header, &ephemeral, Pattern::XxFallback),
            answered => answered,
        };
    }
    unknown(certificate, header, &ephemeral, Pattern::Xx)
}

fn known(server: &Certificate, header: [u8; 4], theirs: &[u8; 32], hello: &ClientHello) -> Result<Step, Failure> {
    let private = server.key.private_key.serialize();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &header)?;
    noise.authenticate(&public(&server.key));
    noise.authenticate(theirs);
    noise.mix_shared_secret(private, theirs)?;
    let sealed = hello.r#static.as_deref().ok_or(Failure::Missing("key"))?;
    let noise_key = key(Some(&noise.decrypt(sealed)?), "key")?;
    noise.mix_shared_secret(private, &noise_key)?;
    let payload = noise.decrypt(hello.payload.as_deref().ok_or(Failure::Missing("payload"))?)?;
    let ephemeral = KeyPair::generate(&mut rand::rng());
    noise.authenticate(&public(&ephemeral));
    noise.mix_shared_secret(ephemeral.private_key.serialize(), theirs)?;
    noise.mix_shared_secret(ephemeral.private_key.serialize(), &noise_key)?;
    let chain = noise.encrypt(&server.chain)?;
    let answer = server_hello(&ephemeral, None, chain);
    Ok(Step::Open(answer, Box::new(open(noise, Pattern::Ik, noise_key, &payload)?)))
}

fn unknown(server: &Certificate, header: [u8; 4], theirs: &[u8; 32], pattern: Pattern) -> Result<Step, Failure> {
    let name = if pattern == Pattern::Xx { NOISE_PATTERN_XX } else { NOISE_PATTERN_XXFALLBACK };
    let mut noise = NoiseHandshake::new(name, &header)?;
    let ephemeral = KeyPair::generate(&mut rand::rng());
    noise.authenticate(theirs);
    noise.authenticate(&public(&ephemeral));
    noise.mix_shared_secret(ephemeral.private_key.serialize(), theirs)?;
    let sealed = noise.encrypt(&public(&server.key))?;
    noise.mix_shared_secret(server.key.private_key.serialize(), theirs)?;
    let chain = noise.encrypt(&server.chain)?;
    let answer = server_hello(&ephemeral, Some(sealed), chain);
    Ok(Step::Reply(answer, Waiting { noise, ephemeral, pattern }))
}

impl Waiting {
    /// The client's second message.
    pub fn finish(mut self, frame: &[u8]) -> Result<Opened, Failure> {
        let finish = message(frame, "finish")?.client_finish.into_option().ok_or(Failure::Missing("finish"))?;
        let sealed = finish.r#static.as_deref().ok_or(Failure::Missing("key"))?;
        let noise_key = key(Some(&self.noise.decrypt(sealed)?), "key")?;
        self.noise.mix_shared_secret(self.ephemeral.private_key.serialize(), &noise_key)?;
        let payload = self.noise.decrypt(finish.payload.as_deref().ok_or(Failure::Missing("payload"))?)?;
        open(self.noise, self.pattern, noise_key, &payload)
    }
}

fn open(noise: NoiseHandshake, pattern: Pattern, noise_key: [u8; 32], payload: &[u8]) -> Result<Opened, Failure> {
    let payload = ClientPayload::decode_from_slice(payload).map_err(|why| unreadable("payload", &why))?;
    // The library names the two as the client sees them.
    let (read, write) = noise.finish()?;
    Ok(Opened { pattern, noise_key, payload, read, write })
}

fn server_hello(ephemeral: &KeyPair, sealed: Option<Vec<u8>>, chain: Vec<u8>) -> Vec<u8> {
    let hello = ServerHello {
        ephemeral: Some(public(ephemeral).to_vec()),
        r#static: sealed,
        payload: Some(chain),
        ..ServerHello::default()
    };
    HandshakeMessage { server_hello: MessageField::some(hello), ..HandshakeMessage::default() }.encode_to_vec()
}

fn message(frame: &[u8], what: &'static str) -> Result<HandshakeMessage, Failure> {
    HandshakeMessage::decode_from_slice(frame).map_err(|why| unreadable(what, &why))
}

fn key(bytes: Option<&[u8]>, what: &'static str) -> Result<[u8; 32], Failure> {
    let bytes = bytes.ok_or(Failure::Missing(what))?;
    bytes.try_into().map_err(|_| Failure::Unreadable { what, why: format!("{} bytes", bytes.len()) })
}

fn unreadable(what: &'static str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Unreadable { what, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intro_may_say_where_to_route_and_may_come_in_pieces() {
        let whole = [b"ED\0\x01\0\0\x02xy".as_slice(), b"WA\x06\x03rest"].concat();
        for cut in 0..whole.len() - 4 {
            let mut buffer = whole[..cut].to_vec();
            assert_eq!(intro(&mut buffer).unwrap(), None, "{cut} bytes");
        }
        let mut buffer = whole;
        assert_eq!(intro(&mut buffer).unwrap(), Some(*b"WA\x06\x03"));
        assert_eq!(buffer, b"rest");
    }

    #[test]
    fn another_protocol_or_another_dictionary_is_refused() {
        assert!(intro(&mut b"GET / HTTP/1.1".to_vec()).is_err());
        assert!(intro(&mut b"WA\x06\x02".to_vec()).unwrap_err().to_string().contains("dictionary 2"));
    }

    /// A client that thinks it knows this key.
    fn client(key: [u8; 32]) -> (wacore_noise::IkHandshakeState, Vec<u8>) {
        let payload = ClientPayload { username: Some(7), ..ClientPayload::default() }.encode_to_vec();
        let own = KeyPair::generate(&mut rand::rng());
        let mut client = wacore_noise::IkHandshakeState::new(own, key, payload, b"WA\x06\x03").unwrap();
        let hello = client.build_client_hello().unwrap();
        (client, hello)
    }

    #[test]
    fn a_client_that_knows_the_key_is_in_at_once() {
        let server = Certificate::new().unwrap();
        let (client, said) = client(public(&server.key));
        let Step::Open(answer, opened) = hello(&server, *b"WA\x06\x03", &said).unwrap() else { panic!("it knew") };
        let wacore_noise::IkServerHelloOutcome::Continue(client) = client.read_server_hello(&answer).unwrap() else {
            panic!("the client sees that it knew");
        };
        assert_eq!((opened.pattern, opened.payload.username), (Pattern::Ik, Some(7)));
        let mut frame = client.write_cipher.encrypt_with_counter(0, b"to the server").unwrap();
        opened.read.decrypt_in_place_with_counter(0, &mut frame).unwrap();
        assert_eq!(frame, b"to the server");
        let mut frame = opened.write.encrypt_with_counter(0, b"to the client").unwrap();
        client.read_cipher.decrypt_in_place_with_counter(0, &mut frame).unwrap();
        assert_eq!(frame, b"to the client");
    }

    #[test]
    fn a_client_whose_key_is_out_of_date_is_told_the_new_one() {
        let server = Certificate::new().unwrap();
        let (client, said) = client(public(&KeyPair::generate(&mut rand::rng())));
        let Step::Reply(answer, waiting) = hello(&server, *b"WA\x06\x03", &said).unwrap() else { panic!("it knew") };
        assert_eq!(waiting.pattern, Pattern::XxFallback);
        let outcome = client.read_server_hello(&answer).unwrap();
        assert!(matches!(outcome, wacore_noise::IkServerHelloOutcome::Fallback(_)));
    }
}
