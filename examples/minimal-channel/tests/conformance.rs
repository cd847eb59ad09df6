omni_channel_sdk::testkit::conformance!(minimal_channel::Inbox);
