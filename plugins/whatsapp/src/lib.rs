//! WhatsApp Web.
