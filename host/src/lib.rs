//! The Omni host: loads channel plugins, carries their messages into one store, and serves them through one API.
//!
//! # The map
//!
//! ```text
//! run          starts the parts in the order in which they need each other
//! config data  the configuration; the data folder with its lock and key; `secrets` seals with it
//! plugins      files, admission, the three homes, sessions: the host's end of the boundary
//! instances    accounts: made, connected, supervised; how events reach their channels
//! bus          what networks were told that we have; inbound  the consumer that stores it
//! hosts        several of them on one database: who has which instance, and who does what is done once
//! store        everything that is kept, in SQLite or Postgres; all SQL
//! auth_state   logins that come over from other programs, and go; `sealed_file` keeps what came, `migrate` reads their stores
//! history      messages that networks are asked for: older ones, and those that were missed
//! outbound     messages to the networks: accept, claim, deliver, settle; echoes  our own that come back too early
//! webhooks     events to other programs; replay  once more; dead_letters  what could not be taken
//! egress       where the host may connect to on behalf of others
//! media        files; retention  takes away what would grow for ever; erasure  takes away people
//! audit        who asked what; numbers  for /metrics; traces  for OpenTelemetry; log  how much is said
//! rotation     a new key for the data folder; backup  and restore; moving  from the file into Postgres
//! doctor       looks at what a host stands on; ledger  whether all that was accepted is accounted for
//! http         /api/v2; cli  the command line, a client of it
//! fuzzing      what strangers send, and what holds whatever they send; for tests and for fuzzers only
//! ```
//!
//! A message comes in: `instances::ingress` (what arrived) → the channel's `on_events` → `plugins::session` (the commit
//! at the end of the call) → `bus::accept` (durable, de-duplicated; now the network is told) → `inbound` →
//! `store::apply` (one transaction: identity, chat, message, domain event, position).
//!
//! A message goes out: `http::send` → `outbound::accept` (limits, split, message and outbox row in one transaction) →
//! `outbound::deliver` (claimed, one at a time per chat) → the channel's `send` → `store::outbox::settle`.
//!
//! What happened goes to other programs: `store::events` → `webhooks::runner` (its place, its queue) → `webhooks::attempt`
//! (signed, through `egress`) → settled, tried again, or in the dead letters; `http::stream` reads the same events live.
//!
//! Which crate may be used where is held by the test `architecture`: `sqlx` in `store` and `migrate`, `axum` and `hyper` in
//! `http`, `libloading` and `abi_stable` in `plugins::native`, `wasmtime` in `plugins::wasm`, `landlock` in
//! `plugins::sandbox`, `async_nats` in `bus::nats`, `clap` in `cli`.
//!
//! # Invariants
//!
//! What no change may break, and the test that holds it (`it::` is `tests/it`, `store::` is `src/store/tests`).
//!
//! - **I1** What was acknowledged is stored exactly once: `it::faults` (kills, power cuts, every commit boundary, a full
//!   disk, a disk that fails to sync, a database server that is killed, cut off or stands still, a NATS server that is killed,
//!   emptied, robbed of its stream or its power or stands still, a cluster that loses its leader, all of them at once,
//!   connections that break after any byte, a clock that jumps, streams that come repeated, shuffled, late and poisoned),
//!   `it::moving` and `moving::tests` (an installation that moves), `store::recovery`, `store::every_bus`, `it::nats`,
//!   `store::ledger` and `it::ledger` (what is missing is told), `it::hosts`,
//!   `it::echo::everything_is_there_after_a_restart_and_goes_on`,
//!   `it::telegram_webhook::switching_between_the_modes_loses_and_repeats_nothing`,
//!   `it::history` (what was missed, and what is older, whoever tells it how often).
//! - **I2** Events of one chat are applied, and messages to one chat are delivered, in the order in which they were
//!   accepted: `it::faults`, `it::telegram::a_429_is_obeyed_and_the_order_of_the_chat_is_kept`.
//! - **I3** Nothing is stored that did not happen, nothing is sent twice without being asked twice:
//!   `it::telegram::a_send_with_an_unknown_outcome_is_not_repeated`,
//!   `it::faults::points::a_message_out_is_sent_once_whatever_fails_at_a_commit`, `it::own_echoes`, `store::outbox`,
//!   `store::semantics`, `store::ahead`.
//! - **I4** A consumer's effect happens once per event, or is recorded as failed with all that is needed to do it again:
//!   `store::recovery`, `store::every_bus`, `it::webhooks`, `http::tests::letters`.
//! - **I5** A bad plugin, message, peer or a slow one harms nobody but itself: `it::isolation`, `it::isolation_limits`,
//!   `it::neighbours`, `it::plugin_files`, `it::plugin_misbehaviour`, `plugins::wasm::tests`, `it::forwarded`, `it::sockets`, `it::webhooks`,
//!   `egress::tests`, `http::tests::serving`, `fuzzing::tests`, `bus::nats::peers::tests`.
//! - **I6** A refused request, file or row says what was wrong and where, and leaves no trace of half the work:
//!   `it::plugin_files`, `http::tests`, `store::bus`, `store::every_bus`, `it::schemathesis`,
//!   `it::operations::a_damaged_backup_is_refused_and_leaves_everything_as_it_was`, `it::auth_migration`.
//! - **I7** Secrets are never in a log, an error, an event or an API answer, and are encrypted at rest: `it::secrets`,
//!   `it::proxies`, `secrets::tests`, `sealed_file::tests`, `rotation::tests`, `http::tests::audit`, `it::auth_migration`, the
//!   conformance kit's rule `secrets`.
//! - **I8** At most one host believes that it has an instance: it has ended before another one takes it, and whatever it
//!   writes later is refused: `it::hosts`, `store::hosts`. Without NATS one host uses a database: `store::schema`,
//!   `it::postgres`.
//! - **I9** Old plugins load on new hosts within the promised range; what does not fit is refused before it runs:
//!   `it::plugin_files`, `it::plugin_trust`, `it::plugin_changes`, the SDK's golden files.
//! - **I10** Of somebody who was erased nothing is found, and nothing that their network says again brings it back:
//!   `store::erasures`, `it::erasure`.

pub mod audit;
pub mod auth_state;
pub mod backup;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data;
pub mod dead_letters;
pub mod doctor;
pub mod echoes;
pub mod egress;
pub mod erasure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod history;
pub mod hosts;
pub mod http;
pub mod inbound;
pub mod instances;
pub mod ledger;
pub mod log;
pub mod media;
pub mod migrate;
pub mod moving;
pub mod numbers;
pub mod outbound;
pub mod plugins;
pub mod replay;
pub mod retention;
pub mod rotation;
pub mod run;
pub mod sealed_file;
pub mod secrets;
pub mod store;
pub mod traces;
pub mod webhooks;

/// What every part of the host is given: a handful of cheap handles. Functions below the handlers take the part they use.
#[derive(Clone, Debug)]
pub struct Host {
    /// Time.
    pub clock: clock::Clock,
    /// The database.
    pub store: store::Store,
    /// What networks were told that we have.
    pub bus: bus::Bus,
    /// How far the storage consumer is.
    pub inbound: inbound::Inbound,
    /// Plugin files.
    pub plugins: plugins::Plugins,
    /// Instances.
    pub instances: instances::Instances,
    /// Messages to the networks.
    pub outbound: outbound::Outbound,
    /// Files.
    pub media: media::MediaStore,
    /// Events to other programs.
    pub webhooks: webhooks::Webhooks,
    /// Events that are read once more.
    pub replays: replay::Replays,
    /// Events that could not be taken.
    pub dead_letters: dead_letters::DeadLetters,
    /// People who are erased.
    pub erasures: erasure::Erasures,
    /// Older messages, and those that were missed.
    pub history: history::History,
    /// Logins that come over from other programs, and go.
    pub auth_state: auth_state::AuthState,
    /// Other hosts, and what each of them has.
    pub hosts: hosts::Hosts,
}
