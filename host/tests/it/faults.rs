//! What was acknowledged is stored, once, in order, whatever happens to the process, the disk or the database.
//!
//! Every test puts load on the real program, breaks it somewhere, starts it again, and compares what a client was told
//! with what is stored: lost, repeated, reordered and invented messages are counted, printed with the seed, and none is
//! allowed. Each runs a few rounds by default; `OMNI_FAULT_ROUNDS=500` makes it the long form, and `OMNI_FAULT_SEED`
//! repeats one.

pub mod disk;
mod kills;
pub mod load;
mod nats;
pub mod points;
mod power;
pub mod program;
mod server;
mod shuffle;
pub mod verdict;
mod wire;

/// How many rounds a test is to run, when nobody says otherwise.
pub fn rounds(usual: usize) -> usize {
    variable("OMNI_FAULT_ROUNDS").unwrap_or(usual)
}

/// Where randomness begins: said, or anywhere, and printed.
pub fn seed() -> u64 {
    variable("OMNI_FAULT_SEED").unwrap_or_else(rand::random)
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let found = std::env::vars().find(|(key, _)| key == name)?.1;
    Some(found.parse().unwrap_or_else(|_| panic!("{name}={found} is not a number")))
}
