//! The integration tests, in one binary: each drives a whole host as its users do.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod architecture;
mod database;
mod echo;
mod erasure;
mod faults;
mod forwarded;
mod harness;
mod hosts;
mod isolation;
mod isolation_limits;
mod ledger;
mod moving;
mod nats;
mod nats_server;
mod neighbours;
mod operations;
mod own_echoes;
mod plugin_changes;
mod plugin_files;
mod plugin_misbehaviour;
mod plugin_trust;
mod postgres;
mod postgres_server;
mod program;
mod proxies;
mod proxy_server;
mod receiver;
mod schemathesis;
mod secrets;
mod sockets;
mod standard_webhooks;
mod telegram;
mod telegram_chats;
mod telegram_fake;
mod telegram_groups;
mod telegram_rights;
mod telegram_telemelya;
mod telegram_test_api;
mod telegram_webhook;
mod tls;
mod traces;
mod webhook_receiver;
mod webhooks;
mod webhooks_cli;
