//! The rules of the suite that hold without a network. What the channel does on one is proved end to end, against a server and
//! people who use Baileys: a channel with a library of its own asks nothing that a transcript could answer.

use omni_channel_sdk::testkit::assert_rule;
use omni_channel_whatsapp::WhatsApp;

fn holds(rule: &str) {
    assert_rule::<WhatsApp>(rule, env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn the_manifest_is_sane() {
    holds("manifest");
}

#[test]
fn the_transcripts_pass() {
    holds("transcripts");
}

#[test]
fn what_is_not_declared_is_unsupported() {
    holds("undeclared_requests");
    holds("unknown_requests");
}

#[test]
fn everything_is_of_a_sane_size() {
    holds("sizes");
    holds("times");
}

#[test]
fn an_instance_stops_cleanly() {
    holds("stop");
}
