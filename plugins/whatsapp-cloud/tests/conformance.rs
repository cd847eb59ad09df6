//! The suite that every channel passes.

omni_channel_sdk::testkit::conformance!(omni_channel_whatsapp_cloud::Cloud);
