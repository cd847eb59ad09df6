//! The tests of the conversion, over folders that Baileys itself wrote (`tests/fixtures`, all keys made up).

mod decrypts;
mod hostile;
mod many;
mod mended;
mod reports;
mod round_trip;
mod samples;
mod store;
