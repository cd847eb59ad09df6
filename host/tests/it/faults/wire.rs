//! A wire to a server that breaks: connections end after some bytes, in one direction or the other, anywhere in what is said.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// The most bytes after which it breaks are 2 to the power of this. Few are as likely as many, so that connections break
/// while they are made, in their first words, and late.
const BITS: u32 = 13;

/// Where a wire leads.
#[derive(Clone, Debug)]
pub enum To {
    /// A port of this machine.
    Port(u16),
    /// A socket.
    Socket(PathBuf),
}

/// A wire, which ends with the test's runtime.
#[derive(Debug)]
pub struct Wire {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    random: Mutex<StdRng>,
    /// How often it was worn.
    worn: AtomicUsize,
    /// How many connections it has broken.
    cuts: AtomicUsize,
}

impl Wire {
    /// One that does not break yet, and later where the seed says.
    pub async fn start(to: To, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let state = Arc::new(State { random, worn: AtomicUsize::new(0), cuts: AtomicUsize::new(0) });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (to, state) = (to.clone(), Arc::clone(&shared));
                tokio::spawn(async move { connect(here, to, &state).await });
            }
        });
        Self { port, state }
    }

    /// Half of the connections that there are break soon, and so does half of those that take their place.
    pub fn wear(&self) {
        self.state.worn.fetch_add(1, Ordering::AcqRel);
    }

    /// How many connections it has broken.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::Acquire)
    }
}

/// In which direction a connection breaks, and after how many more bytes.
#[derive(Clone, Copy, Debug)]
struct Breaks {
    outward: bool,
    after: usize,
}

/// A connection.
struct Connection<'a> {
    state: &'a State,
    /// How it breaks, and how often the wire had been worn when that was drawn.
    breaks: Mutex<(usize, Option<Breaks>)>,
}

impl Connection<'_> {
    /// How many of these bytes get through, and whether it breaks then.
    fn lets_through(&self, bytes: usize, outward: bool) -> (usize, bool) {
        let mut breaks = self.breaks.lock().unwrap();
        let worn = self.state.worn.load(Ordering::Acquire);
        if breaks.0 != worn {
            let mut random = self.state.random.lock().unwrap();
            let after = 2 << random.random_range(0..BITS);
            let drawn = Breaks { outward: random.random(), after: random.random_range(0..after) };
            *breaks = (worn, random.random::<bool>().then_some(drawn));
        }
        match &mut breaks.1 {
            Some(breaks) if breaks.outward == outward && breaks.after <= bytes => (breaks.after, true),
            Some(breaks) if breaks.outward == outward => {
                breaks.after -= bytes;
                (bytes, false)
            }
            _ => (bytes, false),
        }
    }

    /// Carries bytes in one direction until an end hangs up; says whether it broke before.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, outward: bool) -> bool {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let Ok(read @ 1..) = from.read(&mut bytes).await else { return false };
            let (through, broke) = self.lets_through(read, outward);
            if to.write_all(&bytes[..through]).await.is_err() {
                return false;
            }
            if broke {
                return true;
            }
        }
    }
}

async fn connect(here: TcpStream, to: To, state: &State) {
    // A server that is away answers nobody: whoever connects sees that at once.
    match to {
        To::Port(port) => {
            let Ok(there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            both_ways(here, there, state).await;
        }
        To::Socket(path) => {
            let Ok(there) = UnixStream::connect(path).await else { return };
            both_ways(here, there, state).await;
        }
    }
}

async fn both_ways(here: TcpStream, there: impl AsyncRead + AsyncWrite, state: &State) {
    let connection = Connection { state, breaks: Mutex::default() };
    let (from_here, to_here) = here.into_split();
    let (from_there, to_there) = tokio::io::split(there);
    let broke = tokio::select! {
        broke = connection.carry(from_here, to_there, true) => broke,
        broke = connection.carry(from_there, to_here, false) => broke,
    };
    if broke {
        state.cuts.fetch_add(1, Ordering::AcqRel);
    }
}
